"""What starting costs: `import scoretrace; configure()`, importing the peers, and the help of each command."""

import os
import statistics
import subprocess
import sys
import time

STARTS = {
    "import scoretrace": "import scoretrace",
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


def helps():
    """How long each command takes to show its help, in milliseconds."""
    from scoretrace.cli import COMMANDS

    for commands in ({"": None}, *COMMANDS.values()):
        for name in commands:
            words = [*filter(None, [name]), "--help"]
            code = f"import sys; sys.argv = ['scoretrace', *{words!r}]; from scoretrace.__main__ import main; main()"
            yield name, start(code, 7)


def main(home):
    for code in STARTS.values():
        start(code.format(home=home), 1)
    bare = start("pass", 15)
    print(f"bare interpreter: {bare:.0f} ms")
    for name, code in STARTS.items():
        taken = start(code.format(home=home), 15)
        print(f"{name:40}" + ("not installed" if taken is None else f"+{taken - bare:.0f} ms"))
    taken = dict(helps())
    slowest = max(taken, key=taken.get)
    print(
        f"{'--help of a command':40}{statistics.median(taken.values()):.0f} ms, the slowest ({slowest}) {taken[slowest]:.0f} ms"
    )


if __name__ == "__main__":
    main(sys.argv[1])
