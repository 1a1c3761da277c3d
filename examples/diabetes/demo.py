"""
The main job of scoretrace, from a scoring script to rows: what `make demo` shows.

It fits the model, scores the requests with the unchanged score.py, and asks the
journal on this machine what Application Insights would be asked in Azure.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import prepare

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".scoretrace" / "demo"
HOME = FOLDER / "home"


def scoretrace(*arguments, **more):
    return subprocess.run([sys.executable, "-m", "scoretrace", *arguments], check=True, **more)


def title(text, command):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")
    print(f"  $ {command}", flush=True)


def show(text, query):
    quoted = f"'{query}'" if " " in query else query
    title(text, f"scoretrace query {quoted}")
    scoretrace("query", query, "--from", str(HOME), "--format", "table")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    prepare.main(FOLDER)

    title("Score 446 requests with examples/diabetes/score.py", "scoretrace run score.py requests.ndjson")
    with (FOLDER / "stdout.txt").open("w", encoding="utf-8") as stdout:
        scoretrace(
            *("run", str(HERE / "score.py"), str(FOLDER / "requests.ndjson")),
            *("--home", str(HOME), "--service", "diabetes"),
            stdout=stdout,
            env={**os.environ, "AZUREML_MODEL_DIR": str(FOLDER)},
        )

    show("The requests", "requests-by-result")
    show("The slowest of them", "slowest-requests")
    show('What was printed with "input" in it', 'traces | where customDimensions contains "input" | limit 10')
    show("What failed, and why", "failures")
    show("What was too large for Application Insights", "diverted-payloads")

    title("What went into the model and what came out, as CSV on disk", "scoretrace model-data read --limit 3")
    scoretrace("model-data", "read", "--limit", "3", "--from", str(HOME), "--format", "table")
    joined = (
        'requests | join kind=inner (modelData | where designation == "predictions") on operation_Id '
        "| summarize requests = dcount(id), rows = count(), highest = max(todouble(data.progression)) by name"
    )
    show("The same, joined to the requests", joined)

    listed = scoretrace("query", "diverted-payloads", "--from", str(HOME), capture_output=True, text=True)
    row = json.loads(listed.stdout.splitlines()[0])
    title("The original of the largest, byte for byte", f"scoretrace payload {row['itemId']}")
    original = scoretrace("payload", row["itemId"], "--from", str(HOME), capture_output=True).stdout
    text = original.decode()
    rows = len(json.loads(text)["input"]["data"])
    printed = text in (FOLDER / "stdout.txt").read_text(encoding="utf-8").splitlines()
    print(f"  {text[:100]} ...\n  ... {text[-100:]}")
    print(f"  {len(original):,} bytes of valid JSON with {rows:,} rows, SHA-256 {hashlib.sha256(original).hexdigest()}")
    print(f"  the same as the script printed: {printed}")
    print(f"\nLook further: {Path(sys.executable).parent / 'scoretrace'} tail --from {HOME}")
    return 0 if printed else 1


if __name__ == "__main__":
    sys.exit(main())
