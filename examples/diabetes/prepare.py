"""
Fit the model and write the requests of the example.

The model is a ridge regression on scikit-learn's diabetes data; each of its 442
rows becomes a request. Four more are what a service meets in practice: one of
300 KB, one in Japanese with emoji, and two that fail.
"""

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

LARGE = 300 * 1024  # bytes


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data, target = load_diabetes(return_X_y=True)
    joblib.dump(Ridge(alpha=0.1).fit(data, target), folder / "ridge.joblib")
    rows = data.round(6).tolist()
    large = {"data": []}
    size = 0
    while size < LARGE:
        row = rows[len(large["data"]) % len(rows)]
        large["data"].append(row)
        size += len(json.dumps(row)) + 2
    requests = [{"data": [row]} for row in rows]
    requests[100:100] = [large]
    requests[200:200] = [{"data": [rows[7]], "patient": "山田さん 👩‍⚕️", "note": "空腹時血糖値は正常です 🙂"}]
    requests[300:300] = [{"data": [rows[8][:3]]}]  # three features where the model wants ten
    requests[400:400] = [{"rows": [rows[9]]}]  # a key that run() does not know
    lines = [json.dumps(request, ensure_ascii=False) for request in requests]
    (folder / "requests.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
