"""What `import scoretrace; configure()` adds to the start of an interpreter; and what importing the peers adds."""

import os
import statistics
import subprocess
import sys
import time

STARTS = {
    "scoretrace.configure()": "import scoretrace; scoretrace.configure(home={home!r})",
    "opencensus.ext.azure.log_exporter": "import opencensus.ext.azure.log_exporter",
    "azure.monitor.opentelemetry.exporter": "import azure.monitor.opentelemetry.exporter",
}


def start(code, times):
    # Bytecode is cached, as it is for whatever pip installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    samples = []
    for _ in range(times):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True)
        samples.append((time.perf_counter() - begin) * 1000)
        if done.returncode:
            return None
    return statistics.median(samples)


def main(home):
    for code in STARTS.values():
        start(code.format(home=home), 1)
    bare = start("pass", 15)
    print(f"bare interpreter: {bare:.0f} ms")
    for name, code in STARTS.items():
        taken = start(code.format(home=home), 15)
        print(f"{name:40}" + ("not installed" if taken is None else f"+{taken - bare:.0f} ms"))


if __name__ == "__main__":
    main(sys.argv[1])
