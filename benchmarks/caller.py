"""
What one `log.info` costs on the caller's thread, ours and the peers' handlers in one run.

Each handler has a process of its own, so that no exporter's thread is in
another's way, and takes turns there with `logging.NullHandler`, so that a noisy
machine is noisy for both: the ratio is the figure to trust. The processes go
round three times, medians count, and the cost of the timer is taken off. Only
ours has the record on disk when the call returns.
"""

import json
import logging
import logging.handlers
import queue
import statistics
import subprocess
import sys
import time
import warnings

ROUNDS, CALLS, TIMES = 20, 400, 3
SHAPES = {
    "plain": lambda info: info("scored the request"),
    "arguments": lambda info: info("scored %d rows", 3),
    "extra": lambda info: info("scored", extra={"rows": 3, "model": "ridge", "ms": 1.5}),
}


def opencensus(home, key):
    from opencensus.ext.azure.log_exporter import AzureLogHandler

    return AzureLogHandler(connection_string=key)


def opentelemetry(home, key):
    from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    exporter = AzureMonitorLogExporter(connection_string=key, disable_offline_storage=True)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return LoggingHandler(logger_provider=provider)


def ours(home, key):
    import scoretrace

    return scoretrace.TelemetryHandler(home=home, service="bench", capture_print=False)


HANDLERS = {
    "logging.NullHandler": lambda home, key: logging.NullHandler(),
    "logging.StreamHandler(/dev/null)": lambda home, key: logging.StreamHandler(open("/dev/null", "w")),  # noqa: SIM115
    "logging.handlers.QueueHandler": lambda home, key: logging.handlers.QueueHandler(queue.SimpleQueue()),
    "opencensus-ext-azure": opencensus,
    "azure-monitor-opentelemetry-exporter": opentelemetry,
    "scoretrace": ours,
}


def timer():
    clock = time.perf_counter_ns
    samples = []
    for _ in range(20_000):
        start = clock()
        samples.append(clock() - start)
    return statistics.median(samples)


def measure(name, home, port):
    """One process: shape -> median, ratio to NullHandler, p99.9; times in microseconds."""
    warnings.simplefilter("ignore")
    clock = time.perf_counter_ns
    key = f"InstrumentationKey=00000000-1111-2222-3333-444444444444;IngestionEndpoint=http://127.0.0.1:{port}"
    loggers = []
    for handler in (logging.NullHandler(), HANDLERS[name](home, key)):
        logger = logging.getLogger(f"bench.{len(loggers)}")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        loggers.append(logger)
    overhead = timer()
    samples = {shape: ([], []) for shape in SHAPES}
    for _ in range(ROUNDS):
        for shape, call in SHAPES.items():
            for logger, taken in zip(loggers, samples[shape], strict=True):
                info = logger.info
                for _ in range(CALLS):
                    start = clock()
                    call(info)
                    taken.append(clock() - start - overhead)
            time.sleep(0.02)  # the peers' queues drain; a full one would drop records, which is cheap
    result = {}
    for shape, (base, taken) in samples.items():
        median = statistics.median(taken)
        result[shape] = (median / 1000, median / statistics.median(base), sorted(taken)[int(len(taken) * 0.999)] / 1000)
    return result


def main(home, port):
    found = {}
    for turn in range(TIMES):
        for name in HANDLERS:
            command = [sys.executable, __file__, f"{home}/{turn}", port, name]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode == 0:
                found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            elif turn == 0:
                print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")
    print(f"{'handler':40}" + "".join(f"{shape:>30}" for shape in SHAPES))
    print(f"{'':40}" + f"{'median':>12}{'ratio':>7}{'p99.9':>11}" * len(SHAPES))
    for name, turns in found.items():
        row = f"{name:40}"
        for shape in SHAPES:
            median, ratio, tail = (statistics.median(turn[shape][part] for turn in turns) for part in range(3))
            row += f"{median:9.2f} us{ratio:6.2f}x{tail:8.0f} us"
        print(row)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        print(json.dumps(measure(sys.argv[3], sys.argv[1], sys.argv[2])))
    else:
        main(sys.argv[1], sys.argv[2])
