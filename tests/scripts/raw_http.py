# The whole request in, a whole response out.
import json

from azureml.contrib.services.aml_request import AMLRequest, rawhttp  # noqa: F401
from azureml.contrib.services.aml_response import AMLResponse


def init():
    print("raw")


@rawhttp
def run(request):
    print("This is run()", request.method)
    if request.method != "POST":
        return AMLResponse("bad request", 405)
    rows = json.loads(request.get_data())["data"]
    return AMLResponse(json.dumps([sum(row) for row in rows]), 201, {"X-Rows": str(len(rows))})
