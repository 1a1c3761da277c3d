# The request's ids, from its headers.
import json


def init():
    pass


def run(data, request_headers):
    rows = json.loads(data)["data"]
    print(
        json.dumps(
            {
                "RequestId": request_headers.get("X-Ms-Request-Id", ""),
                "TraceParent": request_headers.get("Traceparent", ""),
                "NumberOfPredictions": len(rows),
            }
        )
    )
    return {"result": [sum(row) for row in rows]}
