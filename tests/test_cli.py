"""The command line, as a person and as a script use it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import scoretrace
from scoretrace import read
from scoretrace.cli import cli

SCRIPT = 'import json\ndef init(): print("init")\ndef run(data):\n    print(data)\n    return json.loads(data)["x"]\n'


@pytest.fixture(name="cli")
def _cli():
    return lambda *arguments, **more: CliRunner().invoke(cli, [str(argument) for argument in arguments], **more)


@pytest.fixture(name="written")
def _written(telemetry, items):
    """Three rows: a print, a large print, a failed request."""
    print("hello")
    print('{"input": ' + str(list(range(5_000))) + "}")
    with pytest.raises(ValueError, match="bad"), scoretrace.request_context("score"):
        raise ValueError("bad")
    telemetry.flush()
    return items


def test_run_scores_a_file(cli, tmp_path, home):
    """Responses to a file, a summary on stderr, and the rows can be queried."""
    script, requests, responses = tmp_path / "score.py", tmp_path / "requests.ndjson", tmp_path / "responses.ndjson"
    script.write_text(SCRIPT)
    requests.write_text('{"x": 1}\n{"y": 2}\n')

    result = cli("run", script, requests, "--output", responses, "--service", "svc")

    assert result.exit_code == 0
    assert "2 requests, 1 failed" in result.stderr
    assert f"{requests}:2: KeyError: 'x' ({script}:5)" in result.stderr
    first, second = responses.read_text().splitlines()
    assert first == "1"
    assert json.loads(second)["error"].startswith("KeyError: 'x'")
    assert cli("run", script, requests, "--strict").exit_code == 1
    assert len(scoretrace.query("requests", source=home)) == 4  # of both runs


def test_run_names_a_line_that_is_not_json(cli, tmp_path):
    """Exit code 1, and the rest is scored."""
    script, requests = tmp_path / "score.py", tmp_path / "requests.ndjson"
    script.write_text(SCRIPT)
    requests.write_text('{"x": 1}\nnot json\n{"x": 3}\n')

    result = cli("run", script, requests)

    assert result.exit_code == 1
    assert f"{requests}:2: not JSON" in result.stderr
    assert "2 requests, 0 failed, 1 line not JSON" in result.stderr


def test_run_without_a_run(cli, tmp_path):
    """One line that says what is missing, no traceback."""
    script, requests = tmp_path / "score.py", tmp_path / "requests.ndjson"
    script.write_text("x = 1")
    requests.write_text("{}")

    result = cli("run", script, requests)

    assert result.exit_code == 1
    assert "has no function run()" in result.stderr
    assert "Traceback" not in result.stderr


def test_run_shows_where_init_failed(cli, tmp_path):
    """The script's own traceback, and one line that says what it was in."""
    script, requests = tmp_path / "score.py", tmp_path / "requests.ndjson"
    script.write_text("def init():\n    raise ValueError('no model')\ndef run(data): pass\n")
    requests.write_text("{}")

    result = cli("run", script, requests)

    assert result.exit_code == 1
    assert f'File "{script}", line 2, in init' in result.stderr
    assert result.stderr.splitlines()[-1].endswith("failed: ValueError: no model")


def test_run_reads_stdin(cli, tmp_path):
    """With - for the file."""
    script = tmp_path / "score.py"
    script.write_text(SCRIPT)

    assert "1 request, 0 failed" in cli("run", script, "-", input='{"x": 1}\n').stderr


def test_query_writes_ndjson_into_a_pipe(cli, written):
    """One JSON object a row, dynamic values as JSON."""
    result = cli("query", "requests | project name, success, customDimensions")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"name": "score", "success": "False", "customDimensions": None}
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("json", '[{"name":"score","n":1}]\n'),
        ("ndjson", '{"name":"score","n":1}\n'),
        ("csv", "name,n\nscore,1\n"),
    ],
)
def test_query_formats(cli, written, tmp_path, form, expected):
    """To stdout and to a file, the same."""
    text = "requests | summarize n = count() by name"
    file = tmp_path / "out"

    assert cli("query", text, "--format", form).stdout_bytes.decode() == expected
    assert cli("query", text, "--format", form, "--output", file).exit_code == 0
    assert file.read_bytes().decode() == expected
    named = tmp_path / f"out.{form}"
    assert cli("query", text, "--output", named).exit_code == 0
    assert named.read_bytes().decode() == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_full_disk_is_named(telemetry, home):
    """Scoretrace query ... > a file on a full disk."""
    print("m")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "scoretrace", "query", "traces", "--from", str(home)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def on_terminal(*arguments, stdout=None):
    """Run the command with stderr, and stdout if it is not given, on a pseudo terminal; returns what it shows."""
    import pty

    ours, theirs = pty.openpty()
    shown = []

    def read():  # all the while: a terminal that nobody reads blocks whoever writes to it
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65_536):
                shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    try:
        subprocess.run(
            [sys.executable, "-m", "scoretrace", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env={**environment, "TERM": "xterm"},
            check=True,
            timeout=60,
        )
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return b"".join(shown).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo terminal is POSIX")
def test_the_progress_bar_leaves_stdout_alone(tmp_path, home):
    """With stderr on a terminal and stdout in a file, what the script prints is in the file."""
    script, requests = tmp_path / "score.py", tmp_path / "requests.ndjson"
    script.write_text(SCRIPT)
    requests.write_text('{"x": 1}\n')
    with open(tmp_path / "out", "wb") as out:
        shown = on_terminal("run", script, requests, "--home", home, stdout=out)

    assert (tmp_path / "out").read_text() == 'init\n{"x": 1}\n'
    assert "1 request, 0 failed" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo terminal is POSIX")
def test_on_one_terminal_everything_is_shown_and_recorded(tmp_path, home):
    """Prints and writes of the script above the bar, each of them a row."""
    script, requests = tmp_path / "score.py", tmp_path / "requests.ndjson"
    script.write_text("import sys\ndef run(data):\n    print('printed', data)\n    sys.stdout.write('written\\n')\n")
    requests.write_text("1\n2\n")

    shown = on_terminal("run", script, requests, "--home", home)

    assert all(text in shown for text in ("printed 1", "printed 2", "written", "2 requests, 0 failed"))
    rows = scoretrace.query("traces | project tostring(customDimensions.Contents)", source=home).rows
    assert rows == [("printed 1",), ("written",), ("printed 2",), ("written",)]


def test_tail_names_what_it_cannot_read(cli, written, home):
    """And shows the rest."""
    file = next(home.glob("telemetry/*/Messages/*/*/*.blob"))
    with file.open("ab") as blob:
        blob.write(b"no row\n")

    result = cli("tail")

    assert "hello" in result.stdout
    assert f"{file}: a line cannot be read" in result.stderr


def test_query_as_a_table_and_as_parquet(cli, written, tmp_path):
    """The table names what it leaves out; Parquet needs a file."""
    result = cli("query", "traces", "--format", "table")
    assert "hello" in result.stdout
    assert "empty columns not shown" in result.stderr
    assert cli("query", "traces", "--format", "parquet").exit_code == 2
    assert cli("query", "traces", "--format", "parquet", "--output", tmp_path / "x.parquet").exit_code == 0
    assert (tmp_path / "x.parquet").read_bytes()[:4] == b"PAR1"


def test_query_parameters_and_time_span(cli, written):
    """--set replaces a let, --since is applied to every table."""
    assert len(cli("query", "failures").stdout.splitlines()) == 1
    assert cli("query", "failures", "--set", "since=0s").stdout == ""
    assert cli("query", "traces", "--since", "0s").stdout == ""
    assert len(cli("query", "traces", "--since", "1h").stdout.splitlines()) == 2
    assert cli("query", "-", input="traces | count").stdout == '{"Count":2}\n'


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["query", "traces | where mesage == 1"],
            3,
            "line 1, column 16: there is no column mesage: did you mean message?",
        ),
        (["query", "failurs"], 3, "did you mean failures?"),
        (["query", "traces", "--from", "/nowhere"], 4, "there is no /nowhere"),
        (["query", "failures", "--set", "since"], 2, "NAME=VALUE"),
        (["query", "failures", "--set", "source=1"], 2, "cannot be set"),
        (["query", "failures", "--set", "text=1"], 3, "no parameter text"),
        (["query", "traces", "--since", "soon"], 3, "time span"),
        (["query", "traces", "-f", "csv", "-o", "/nowhere/at/all.csv"], 4, "FileNotFoundError"),
        (["query", "traces", "--from", __file__], 4, "no file of an export"),
        (["query", ""], 3, "the query is empty"),
        (["query", "traces | sumarize count()"], 3, "no operator sumarize: did you mean summarize?"),
        (["query", "Traces"], 3, "Traces is neither a table nor a bundled query: did you mean traces?"),
        (["query", "traces | where message = 'x'"], 3, "a comparison is written =="),
        (["run", "/nowhere.py", "/nowhere.ndjson"], 2, "does not exist"),
        (["query", "traces", "--format", "xml"], 2, "'xml' is not one of"),
        (["queries", "nope"], 3, "no bundled query nope"),
        (["payload", "nope"], 1, "no item in"),
        (["qury"], 2, "Did you mean"),
        (["tail", "--table", "nope"], 2, "'nope' is not one of"),
    ],
)
def test_an_error_is_one_line_with_its_own_exit_code(cli, written, arguments, code, said):
    """No traceback, the way out named."""
    result = cli(*arguments)

    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(cli, written):
    """For those who want it."""
    assert isinstance(cli("--debug", "query", "nope").exception, scoretrace.UnknownNameError)


def test_queries_lists_the_questions_and_shows_a_text(cli):
    """Each bundled query, with what it answers."""
    listed = cli("queries").stdout
    for bundled in scoretrace.queries():
        assert bundled.name in listed
        assert bundled.question in listed
    assert cli("queries", "failures").stdout.startswith("// Which requests failed")


def test_payload_gives_the_original(cli, written, tmp_path):
    """To stdout, and to a file."""
    item = next(item for item in written("trace") if "payload_uri" in item.custom_dimensions)
    expected = scoretrace.payload(item.item_id)

    assert cli("payload", item.item_id).stdout_bytes == expected
    assert cli("payload", item.item_id, "--output", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out").read_bytes() == expected


def test_tail_shows_the_newest(cli, written):
    """Oldest first, of all tables or some."""
    lines = cli("tail").stdout.splitlines()
    assert "hello" in lines[0]
    assert any("ValueError: bad" in line for line in lines)
    assert len(cli("tail", "--lines", "1").stdout.splitlines()) == 1
    assert "score 500" in cli("tail", "--table", "requests").stdout


def test_following_leaves_nothing_out(telemetry, home):
    """What is written between the newest items and those that follow is shown, and once."""
    print("before")
    followed = read.follow(home)
    assert next(followed).custom_dimensions["Contents"] == "before"
    print("between")
    print("after")

    assert [next(followed).custom_dimensions["Contents"] for _ in range(2)] == ["between", "after"]
    followed.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are promised for POSIX")
def test_tail_follows_until_interrupted(telemetry, home):
    """New rows as they are written; control-C ends it with 130 and no traceback."""
    print("before")
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "scoretrace", "tail", "--follow", "--from", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "before" in child.stdout.readline()
    print("after")
    assert "after" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)

    assert child.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals are promised for POSIX")
def test_run_can_be_interrupted(tmp_path, home):
    """Control-C in the middle: 130, no traceback, and the rows so far are there."""
    script, requests = tmp_path / "score.py", tmp_path / "requests.ndjson"
    script.write_text("import time\ndef run(data):\n    print(data)\n    time.sleep(0.05)\n")
    requests.write_text("{}\n" * 10_000)
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", "scoretrace", "run", str(script), str(requests)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SCORETRACE_HOME": str(home)},
    )
    for _ in range(5):
        child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)

    assert child.returncode == 130
    assert "Traceback" not in errors
    assert scoretrace.query("traces | count", source=home).rows[0][0] >= 5


def test_a_reader_that_has_seen_enough_ends_it_quietly(telemetry, home):
    """Scoretrace query ... | head."""
    for _ in range(5_000):
        print("x" * 100)
    child = subprocess.Popen(
        [sys.executable, "-m", "scoretrace", "query", "traces", "--from", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child.stdout.readline()
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    child.wait(timeout=30)

    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_every_command_has_help(cli):
    """A sentence, and an example where it takes arguments."""
    assert "Exit codes:" in cli("--help").stdout
    for name in scoretrace.cli.cli.commands:
        shown = cli(name, "-h")
        assert shown.exit_code == 0
        assert "scoretrace " + name in shown.stdout


def test_help_comes_at_once(tmp_path):
    """No command imports, for its help, what only running it needs."""
    heavy = {
        "duckdb",
        "rich",
        "azure",
        "numpy",
        "asyncio",
        "scoretrace.engine",
        "scoretrace.read",
        "scoretrace.settings",
    }
    code = """
import sys
from scoretrace.cli import cli
cli([*sys.argv[1:], "--help"], standalone_mode=False)
print("loaded:", *sys.modules, file=sys.stderr)
"""
    for name in ["", *scoretrace.cli.cli.commands]:
        words = [name] if name else []
        ended = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
        loaded = set(ended.stderr.partition("loaded:")[2].split())
        assert "Usage:" in ended.stdout, ended.stderr
        assert not loaded & heavy, name


def test_it_starts_fast_enough_to_be_used(home):
    """--version needs neither DuckDB nor rich."""
    code = (
        "import sys; sys.argv = ['scoretrace', '--version']\n"
        "from scoretrace.__main__ import main\n"
        "try: main()\n"
        "finally: print('duckdb' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.splitlines() == [f"scoretrace, version {scoretrace.__version__}", "False"]


def test_a_connection_string_is_no_source_and_is_not_shown(cli):
    """An easy mistake, with a secret in it."""
    ended = cli("query", "traces", "--from", "AccountName=team;AccountKey=c2VjcmV0")

    assert ended.exit_code == 4
    assert "c2VjcmV0" not in ended.output + ended.stderr


def test_run_records_what_comes_after_the_last_line(tmp_path, home):
    """Threads and exit handlers of the script."""
    (tmp_path / "score.py").write_text(
        "import atexit, threading, time\n"
        "def late():\n    time.sleep(0.3)\n    print('from a thread')\n"
        "def run(data):\n    threading.Thread(target=late).start()\n"
        "atexit.register(lambda: print('at exit'))\n"
    )
    (tmp_path / "one.ndjson").write_text("1\n")
    words = ["run", str(tmp_path / "score.py"), str(tmp_path / "one.ndjson"), "--home", str(home)]
    subprocess.run([sys.executable, "-m", "scoretrace", *words], check=True, capture_output=True)
    printed = scoretrace.query("traces | project text = tostring(customDimensions.Contents)", source=home).rows

    assert sorted(printed) == [("at exit",), ("from a thread",)]


def test_run_says_whose_telemetry_is_off(tmp_path, home):
    """That of the script, where it configures its own."""
    scoretrace.Webservice("other", home=home, must_exist=False).update(enable_app_insights=False)
    (tmp_path / "score.py").write_text(
        f"import scoretrace\nscoretrace.configure(home={str(home)!r}, service='other')\ndef run(data): print(data)\n"
    )
    (tmp_path / "one.ndjson").write_text("1\n")
    words = ["run", str(tmp_path / "score.py"), str(tmp_path / "one.ndjson"), "--home", str(home)]
    ended = subprocess.run([sys.executable, "-m", "scoretrace", *words], capture_output=True, text=True)

    assert ended.returncode == 0
    assert "telemetry of other is off: scoretrace update other --app-insights on" in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_run_ends_with_one_where_rows_were_lost(tmp_path, home):
    """A disk that takes no more, here by a limit on the size of files, also where the script configures itself."""
    (tmp_path / "score.py").write_text(
        "import resource, scoretrace\n"
        f"scoretrace.configure(home={str(home)!r}, service='own', buffer_bytes=10_000)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "def run(data): print(data)\n"
    )
    (tmp_path / "many.ndjson").write_text("1\n" * 200)
    words = ["run", str(tmp_path / "score.py"), str(tmp_path / "many.ndjson"), "--home", str(home)]
    ended = subprocess.run([sys.executable, "-m", "scoretrace", *words], capture_output=True, text=True)

    assert ended.returncode == 1, ended.stderr
    assert "rows lost" in ended.stderr
