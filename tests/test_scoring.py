"""A scoring script runs as the server would run it."""

import json

import pytest

import scoretrace
from scoretrace import ScriptError

SCRIPT = """
import json, logging
calls = []

def init():
    print("init")

def run(raw_data):
    calls.append(raw_data)
    data = json.loads(raw_data)["data"]
    logging.getLogger("score").info("scoring %d", len(data))
    return [sum(row) for row in data]
"""


@pytest.fixture(name="script")
def _script(tmp_path):
    def script(text=SCRIPT):
        path = tmp_path / "my_score.py"
        path.write_text(text, encoding="utf-8")
        return path

    return script


def test_each_line_is_a_request(telemetry, script, items):
    """Init once, run for each line, and everything inside carries the operation."""
    outcomes = scoretrace.score(script(), [b'{"data": [[1, 2]]}\n', b"\n", b'{"data": [[3], [4]]}'])

    assert [(outcome.line, outcome.response) for outcome in outcomes] == [(1, "[3]"), (3, "[3,4]")]
    requests = items("request")
    assert [(item.name, item.result_code) for item in requests] == [("run", "200")] * 2
    logged = [item for item in items("trace") if item.message.startswith("scoring")]
    assert [item.operation_id for item in logged] == [item.operation_id for item in requests]
    assert items("trace")[0].custom_dimensions["Contents"] == "init"


def test_a_line_that_is_not_json_is_named_and_the_rest_scored(telemetry, script, items):
    """By its number; it is no request."""
    outcomes = scoretrace.score(script(), [b'{"data": []}', b"{not json", b"\xff\xfe", b'{"data": []}'])

    assert [(outcome.line, outcome.is_request) for outcome in outcomes] == [
        (1, True),
        (2, False),
        (3, False),
        (4, True),
    ]
    assert outcomes[1].error.startswith("not JSON: ")
    assert len(items("request")) == 2


def test_a_run_that_raises_is_a_failed_request(telemetry, script, items):
    """The next line is scored all the same."""
    outcomes = scoretrace.score(script(), [b'{"rows": []}', b'{"data": []}'])

    assert outcomes[0].error.startswith("KeyError: 'data' (")
    assert "my_score.py:" in outcomes[0].error
    assert outcomes[1].error == ""
    assert [item.result_code for item in items("request")] == ["500", "200"]
    assert len(items("exception")) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "has no function run"),
        ("run = 3", "has no function run"),
        ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError"),
        ("def run(:", "cannot be imported: SyntaxError"),
        ("def init(): raise OSError('no model')\ndef run(data): pass", r"init\(\) of .* failed: OSError: no model"),
    ],
)
def test_a_script_that_cannot_run_says_why(telemetry, script, text, said):
    """Before any line is scored."""
    with pytest.raises(ScriptError, match=said):
        scoretrace.score(script(text), [b"{}"])


def test_a_failing_init_is_a_row(telemetry, script, items):
    """What kept the service from starting is recorded, as critical."""
    with pytest.raises(ScriptError):
        scoretrace.score(script("def init(): raise OSError('no model')\ndef run(data): pass"), [b"{}"])

    (item,) = items("exception")
    assert (item.type, item.details[0].message, item.severity_level) == ("OSError", "no model", 4)


def test_a_run_that_exits_is_a_failed_request(telemetry, script, items):
    """sys.exit in a request does not end the others."""
    outcomes = scoretrace.score(script("import sys\ndef run(data): sys.exit(7)"), [b"{}", b"{}"])

    assert [outcome.error.startswith("SystemExit: 7") for outcome in outcomes] == [True, True]
    assert [item.result_code for item in items("request")] == ["500", "500"]


def test_a_script_with_scoretrace_in_it_is_not_counted_twice(telemetry, script, home, items):
    """It may configure and decorate by itself."""
    text = f"""
import scoretrace
scoretrace.configure(home={str(home)!r}, service="its own")

@scoretrace.request
def run(data):
    print(data)
    return 1
"""
    scoretrace.score(script(text), [b"{}", b"{}"])

    assert len(items("request")) == 2
    assert [item.custom_dimensions for item in items("trace")] == [{"Contents": "{}"}] * 2


def test_a_script_or_requests_that_are_not_there(telemetry, script, tmp_path):
    """By their path."""
    with pytest.raises(ScriptError, match="no script"):
        scoretrace.score(tmp_path / "nowhere.py", [b"{}"])
    with pytest.raises(ScriptError, match="requests cannot be read"):
        scoretrace.score(script(), tmp_path / "nowhere.ndjson")


def test_scripts_of_other_forms(telemetry, script, items):
    """request_headers, async, streaming, a module beside the script, a response object."""
    folder = script().parent
    (folder / "beside_the_script.py").write_text("FACTOR = 2")
    forms = {
        "def run(data, request_headers): return request_headers": "{}",
        "async def run(data): return data": '"{}"',
        "def run(data):\n    yield 1\n    yield 2": "[1,2]",
        "from beside_the_script import FACTOR\ndef run(data): return FACTOR": "2",
        "def run(data): return ({'error': 'no'}, 404)": '[{"error":"no"},404]',
        "import numpy\ndef run(data): return numpy.array([1.5])": "[1.5]",
    }
    for text, response in forms.items():
        assert [outcome.response for outcome in scoretrace.score(script(text), [b"{}"])] == [response]

    assert [item.result_code for item in items("request")] == ["200", "200", "200", "200", "404", "200"]


def test_requests_may_be_a_file(telemetry, script, tmp_path):
    """With a BOM, and with Windows line ends."""
    requests = tmp_path / "requests.ndjson"
    requests.write_bytes(b'\xef\xbb\xbf{"data": [[1]]}\r\n{"data": [[2]]}\r\n')

    assert [json.loads(outcome.response) for outcome in scoretrace.score(script(), requests)] == [[1], [2]]
