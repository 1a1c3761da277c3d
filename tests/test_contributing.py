"""What CONTRIBUTING.md says of adding something is enough: each is added to a copy of the project, and used there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


class Copy:
    """A copy of the project in *folder*."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("src", "kusto", "docs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "tests").mkdir()
        shutil.copy(ROOT / "tests" / "test_public_face.py", folder / "tests")

    def write(self, name, text):
        """A new file, in a folder that CONTRIBUTING.md names."""
        path = self.folder / name
        assert not path.exists()
        assert f"{name.rpartition('/')[0]}/<name>" in CONTRIBUTING
        path.write_text(text.lstrip("\n"), encoding="utf-8")

    def change(self, name, before, after):
        """A row in a file that is there, and that CONTRIBUTING.md names."""
        assert Path(name).name in CONTRIBUTING
        path = self.folder / ("" if name.startswith("tests/") else "src/scoretrace") / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, before
        path.write_text(text.replace(before, after), encoding="utf-8")

    def run(self, *words):
        """What a command of the copy says."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src")}
        ended = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, encoding="utf-8"
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(name="copy")
def _copy(tmp_path):
    return Copy(tmp_path / "copy")


def test_a_query_is_a_file(copy):
    """Listed with its question, and run with another value for its let."""
    copy.write(
        "kusto/answers.kql",
        """
// How many answers of a kind are there?
let code = '200';
requests
| where resultCode == code
| summarize answers = sum(itemCount)
""",
    )
    copy.run("-c", "import scoretrace; scoretrace.configure(); scoretrace.request(lambda: None)()")

    listed = copy.run("-m", "scoretrace", "queries").splitlines()
    assert ["answers", "How many answers of a kind are there?"] in [line.split(maxsplit=1) for line in listed]
    assert json.loads(copy.run("-m", "scoretrace", "query", "answers")) == {"answers": 1}
    assert json.loads(copy.run("-m", "scoretrace", "query", "answers", "--set", "code=500")) == {"answers": 0}


def test_a_setting_is_a_row_and_a_field(copy):
    """An argument, a name of the environment, a line of doctor and a row of the page of settings."""
    copy.change("settings.py", "    disabled: bool\n", "    disabled: bool\n    team: str\n")
    copy.change(
        "settings.py",
        '    Setting("disabled", ("OTEL_SDK_DISABLED",)',
        '    Setting("team", ("SCORETRACE_TEAM",), "nobody", setting_values.name, "who is asked"),\n'
        '    Setting("disabled", ("OTEL_SDK_DISABLED",)',
    )

    assert copy.run("-c", "import scoretrace; print(scoretrace.configure(team='us').settings.team)") == "us\n"
    code = "import os; os.environ['SCORETRACE_TEAM'] = 'env'; import scoretrace; print(scoretrace.configure().settings)"
    assert "team='env'" in copy.run("-c", code)
    assert "team" in copy.run("-c", "import scoretrace; print([finding.text for finding in scoretrace.doctor()])")
    copy.run("docs/build.py")
    row = "| `team` | `SCORETRACE_TEAM` | `nobody` | who is asked |"
    assert row in (copy.folder / "docs" / "settings.md").read_text(encoding="utf-8")


def test_an_exporter_is_a_module_and_a_name(copy):
    """It gets every item, what it refuses is set aside, and the cursor is kept for it."""
    copy.write(
        "src/scoretrace/exporters/drawer.py",
        r"""
from scoretrace.exporters.replies import Refusal, Reply


def connect(target, *, credential=None):
    def send(envelopes, timeout):
        with open("drawer.ndjson", "ab") as file:
            file.writelines(envelope + b"\n" for envelope in envelopes)
        return Reply(refused={at: Refusal(400, "no") for at, one in enumerate(envelopes) if b"refuse me" in one})

    return send
""",
    )
    copy.change("setting_values.py", '"opencensus")  # to an', '"opencensus", "drawer")  # to an')
    code = """
import logging, scoretrace
key = "InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=http://127.0.0.1:9/"
with scoretrace.configure(exporter="drawer", connection_string=key, capture_print=False) as telemetry:
    logging.getLogger("score").info("one")
    logging.getLogger("score").info("refuse me")
    assert telemetry.flush()
    print(telemetry.stats()["delivered"], telemetry.stats()["given_up"])
"""
    assert copy.run("-c", code) == "1 {'refused': 1}\n"
    sent = [json.loads(line) for line in (copy.folder / "drawer.ndjson").read_bytes().splitlines()]
    assert [envelope["data"]["baseData"]["message"] for envelope in sent] == ["one", "refuse me"]


def test_a_format_is_a_function_and_two_rows(copy):
    """Items, tables, queries and the quarantine read it."""
    copy.write(
        "src/scoretrace/formats/tabbed.py",
        r"""
from scoretrace import ticks
from scoretrace.errors import FormatError
from scoretrace.item import Trace


def decode(line, app_name, i_key):
    try:
        time, message = line.decode().rstrip("\n").split("\t")
        return (Trace(timestamp=ticks.from_iso(time), message=message, item_id=f"{time}-{message}"),)
    except ValueError as error:
        raise FormatError(str(error)) from error
""",
    )
    copy.change(
        "formats/decoders.py", "import continuous_export, diagnostics", "import continuous_export, diagnostics, tabbed"
    )
    copy.change(
        "formats/decoders.py", "    layouts.CONTINUOUS: ", '    "tabbed": tabbed.decode,\n    layouts.CONTINUOUS: '
    )
    pattern = r"re.compile(r'.*/tabbed/(?P<table>\w+)/(?P<year>\d{4})/[^/]*\.jsonl')"
    copy.change("layouts.py", "FURTHER: dict[str, re.Pattern[str]] = {}", f"FURTHER = {{'tabbed': {pattern}}}")
    folder = copy.folder / "archive" / "tabbed" / "traces" / "2026"
    folder.mkdir(parents=True)
    torn = ["no row of it", '{"t":1,"message":[{"raw":"a row of another format"}]}']
    lines = ["2026-11-20T06:00:00Z\tone", *torn, "2026-11-20T07:00:00Z\ttwo"]
    (folder / "a.jsonl").write_text("".join(f"{line}\n" for line in lines))
    code = """
import scoretrace
with scoretrace.read_export("archive", quarantine="aside") as export:
    print([item.message for item in export])
    print(export.relation("traces").project("message").fetchall())
    print(export.examine("traces").set_aside)
print(scoretrace.query("traces | order by timestamp desc | project message", source="archive").rows)
"""
    assert copy.run("-c", code).splitlines() == [
        "['one', 'two']",
        "[('one',), ('two',)]",
        "2",
        "[('two',), ('one',)]",
    ]
    copy.change("tests/test_public_face.py", '"formats.diagnostics",', '"formats.diagnostics", "formats.tabbed",')
    copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_public_face.py", "-k", "one_direction")
