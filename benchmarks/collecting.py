"""What ModelDataCollector costs on the caller and keeps through the end of a process, and how fast it is read back."""

import csv
import os
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

NAMES = list("abcdef")
FULL = 1_000_000_000  # bytes to read back

PRELUDE = """
import os, signal, sys
from scoretrace import ModelDataCollector
inputs = ModelDataCollector("m", "inputs", list("abcdef"))
def collect(times):
    for number in range(times):
        inputs.collect([number, 0.5, 0.25, 0.125, 1.5, 2.5])
"""


def median(function, times):
    samples = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def callers(home):
    """Each writes the same cells to a file that it keeps open, and hands them to the system before it returns."""
    os.environ["SCORETRACE_HOME"] = f"{home}/ours"
    from scoretrace import ModelDataCollector

    inputs = ModelDataCollector("m", "inputs", NAMES)
    own = ["0de0c520-181f-422d-8640-100000000003", "2026-11-20T15:00:00.123456", 1440, "default/default/default"]
    own += ["default", "m", "default", "00000000-0000-0000-0000-000000000000", ""]
    text = open(f"{home}/csv.csv", "w", newline="")  # noqa: SIM115 - kept open, as a logger would
    writer = csv.writer(text)
    frames = open(f"{home}/pandas.csv", "w", newline="")  # noqa: SIM115
    arrays = open(f"{home}/numpy.csv", "wb")  # noqa: SIM115

    def with_csv(array):
        writer.writerows([*row, *own] for row in array.tolist())
        text.flush()

    def with_pandas(array):
        frame = pd.DataFrame(array, columns=NAMES).assign(**{f"c{at}": value for at, value in enumerate(own)})
        frame.to_csv(frames, header=False, index=False)
        frames.flush()

    def with_numpy(array):  # without the correlations, which it cannot write beside numbers
        np.savetxt(arrays, array, fmt="%r", delimiter=",")
        arrays.flush()

    return {
        "scoretrace": inputs.collect,
        "csv.writer": with_csv,
        "pandas to_csv": with_pandas,
        "numpy savetxt, numbers alone": with_numpy,
    }


def costs(home):
    random = np.random.default_rng(0)
    row, table = random.normal(size=(1, 6)), random.normal(size=(10_000, 6))
    ways = callers(home)
    for collect in ways.values():
        collect(row)
    single = {name: [] for name in ways}
    many = {name: [] for name in ways}
    for _ in range(5):  # in turns, so that all have the same weather
        for name, collect in ways.items():
            single[name].append(median(lambda collect=collect: collect(row), 500))
            many[name].append(median(lambda collect=collect: collect(table), 5))
    ours = statistics.median(many["scoretrace"])
    print(f"{'':30}{'a row of 6':>14}{'10,000 x 6':>18}{'of scoretrace':>16}")
    for name in ways:
        taken = statistics.median(many[name])
        one = statistics.median(single[name]) * 1e6
        print(f"{name:30}{one:11.1f} us{10_000 / taken:12,.0f} rows/s{ours / taken:15.2f}x")


def ends(home):
    for name, ending in (("os._exit", "os._exit(0)"), ("kill -9", "os.kill(os.getpid(), signal.SIGKILL)")):
        place = f"{home}/{name}"
        environment = {**os.environ, "SCORETRACE_HOME": place}
        subprocess.run([sys.executable, "-c", f"{PRELUDE}collect(2_000)\n{ending}"], env=environment, check=False)
        (file,) = Path(place).rglob("data.csv")
        print(f"2,000 calls in a tight loop, then {name}: {len(pd.read_csv(file)):,} rows")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        for name, port in (("refuses", 1), ("accepts and never answers", silent.getsockname()[1])):
            account = (
                f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:{port}/a"
            )
            environment = {
                **os.environ,
                "SCORETRACE_HOME": f"{home}/{name}",
                "AZURE_STORAGE_CONNECTION_STRING": account,
            }
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", f"{PRELUDE}collect(2_000)"],
                env=environment,
                check=True,
                stderr=subprocess.DEVNULL,
            )
            taken = time.perf_counter() - start
            (file,) = Path(f"{home}/{name}").rglob("data.csv")
            print(f"storage {name}: the process took {taken:.1f} s, {len(pd.read_csv(file)):,} of 2,000 rows on disk")
        telemetry = "import scoretrace; scoretrace.configure(); scoretrace.log(a=1)\n"
        key = "InstrumentationKey=12345678-90ab-cdef-1234-567890abcdef;IngestionEndpoint=http://127.0.0.1:"
        environment["APPLICATIONINSIGHTS_CONNECTION_STRING"] = f"{key}{silent.getsockname()[1]}/"
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", f"{telemetry}{PRELUDE}collect(1)"],
            env=environment,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        print(f"the same, and telemetry to an endpoint that never answers: {time.perf_counter() - start:.1f} s")


def reading(home):
    code = """
    import numpy as np
    random = np.random.default_rng(0)
    rows = random.normal(size=(10_000, 6))
    from pathlib import Path
    while True:
        inputs.collect(rows)
        (file,) = Path(os.environ["SCORETRACE_HOME"]).rglob("data.csv")
        if file.stat().st_size > int(sys.argv[1]):
            break
    """
    environment = {**os.environ, "SCORETRACE_HOME": f"{home}/full"}
    subprocess.run([sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(FULL)], env=environment, check=True)
    (file,) = Path(f"{home}/full").rglob("data.csv")
    import scoretrace

    connection = duckdb.connect()

    def theirs():
        return connection.sql(f"SELECT * FROM read_csv('{file}')")

    def ours():
        return scoretrace.read_model_data(f"{home}/full", designation="inputs", connection=connection)

    for name, ask in (
        ("sum and count", lambda rows: rows.aggregate("sum(a), count(*)").fetchall()),
        ("to Arrow", lambda rows: rows.to_arrow_table()),
    ):
        taken = {way: [] for way in (theirs, ours)}
        for _ in range(5):
            for way, samples in taken.items():
                samples.append(median(lambda way=way, ask=ask: ask(way()), 1))
        bare, own = (statistics.median(taken[way]) for way in (theirs, ours))
        print(
            f"{file.stat().st_size / 1e9:.1f} GB of CSV, {name}: {own:.2f} s, {bare / own:.2f}x DuckDB's own read_csv"
        )


def main(home):
    os.makedirs(home)
    costs(home)
    ends(home)
    reading(home)


if __name__ == "__main__":
    main(sys.argv[1])
