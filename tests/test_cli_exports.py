"""`scoretrace read`, `sync` and `compact`."""

import csv
import json

import duckdb
import pytest
from click.testing import CliRunner

from exported import blob, message, pt1h, put, record
from scoretrace.cli import cli as group


@pytest.fixture
def cli(home):
    def run(*arguments):
        return CliRunner().invoke(group, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    put(folder, blob(), *map(message, range(3)))
    put(folder, pt1h("apprequests"), record("AppRequests", Id="r"))
    return folder


def test_read_without_a_table_says_what_there_is(cli, archive):
    """By table and layout, with the hours."""
    found = [json.loads(line) for line in cli("read", archive).stdout.splitlines()]

    assert [(row["table"], row["layout"], row["blobs"], row["first"]) for row in found] == [
        ("requests", "diagnostic", 1, "2026-11-01/10"),
        ("traces", "continuous", 1, "2026-11-01/10"),
    ]


def test_read_writes_every_form(cli, archive, tmp_path):
    """NDJSON in a pipe, JSON, CSV, a table, Parquet in a file; times keep their 100 ns."""
    moment = "2026-11-01T10:00:00.1234567Z"

    lines = [json.loads(line) for line in cli("read", archive, "-t", "traces").stdout.splitlines()]
    whole = json.loads(cli("read", archive, "-t", "traces", "-f", "json").stdout)
    table = list(csv.DictReader(cli("read", archive, "-t", "traces", "-f", "csv").stdout.splitlines()))
    ended = cli("read", archive, "-t", "AppTraces", "-o", tmp_path / "traces.parquet")

    assert lines == whole
    assert [row["message"] for row in lines] == [row["message"] for row in table] == [f"message {n}" for n in range(3)]
    assert {row["timestamp"] for row in (*lines, *table)} == {moment}
    assert lines[0]["customDimensions"] == {"model": "m"}
    assert "message 2" in cli("read", archive, "-t", "traces", "-f", "table").stdout
    assert ended.exit_code == 0
    assert duckdb.sql(f"SELECT count(Message) FROM '{tmp_path / 'traces.parquet'}'").fetchall() == [(3,)]


def test_read_counts(cli, archive):
    """Rows, blobs and repeats, on stderr."""
    put(archive, blob(name="again"), message(1))

    assert cli("read", archive, "-t", "traces").stderr == "4 rows in 2 blobs, 1 repeated\n"
    ended = cli("read", archive, "-t", "traces", "--drop-repeats")
    assert (ended.stderr, len(ended.stdout.splitlines())) == ("3 rows in 2 blobs, 1 repeated\n", 3)
    assert cli("read", archive, "-t", "traces", "-q").stderr == ""


def test_read_exits_with_3_where_lines_were_set_aside(cli, archive, tmp_path):
    """And says where they are."""
    put(archive, blob(name="bad"), b"oops\n", message(9)[:30])

    ended = cli("read", archive, "-t", "traces", "--quarantine", tmp_path / "q")

    assert ended.exit_code == 3
    assert "1 last line not whole yet, 1 line set aside" in ended.stderr
    (file,) = (tmp_path / "q").iterdir()
    assert str(file) in ended.stderr
    assert len(ended.stdout.splitlines()) == 3


def test_read_limits_times_and_rows(cli, archive):
    """--since, --until and --limit."""
    assert cli("read", archive, "-t", "traces", "--since", "2026-11-02").stdout == ""
    assert cli("read", archive, "-t", "traces", "--until", "2026-11-01").stdout == ""
    assert len(cli("read", archive, "-t", "traces", "-n", "2").stdout.splitlines()) == 2
    assert cli("read", archive, "-t", "traces", "-f", "json", "-n", "0").stdout == "[]\n"


def test_read_goes_on_at_a_bookmark(cli, archive, tmp_path):
    """What was shown is not shown again."""
    mark = ("-t", "traces", "--bookmark", tmp_path / "mark")

    assert len(cli("read", archive, *mark).stdout.splitlines()) == 3
    assert cli("read", archive, *mark).stdout == ""
    put(archive, blob(name="more"), message(7))
    assert [json.loads(line)["message"] for line in cli("read", archive, *mark).stdout.splitlines()] == ["message 7"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["read", "nowhere"], 4, "there is no nowhere"),
        (["read", "archive", "-t", "trces"], 2, "did you mean traces"),
        (["read", "archive", "-t", "traces", "--since", "never"], 2, "is no time"),
        (["read", "archive", "-t", "traces", "-f", "parquet"], 2, "--output FILE"),
        (["read", "ftp://a/b", "-t", "traces"], 4, "no address of blobs"),
        (["read", "azure:/subscriptions/x", "-t", "traces"], 4, "no address of blobs"),
        (["read", "archive", "-t", "traces", "--bookmark", "archive/notes"], 4, "no bookmark"),
        (["read", "archive", "-t", "traces", "-t", "requests"], 2, "one --table at a time"),
        (["read", "archive", "-n", "3"], 2, "are for the rows of a --table"),
        (["read", "archive", "-t", "traces", "-n", "3", "--bookmark", "m"], 2, "do not go together"),
        (["read", "archive", "-t", "traces", "-o", "traces.xlsx"], 2, "no form ends in .xlsx"),
        (["read", ""], 4, "the source is empty"),
        (["compact", "archive/notes"], 4, "is a file"),
        (["sync", "archive", "mirror"], 4, "is a folder already"),
        (["compact", "nowhere"], 4, "there is no nowhere"),
    ],
)
def test_a_mistake_is_said_in_one_line(cli, archive, monkeypatch, arguments, code, said):
    """With the exit code that it has everywhere."""
    monkeypatch.chdir(archive.parent)
    put(archive, "notes", b"not json")

    ended = cli(*arguments)

    assert (ended.exit_code, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_file_is_replaced_when_it_is_whole(cli, archive, tmp_path):
    """A reading that fails leaves what was there."""
    out = tmp_path / "out.csv"
    out.write_text("precious")

    ended = cli("read", "nowhere", "-t", "traces", "-o", out)

    assert (ended.exit_code, out.read_text()) == (4, "precious")
    assert cli("read", archive, "-t", "traces", "-o", out).exit_code == 0
    assert len(out.read_text().splitlines()) == 4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_compact_says_what_it_did(cli, archive):
    """And undoes it."""
    put(archive, blob(hour="12"), message(5))

    assert cli("compact", archive).stderr.startswith("1 hour compacted, 0 kept: ")
    assert cli("compact", archive).stderr == "0 hours compacted, 1 kept\n"
    assert cli("compact", archive, "--drop").stderr == "1 file removed\n"


def test_sync_says_what_it_copied(cli, azurite, tmp_path, monkeypatch):
    """And again nothing."""
    from azure.storage.blob import BlobServiceClient

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    with BlobServiceClient.from_connection_string(azurite) as service:
        container = service.create_container("clisync")
        container.upload_blob(blob(), message(1))
        container.close()
    url = f"{azurite.partition('BlobEndpoint=')[2]}/clisync"

    assert cli("sync", url, tmp_path / "m").stderr == f"1 of 1 blob copied, {len(message(1)):,} bytes\n"
    assert cli("sync", url, tmp_path / "m").stderr == "0 of 1 blob copied, 0 bytes\n"
    assert len(cli("read", tmp_path / "m", "-t", "traces").stdout.splitlines()) == 1
