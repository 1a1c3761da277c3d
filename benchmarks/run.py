"""
All benchmarks, ours and the peers' in one run: `make bench`.

Machines are noisy: trust ratios and medians. Everything stays on loopback and
in a temporary folder, and the peers' telemetry about themselves is off.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUIET = {
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
}


def run(name, *arguments):
    title = (HERE / name).read_text(encoding="utf-8").split('"""')[1].strip().splitlines()[0]
    print(f"\n{title}", flush=True)
    subprocess.run([sys.executable, str(HERE / name), *arguments], check=True, env={**os.environ, **QUIET})


def main():
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    sink = subprocess.Popen([sys.executable, str(HERE / "sink.py")], stdout=subprocess.PIPE, text=True)
    try:
        port = sink.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as folder:
            run("caller.py", f"{folder}/caller", port)
            run("large_print.py", f"{folder}/print")
            run("startup.py", f"{folder}/startup")
            run("burst.py", f"{folder}/burst")
            os.makedirs(f"{folder}/delivery")
            run("delivery.py", f"{folder}/delivery", port)
            run("serving.py", f"{folder}/serving", port)
            run("collecting.py", f"{folder}/collecting")
            run("reading.py", f"{folder}/reading")
            run("queries.py", f"{folder}/queries")
    finally:
        sink.terminate()
        sink.wait()


if __name__ == "__main__":
    main()
