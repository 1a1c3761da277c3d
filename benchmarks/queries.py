"""
Bundled queries over 10,000,000 rows of a table, against the same question in SQL by hand.

Both read the same Parquet files, as `scoretrace compact` leaves them. Times are
medians of turns that the two take one after the other; compiling is timed by
itself, for every bundled query, and the command from its start to its first row.
"""

import datetime as dt
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import duckdb

import scoretrace
from scoretrace import compacted, read
from scoretrace.engine import CATALOG
from scoretrace.kql import literals
from scoretrace.kql.compiler import compile_query
from scoretrace.schema import BY_CLASSIC

ROWS = 10_000_000
TURNS = 3
KEY = "0" * 32

# How a column differs from row to row; all others are empty.
ROW = {
    "timestamp": "now()::TIMESTAMP - to_microseconds(i * 8000)",
    "itemId": "'item' || i",
    "itemCount": "(1 + i % 4)::INTEGER",
    "cloud_RoleName": "'svc'",
    "cloud_RoleInstance": "'instance' || (i % 4)",
    "operation_Id": "md5((i // 3)::VARCHAR)",
    "operation_Name": "'POST /score'",
    "application_Version": "'v' || (i // 5000000)",
}
OF_TABLE = {
    "requests": {
        "itemType": "'request'",
        "id": "'r' || i",
        "name": "CASE i % 3 WHEN 0 THEN 'POST /score' WHEN 1 THEN 'GET /' ELSE 'POST /batch' END",
        "success": "CASE i % 50 WHEN 0 THEN 'False' ELSE 'True' END",
        "resultCode": "CASE i % 50 WHEN 0 THEN '500' ELSE '200' END",
        "duration": "5 + (hash(i) % 100000) / 100.0",
        "customDimensions": "json_object('Service Name', 'svc', 'Request Id', 'q' || i)",
    },
    "traces": {
        "itemType": "'trace'",
        "message": "CASE i % 4 WHEN 0 THEN 'STDOUT' ELSE 'scored row ' || i || ' of batch ' || (i % 97) END",
        "severityLevel": "(1 + (i % 40 = 0)::INTEGER + (i % 200 = 0)::INTEGER)::INTEGER",
        "customDimensions": (
            "CASE i % 4 WHEN 0 THEN json_object('Contents', json_object('input', [i % 10, 2], 'output', "
            "[(hash(i) % 1000) / 10.0])::VARCHAR) ELSE json_object('logger_name', 'score.' || (i % 5)) END"
        ),
    },
}

OK = "coalesce(nullif(customDimensions->>'$.success', ''), success)"
CODE = "coalesce(nullif(customDimensions->>'$.resultCode', ''), resultCode)"
MS = "coalesce(epoch_us(try_cast(customDimensions->>'$.duration' AS INTERVAL)) / 1000.0, duration)"
TEXT = (
    "CASE WHEN message IN ('STDOUT', 'STDERR') THEN coalesce(customDimensions->>'$.Contents', "
    "customDimensions->>'$.Content', '') ELSE message END"
)
SINCE = "timestamp > now()::TIMESTAMP - INTERVAL 1 DAY"


def weighted(keys, shares):
    """Percentiles with weights, which SQL has no aggregate for."""
    comma, partition = (f"{keys}, ", f"PARTITION BY {keys}") if keys else ("", "")
    cells = ", ".join(f"min(ms) FILTER (WHERE upto >= total * {share})" for share in shares)
    return (
        f"WITH sums AS (SELECT {comma}{MS} AS ms, sum(itemCount) AS w FROM requests WHERE {SINCE} GROUP BY {comma}ms), "
        f"ranks AS (SELECT {comma}ms, sum(w) OVER ({partition} ORDER BY ms) AS upto, sum(w) OVER ({partition}) AS total "
        f"FROM sums) SELECT {comma}{cells}, max(total), max(ms) FROM ranks {'GROUP BY ' + keys if keys else ''}"
    )


BY_HAND = {
    "request-rate": f"SELECT time_bucket(INTERVAL 5 MINUTE, timestamp) AS t, sum(itemCount), sum(itemCount) FILTER "
    f"(lower({OK}) = 'false') FROM requests WHERE {SINCE} GROUP BY t ORDER BY t",
    "failure-rate": f"SELECT t, n, f, round(100.0 * f / n, 2) FROM (SELECT time_bucket(INTERVAL 1 HOUR, timestamp) AS t, "
    f"sum(itemCount) AS n, sum(itemCount) FILTER (lower({OK}) = 'false') AS f FROM requests WHERE {SINCE} GROUP BY t) "
    "ORDER BY t",
    "requests-by-result": f"SELECT name, {CODE} AS c, {OK} AS ok, sum(itemCount) AS n, round(sum({MS} * itemCount) / "
    f"sum(itemCount), 2) FROM requests WHERE {SINCE} GROUP BY name, c, ok ORDER BY n DESC",
    "response-times": weighted("name", (0.5, 0.95, 0.99)) + " ORDER BY 3 DESC",
    "load-by-instance": f"SELECT cloud_RoleName, cloud_RoleInstance, sum(itemCount) AS n, round(sum({MS} * itemCount) / "
    f"1000, 1), max(timestamp) FROM requests WHERE {SINCE} GROUP BY 1, 2 ORDER BY n DESC",
    "busiest-hours": "SELECT dayofweek(timestamp) AS d, hour(timestamp) AS h, sum(itemCount) AS n FROM requests WHERE "
    "timestamp > now()::TIMESTAMP - INTERVAL 28 DAY GROUP BY d, h ORDER BY n DESC",
    "service-level": f"SELECT date_trunc('day', timestamp) AS d, sum(itemCount), sum(itemCount) FILTER (lower({OK}) <> "
    f"'false' AND {MS} <= 1000) FROM requests WHERE timestamp > now()::TIMESTAMP - INTERVAL 30 DAY GROUP BY d ORDER BY d",
    "prints": f"SELECT timestamp, {TEXT}, coalesce(customDimensions->>'$.\"Service Name\"', cloud_RoleName), operation_Id "
    f"FROM traces WHERE {SINCE} AND (message IN ('STDOUT', 'STDERR') OR customDimensions->>'$.\"code.file.path\"' LIKE "
    "'%print_log_hook.py' OR customDimensions->>'$.module' = 'print_log_hook') ORDER BY timestamp DESC LIMIT 100",
    "prints-with-input": f"SELECT timestamp, message, customDimensions, operation_Id FROM traces WHERE {SINCE} AND "
    "(customDimensions::VARCHAR ILIKE '%input%' OR message ILIKE '%input%') ORDER BY timestamp DESC LIMIT 10",
    "volume-by-logger": "SELECT CASE WHEN message IN ('STDOUT', 'STDERR') THEN message ELSE coalesce("
    "customDimensions->>'$.logger_name', customDimensions->>'$.module', '(none)') END AS l, severityLevel, "
    "sum(itemCount), count(*), sum(strlen(message) + strlen(customDimensions::VARCHAR) + 500) AS b "
    f"FROM traces WHERE {SINCE} GROUP BY l, severityLevel ORDER BY b DESC",
    "warnings-and-errors": "SELECT timestamp, severityLevel, message, coalesce(customDimensions->>'$.logger_name', ''), "
    f"operation_Name, operation_Id FROM traces WHERE {SINCE} AND severityLevel >= 2 ORDER BY timestamp DESC LIMIT 100",
    "inputs-and-outputs": f"SELECT timestamp, j->>'$.input', j->>'$.output', operation_Id FROM (SELECT *, try_cast({TEXT} "
    f"AS JSON) AS j FROM traces WHERE {SINCE}) WHERE j->>'$.input' IS NOT NULL ORDER BY timestamp DESC LIMIT 100",
    "output-distribution": "SELECT floor(v / 10) * 10 AS b, sum(itemCount) FROM (SELECT itemCount, try_cast("
    "coalesce(j->>'$.output[0]', j->>'$.output') AS DOUBLE) AS v FROM (SELECT itemCount, "
    f"try_cast({TEXT} AS JSON) AS j FROM traces WHERE {SINCE})) WHERE v IS NOT NULL GROUP BY b ORDER BY b",
    "heartbeat": "SELECT cloud_RoleName, cloud_RoleInstance, max(timestamp) AS m, sum(itemCount) FROM (SELECT timestamp, "
    "cloud_RoleName, cloud_RoleInstance, itemCount FROM traces UNION ALL SELECT timestamp, cloud_RoleName, "
    f"cloud_RoleInstance, itemCount FROM requests) WHERE {SINCE} GROUP BY 1, 2 ORDER BY m",
}


def make(home):
    """The two tables as Parquet that stands for a blob each; returns the files by table."""
    files = {}
    hour = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d/%H")
    with duckdb.connect() as connection:
        for name, own in OF_TABLE.items():
            table = BY_CLASSIC[name]
            folder = Path(home) / "telemetry" / f"svc_{KEY}" / table.folder / hour
            folder.mkdir(parents=True)
            (folder / "a.blob").write_bytes(b"\n")
            (found,) = compacted.hours(read.find(home, [table.kind]))
            cells = []
            for column in table.all_columns:
                kind = {
                    "string": "VARCHAR",
                    "int": "INTEGER",
                    "real": "DOUBLE",
                    "dynamic": "JSON",
                    "datetime": "TIMESTAMP_NS",
                }
                value = (
                    own.get(column.classic) or ROW.get(column.classic) or ("''" if column.type == "string" else "NULL")
                )
                cells.append(f'({value})::{kind[column.type]} AS "{column.classic}"')
            cells.append("NULL::JSON AS unparsed")
            connection.execute(
                f"COPY (SELECT {', '.join(cells)} FROM range({ROWS}) t(i)) TO '{found.path}' (FORMAT parquet, COMPRESSION zstd)"
            )
            files[name] = str(found.path)
    return files


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def by_hand(files):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for name, file in files.items():
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * REPLACE (timestamp::TIMESTAMP AS timestamp) FROM read_parquet('{file}')"
        )
    return connection


def compare(home, files):
    connection = by_hand(files)
    ratios = []
    print(f"{'query':24} {'bundled':>9} {'by hand':>9}")
    for name, statement in BY_HAND.items():
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(timed(lambda name=name: scoretrace.query(name, source=home)))
            theirs.append(timed(lambda statement=statement: connection.execute(statement).fetchall()))
        one, other = statistics.median(ours), statistics.median(theirs)
        ratios.append(one / other)
        print(f"{name:24} {one:7.2f} s {other:7.2f} s  {one / other:.2f}x", flush=True)
    print(f"median of {len(ratios)}: {statistics.median(ratios):.2f}x")


def compiling():
    now = literals.ticks_of(dt.datetime.now(dt.timezone.utc))
    times = []
    for entry in scoretrace.queries():
        turns = [timed(lambda text=entry.text: compile_query(text, CATALOG, now=now, aside=())) for _ in range(7)]
        times.append(statistics.median(turns) * 1000)
    print(
        f"compiled in {statistics.median(times):.1f} ms in the median of {len(times)} queries, {max(times):.1f} ms at most"
    )


def starting(folder):
    home = os.path.join(folder, "small")
    with scoretrace.configure(home=home, exporter="none"), scoretrace.request_context("score"):
        print('{"input": [1], "output": [2]}')
    command = [sys.executable, "-m", "scoretrace", "query", "prints", "--from", home]
    times = [timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(7)]
    print(f"the whole process of scoretrace query, on a small home: {statistics.median(times):.2f} s")


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    compiling()
    starting(folder)
    home = os.path.join(folder, "home")
    files = make(home)
    compare(home, files)


if __name__ == "__main__":
    main()
