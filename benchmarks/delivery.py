"""
How fast the journal is delivered, at what price, and what a log call notices of it; peers in the same run.

Items a second and CPU an item are of a process that logs 20,000 records and
delivers them to the loopback sink (the peers are paced, so that their queues
drop nothing); and of `scoretrace export` with 200,000 records that wait on disk. The
sink is a process of its own on the same cores.
"""

import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

RECORDS, WAITING, MANY = 20_000, 200_000, 1_000_000
TIMES = 3


def string(port):
    return f"InstrumentationKey=00000000-1111-2222-3333-444444444444;IngestionEndpoint=http://127.0.0.1:{port}"


def logger():
    log = logging.getLogger("bench")
    log.setLevel(logging.INFO)
    log.propagate = False
    return log


def ours(home, port):
    import scoretrace

    telemetry = scoretrace.configure(home=home, connection_string=string(port), capture_print=False)
    return lambda: telemetry.flush(60), lambda: telemetry.stats()["delivered"]


def opentelemetry(home, port):
    from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    exporter = Counting(AzureMonitorLogExporter(connection_string=string(port), disable_offline_storage=True))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger().addHandler(LoggingHandler(logger_provider=provider))
    return provider.force_flush, lambda: exporter.count


class Counting:
    def __init__(self, exporter):
        self.exporter = exporter
        self.count = 0

    def export(self, batch):
        result = self.exporter.export(batch)
        self.count += len(batch)
        return result

    def shutdown(self):
        self.exporter.shutdown()


def opencensus(home, port):
    from opencensus.ext.azure.log_exporter import AzureLogHandler

    class Handler(AzureLogHandler):
        count = 0

        def _transmit(self, envelopes):
            result = super()._transmit(envelopes)
            self.count += len(envelopes)
            return result

    handler = Handler(connection_string=string(port), enable_local_storage=False, export_interval=1.0)
    logger().addHandler(handler)
    return lambda: None, lambda: handler.count


SYSTEMS = {"scoretrace": ours, "opentelemetry": opentelemetry, "opencensus": opencensus}


def one_process(name, home, port):
    """Items a second, CPU an item in us, and how many arrived."""
    warnings.simplefilter("ignore")
    flush, delivered = SYSTEMS[name](home, port)
    log = logger()
    log.info("first")
    flush()
    while delivered() < 1:
        time.sleep(0.05)
    begin, cpu = time.perf_counter(), time.process_time()
    before = delivered()
    for number in range(RECORDS):
        log.info("scored %d rows of the request", number)
        if number % 500 == 0 and name != "scoretrace":  # what is logged here waits on disk
            while number - (delivered() - before) > 1_500:  # the smallest of the queues holds 2,048
                time.sleep(0.001)
    flush()
    while delivered() - before < RECORDS and time.perf_counter() - begin < 60:
        time.sleep(0.002)
    wall, spent = time.perf_counter() - begin, time.process_time() - cpu
    return (delivered() - before) / wall, spent / RECORDS * 1e6, delivered() - before


def fill(home, count):
    import scoretrace

    scoretrace.configure(home=home, connection_string=string(1), exporter="none", capture_print=False)
    log = logging.getLogger("fill")
    for number in range(count):
        log.info("scored %d rows of the request", number)


def sidecar(home, port):
    """Items a second, CPU an item in us, memory in MB at a tenth of the way and at the end."""
    from scoretrace import sidecar as export
    from scoretrace.settings import resolve

    early = []

    def tick(delivered):
        if delivered and not early and delivered > count // 10:
            early.append(memory())

    count = int(os.environ["COUNT"])
    begin, cpu = time.perf_counter(), time.process_time()
    settings = resolve({"home": home, "connection_string": string(port)})
    done = export.export(settings, tick=tick)
    wall, spent = time.perf_counter() - begin, time.process_time() - cpu
    return done.delivered / wall, spent / done.delivered * 1e6, done.delivered, (early or [0])[0], memory()


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def calls(mode, home, port):
    """The time of a log call in us, median and p99.9: in a tight loop, and once a millisecond."""
    import scoretrace

    exporter = "azure_monitor" if mode == "thread" else "none"
    scoretrace.configure(home=home, connection_string=string(port), exporter=exporter, capture_print=False)
    log = logging.getLogger("calls")
    time.sleep(1.5)  # whatever delivers is at full speed then
    clock, found = time.perf_counter, []
    for pause, count in ((0, 60_000), (0.001, 2_000)):
        taken = []
        for number in range(count):
            start = clock()
            log.info("scored %d rows of the request", number)
            taken.append(clock() - start)
            if pause:
                time.sleep(pause)
        taken.sort()
        found += [taken[count // 2] * 1e6, taken[int(count * 0.999)] * 1e6]
    return found


def run(function, *arguments, **environment):
    command = [sys.executable, __file__, function, *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}, cwd="/"
    )
    return json.loads(done.stdout.splitlines()[-1])


def middle(rows):
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main(home, port):
    print(f"{'':38}{'items/s':>10}{'CPU an item':>14}{'arrived':>12}")
    for name in SYSTEMS:
        rate, cpu, arrived = middle([run("one_process", name, f"{home}/{name}{turn}", port) for turn in range(TIMES)])
        print(f"{name + ', from one process':38}{rate:10,.0f}{cpu:11.1f} us{arrived:9,.0f} of {RECORDS:,}")
    for count in (WAITING, MANY):
        place = f"{home}/waiting{count}"
        run("fill", place, str(count))
        rate, cpu, arrived, early, late = run("sidecar", place, port, COUNT=str(count))
        print(
            f"{f'scoretrace export, {count:,} waiting':38}{rate:10,.0f}{cpu:11.1f} us{arrived:9,.0f} of {count:,}, "
            f"memory {early:.0f} MB after a tenth, {late:.0f} MB at the end"
        )
    print("\nOne log call while 1,000,000 waiting items are delivered, as a multiple of the same without delivery")
    print(f"{'':38}{'tight loop: median':>20}{'p99.9':>10}{'every ms: median':>20}{'p99.9':>10}")
    base = None
    for mode, label in (("none", "no delivery"), ("thread", "in a thread of this process"), ("sidecar", "sidecar")):
        rows = [measured(mode, home, port) for _ in range(TIMES)]
        found = middle(rows)
        base = base or found
        print(
            f"{label:38}{found[0]:11.1f} us{found[0] / base[0]:5.2f}x{found[1]:8.0f} us"
            f"{found[2]:11.1f} us{found[2] / base[2]:5.2f}x{found[3]:8.0f} us"
        )


def measured(mode, home, port):
    with tempfile.TemporaryDirectory(dir=home) as place:
        run("fill", place, str(MANY))
        helper = None
        if mode == "sidecar":
            command = [sys.executable, "-m", "scoretrace", "export", "--follow", "--home", place, "--quiet"]
            environment = {**os.environ, "APPLICATIONINSIGHTS_CONNECTION_STRING": string(port)}
            helper = subprocess.Popen(command, env=environment)
        try:
            return run("calls", mode, place, port)
        finally:
            if helper is not None:
                helper.kill()
                helper.wait()


if __name__ == "__main__":
    if sys.argv[1] in {"one_process", "sidecar", "calls"}:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
        sys.stdout.flush()
        os._exit(0)
    elif sys.argv[1] == "fill":
        fill(sys.argv[2], int(sys.argv[3]))
        print("0")
    else:
        main(sys.argv[1], sys.argv[2])
