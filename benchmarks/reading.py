"""How fast exports are read: as items, as tables, compacted, and from a container; with the peers in the same run."""

import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

FULL = 1_000_000_000  # bytes of one continuous export
COMPACTED_ROWS = 10_000_000
BLOBS = 1_440  # a day, one a minute
COLUMNS = "timestamp, message, severityLevel, operation_Id, customDimensions"
APP = "team_0123456789abcdef0123456789abcdef"
WORDS = [
    "scored",
    "loaded",
    "model",
    "batch",
    "features",
    "latency",
    "drift",
    "request",
    "timeout",
    "retry",
    "cache",
    "warm",
    "cold",
    "shard",
    "tensor",
]
ACCOUNT = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey="
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


def lines(count=None):
    """Lines of Messages in the shape of real ones, about 1,130 bytes each; a dimension that is first seen late."""
    chance, first, number = random.Random(7), datetime(2026, 11, 1, tzinfo=timezone.utc), 0
    while count is None or number < count:
        moment = (first + timedelta(milliseconds=37 * number)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "1Z"
        dimensions = [{"model": "diabetes"}, {"version": str(number % 5)}, {"run": f"r{number % 100}"}]
        dimensions += [{"latency_ms": f"{chance.random():.3f}"}] + [{"late": f"k{number}"}] * (number > 25_000)
        text = f"{' '.join(chance.choices(WORDS, k=9))} rows={number} {'x' * 32}"
        row = {
            "message": [{"raw": text, "severityLevel": chance.choice(["Information", "Warning", "Error"]), "count": 1}],
            "internal": {"data": {"id": f"{number:08x}-ef4c-11e5-8453-3f984b167d05", "documentVersion": "1.61"}},
            "context": {
                "device": {"type": "PC", "screenResolution": {}, "roleName": "score", "roleInstance": f"aks-{number % 7}",
                           "osVersion": "Linux"},
                "application": {"version": "1.2"},
                "location": {"continent": "North America", "country": "United States", "clientip": "0.0.0.0",
                             "province": "", "city": ""},
                "data": {"isSynthetic": False, "samplingRate": 100.0, "eventTime": moment},
                "user": {"isAuthenticated": False, "anonId": f"u{number % 50}",
                         "anonAcquisitionDate": "0001-01-01T00:00:00Z", "authAcquisitionDate": "0001-01-01T00:00:00Z",
                         "accountAcquisitionDate": "0001-01-01T00:00:00Z"},
                "operation": {"id": f"{number // 3:032x}", "parentId": f"{number // 3:016x}", "name": "POST /score"},
                "cloud": {}, "serverDevice": {},
                "custom": {"dimensions": dimensions, "metrics": []},
                "session": {"id": "65504c10-44a6-489e-b9dc-94184eb00d86", "isFirst": True},
            },
        }  # fmt: skip
        yield json.dumps(row, separators=(",", ":")).encode() + b"\n"
        number += 1


def write(path, size):
    """A blob of so many bytes; how many rows it has."""
    path.parent.mkdir(parents=True)
    rows = 0
    with path.open("wb") as file:
        for line in lines():
            file.write(line)
            rows += 1
            if file.tell() >= size:
                break
    return rows


READERS = {
    "scoretrace, typed items": """
        import scoretrace
        rows = sum(1 for item in scoretrace.read_export(source, quarantine=here))
    """,
    "scoretrace, table traces": """
        import duckdb, scoretrace
        connection = duckdb.connect()
        table = scoretrace.read_export(source, quarantine=here).relation("traces", connection=connection)
        connection.execute(f"CREATE TEMP TABLE t AS SELECT {columns} FROM ({table.sql_query()})")
        rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
        late = connection.execute("SELECT count(*) FROM t WHERE customDimensions->>'late' IS NOT NULL").fetchone()[0]
    """,
    "DuckDB read_json, explicit columns": """
        import duckdb
        connection = duckdb.connect()
        shapes = {"message": "STRUCT(raw VARCHAR, severityLevel VARCHAR)[]", "context": 'STRUCT("data" STRUCT('
            "eventTime TIMESTAMP), operation STRUCT(id VARCHAR), custom STRUCT(dimensions MAP(VARCHAR, VARCHAR)[]))"}
        shapes = ", ".join(f"'{name}': '{shape}'" for name, shape in shapes.items())
        connection.execute("CREATE TEMP TABLE t AS SELECT context.data.eventTime AS timestamp, message[1].raw AS message, "
            "message[1].severityLevel AS severityLevel, context.operation.id AS operation_Id, context.custom.dimensions "
            f"AS customDimensions FROM read_json('{blob}', format='newline_delimited', columns={{{shapes}}})")
        rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    """,
    "DuckDB read_json, inferred": """
        import duckdb
        connection = duckdb.connect()
        connection.execute("CREATE TEMP TABLE t AS SELECT context.data.eventTime AS timestamp, message[1].raw AS message, "
            "message[1].severityLevel AS severityLevel, context.operation.id AS operation_Id, context.custom.dimensions "
            f"AS customDimensions FROM read_json('{blob}', format='newline_delimited')")
        rows = connection.execute("SELECT count(*) FROM t").fetchone()[0]
        late = connection.execute("SELECT count(*) FROM t WHERE regexp_matches(customDimensions::VARCHAR, '[^a-z]late[^a-z]')").fetchone()[0]
    """,
    "pandas read_json": """
        import pandas
        frame = pandas.read_json(blob, lines=True)
        rows = len(frame[["message", "context"]])
    """,
    "polars read_ndjson": """
        import polars
        frame = polars.read_ndjson(blob)
        rows = frame.height
        late = 0 if "late" not in str(frame.schema) else None
    """,
    "msgspec structs, dimensions merged": """
        import msgspec
        class S(msgspec.Struct, frozen=True, gc=False): pass
        class Message(S, frozen=True, gc=False): raw: str; severityLevel: str | None = None
        class Data(S, frozen=True, gc=False): eventTime: str
        class Operation(S, frozen=True, gc=False): id: str = ""
        class Custom(S, frozen=True, gc=False): dimensions: list[dict[str, str]]
        class Context(S, frozen=True, gc=False): data: Data; operation: Operation; custom: Custom
        class Line(S, frozen=True, gc=False): message: list[Message]; context: Context
        decode = msgspec.json.Decoder(Line).decode
        rows = 0
        with open(blob, "rb") as file:
            for line in file:
                row = decode(line)
                dimensions = {}
                for pair in row.context.custom.dimensions:
                    dimensions.update(pair)
                rows += 1
    """,
    "json.loads, a line at a time": """
        import json
        rows = 0
        with open(blob, "rb") as file:
            for line in file:
                row = json.loads(line)
                context = row["context"]
                dimensions = {key: value for pair in context["custom"]["dimensions"] for key, value in pair.items()}
                rows += 1
    """,
}  # fmt: skip


def reading(name, blob):
    """Seconds, rows, megabytes of memory, rows with the late dimension: in a process of its own."""
    code = f"""
    import time
    source, blob, here, columns, late = {str(blob.parents[4])!r}, {str(blob)!r}, {str(blob.parents[4] / "q")!r}, {COLUMNS!r}, None
    begin = time.perf_counter()
    {textwrap.indent(textwrap.dedent(READERS[name]), " " * 4).strip()}
    took = time.perf_counter() - begin
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print(took, rows, int(peak) // 1024, late)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    took, rows, peak, late = ended.stdout.split()
    return float(took), int(rows), int(peak), None if late == "None" else int(late)


def readers(full):
    slow = {"pandas read_json", "polars read_ndjson"}  # once, and not three times
    speeds, said = {name: [] for name in READERS}, {}
    for turn in range(3):
        for name in READERS if turn == 0 else READERS.keys() - slow:
            took, rows, peak, late = reading(name, full)
            speeds[name].append(full.stat().st_size / took / 1e6)
            said[name] = (rows, peak, late)
    best = statistics.median(speeds["DuckDB read_json, explicit columns"])
    for name, found in speeds.items():
        speed = statistics.median(found)
        rows, peak, late = said[name]
        lost = "" if late is None else f"  late dimension in {late:,} of {rows - 25_001:,} rows"
        print(
            f"  {name:36} {speed:6.0f} MB/s ({min(found):.0f} to {max(found):.0f})  {speed / best:5.2f}x  {peak:6,} MB{lost}"
        )


def compaction(folder, full):
    """Ten million rows in the hours of ten days, as blobs and as Parquet."""
    import scoretrace

    per_blob = sum(1 for _ in full.open("rb"))
    hours = -(-COMPACTED_ROWS // per_blob)
    for hour in range(hours + 1):
        path = folder / APP / "Messages" / f"2026-11-{1 + hour // 24:02d}" / f"{hour % 24:02d}" / "a.blob"
        path.parent.mkdir(parents=True)
        if hour < hours:
            os.link(full, path)
        else:
            path.write_bytes(next(lines(1)))
    asked = {
        "count by severity": "traces | summarize count() by severityLevel",
        "a dimension": "traces | summarize count() by tostring(customDimensions.model)",
        "text": "traces | where message has 'drift' | count",
    }
    times = {"blobs": {}, "Parquet": {}}
    for kind, taken in times.items():
        if kind == "Parquet":
            begin = time.perf_counter()
            result = scoretrace.compact(folder)
            took = time.perf_counter() - begin
            share = result.parquet_bytes / result.blob_bytes
            print(f"  compact: {result.blob_bytes / 1e9:.1f} GB in {took:.0f} s, {share:.2f} of the size")
        for name, query in asked.items():
            found = []
            for _ in range(3):
                begin = time.perf_counter()
                scoretrace.query(query, source=folder)
                found.append(time.perf_counter() - begin)
            taken[name] = statistics.median(found)
    for name in asked:
        blobs, parquet = times["blobs"][name], times["Parquet"][name]
        print(f"  {name:20} {blobs:6.2f} s over blobs, {parquet:5.2f} s over Parquet: {parquet / blobs:.3f}x")


@contextlib.contextmanager
def azurite():
    """A real Azurite; None where npm's packages are not installed."""
    server = Path(__file__).resolve().parents[1] / "tests/services/node_modules/azurite/dist/src/blob/main.js"
    if shutil.which("node") is None or not server.exists():
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    process = subprocess.Popen(["node", str(server), *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)])
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    finally:
        process.terminate()
        process.wait()


def containers():
    import scoretrace

    with azurite() as storage:
        if storage is None:
            print("  1,440 blobs: needs node and Azurite (make test installs it)")
            return
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(storage) as service:
            container = service.create_container("exports")
            data = b"".join(lines(20))
            names = [f"{APP}/Messages/2026-11-01/{n // 60:02d}/b{n:04d}.blob" for n in range(BLOBS)]
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda name: container.upload_blob(name, data), names))
            url = f"{storage.partition('BlobEndpoint=')[2]}/exports"

            def one_after_the_other():
                for name in names:
                    container.download_blob(name).readall()

            def with_threads():
                with ThreadPoolExecutor(16) as pool:
                    list(pool.map(lambda name: container.download_blob(name).readall(), names))

            def ours():
                assert sum(1 for _ in scoretrace.read_export(url, credential=storage)) == BLOBS * 20

            took = {}
            for _ in range(3):
                for name, function in (
                    ("download_blob, one after the other", one_after_the_other),
                    ("download_blob, 16 threads", with_threads),
                    ("scoretrace.read_export, listed and decoded", ours),
                ):
                    begin = time.perf_counter()
                    function()
                    took.setdefault(name, []).append(time.perf_counter() - begin)
            container.close()
    first = statistics.median(took["download_blob, one after the other"])
    for name, found in took.items():
        print(f"  {name:44} {statistics.median(found):5.2f} s  {first / statistics.median(found):.2f}x")


def main():
    folder = Path(sys.argv[1])
    full = folder / "full" / APP / "Messages" / "2026-11-01" / "10" / "a.blob"
    rows = write(full, FULL)
    print(f"  {full.stat().st_size / 1e9:.2f} GB of Messages, {rows:,} rows")
    readers(full)
    print("\n  10,000,000 rows:")
    compaction(folder / "compacted", full)
    print(f"\n  {BLOBS:,} blobs of 20 rows in Azurite:")
    containers()


if __name__ == "__main__":
    main()
