"""The real scoring server, started in an environment of its own on a free port of loopback."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv" / "scoring-server" / "bin" / "python"
SCRIPTS = ROOT / "tests" / "scripts"
ON = "import scoretrace\nscoretrace.configure()\n"  # the two lines

# Its own launcher; only the address it listens on is not one that others can reach.
_LAUNCH = "from azureml_inference_server_http import amlserver; amlserver.DEFAULT_HOST = '127.0.0.1'; amlserver.run()"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TWO = json.dumps({"data": [[1, 2], [3, 4]]})
ECHO = """
import json, logging, os, sys, time

def init():
    print("ready")

def run(data):
    print(json.dumps({"input": data}))
    logging.getLogger("score").info("logged", extra={"rows": 1})
    sys.stdout.write("written\\n")
    sys.stderr.write("complained\\n")
    if data.startswith("sleep"):
        time.sleep(float(data.split()[1]))
    if data == "fail":
        raise ValueError("no good")
    if data == "odd":
        return {1, 2}
    return {"got": data}
"""


def python():
    """The interpreter of the server's environment; the test ends here where there is none."""
    if not PYTHON.exists():
        message = "there is no environment with azureml-inference-server-http: `make test` makes it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    return str(PYTHON)


class Server:
    """One that runs, with the script *source*; `post` and `get` call it."""

    def __init__(self, folder, home, source, *, workers=1, on=ON, logging_json=None, ready=True, **environment):
        self.folder, self.home = folder, home
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "score.py").write_text(on + source, encoding="utf-8")
        if logging_json is not None:
            (folder / "logging.json").write_text(json.dumps(logging_json))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = folder / "log.txt"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        named = {"SERVICE_NAME": "diabetes", "WORKSPACE_NAME": "team", "HOSTNAME": "pod-1", "AML_APP_ROOT": str(folder)}
        options = ["--entry_script", "score.py", "--port", str(self.port), "--worker_count", str(workers)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [python(), "-c", _LAUNCH, *options],
                cwd=folder,
                env={**inherited, **named, "SCORETRACE_HOME": str(home), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if ready:
            self._wait()

    def _wait(self):
        end = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.05)

    def _answers(self):
        try:
            return self.get("/")[0] == 200
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def call(self, method, path, body=None, headers=(), timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **dict(headers)})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.call("GET", path, None, headers)

    def post(self, body, headers=(), path="/score"):
        return self.call("POST", path, body, headers)

    def workers(self):
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]

    def text(self):
        return self.log.read_text("utf-8", "replace")

    def kill(self):
        """SIGKILL to all of them."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        """SIGTERM, as an orchestrator does it."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def inside(found, request):
    """The rows of a request, but for itself."""
    return [item for item in found if item.operation_id == request.operation_id and item.kind != "request"]


def printed(found):
    return [item.custom_dimensions["Contents"] for item in found if item.kind == "trace" and item.message == "STDOUT"]
