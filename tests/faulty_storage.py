"""A proxy in front of a storage account that loses answers, refuses, and lets requests arrive late."""

import contextlib
import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from conftest import ACCOUNT

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class FaultyStorage:
    """
    Passes requests on to *azurite*, and does *odds* of the appends wrong: pairs of a fault and how likely it is.

    The faults are ``lost`` (done, but the answer never comes), ``refused`` (503),
    ``conflict`` (409, as while a container is being removed),
    ``late`` (the connection ends, and it is done afterwards), ``cut`` (the
    connection ends, and it is never done), ``busy`` (503 with a Retry-After)
    and ``short`` (the connection ends in the middle of the answer). With
    *reads* they happen to what is read instead.
    """

    def __init__(self, azurite, odds=(), *, reads=False):
        target = urlsplit(azurite.partition("BlobEndpoint=")[2])
        self.odds = dict(odds)
        self.random = random.Random(1)
        self.reads = reads
        self.before = lambda _request: None
        self.requests, self.ranges = [], {}
        self.happened = dict.fromkeys(("lost", "refused", "conflict", "late", "cut", "busy", "short"), 0)
        self.late = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args):
                pass

            def do_anything(self):
                self.server.faulty.handle(self, target)

            do_GET = do_PUT = do_HEAD = do_anything  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_args: None
        self.server.faulty = self
        self.connection_string = f"{ACCOUNT};BlobEndpoint=http://127.0.0.1:{self.server.server_port}/devstoreaccount1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        """Let what is late arrive, and end."""
        for thread in self.late:
            thread.join()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def handle(self, request, target):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append(f"{request.command} {request.path}")
        self.ranges[self.requests[-1]] = request.headers.get("Range")
        self.before(request)
        chosen = request.command == "GET" if self.reads else "comp=appendblock" in request.path
        fault = self.fault() if chosen else None

        def pass_on():
            connection = http.client.HTTPConnection(target.hostname, target.port, timeout=30)
            with contextlib.closing(connection):
                connection.request(request.command, request.path, body, dict(request.headers))
                answer = connection.getresponse()
                headers = {name.lower(): value for name, value in answer.getheaders()}
                return answer.status, headers, answer.read()

        if fault == "late":
            timer = threading.Timer(0.3, pass_on)
            self.late.append(timer)
            timer.start()
        if fault == "lost":
            pass_on()
        if fault in {"late", "lost", "cut"}:
            request.close_connection = True
            return
        if fault in {"refused", "conflict", "busy"}:
            request.send_response(409 if fault == "conflict" else 503)
            request.send_header("x-ms-error-code", "ContainerBeingDeleted" if fault == "conflict" else "ServerBusy")
            if fault == "busy":
                request.send_header("Retry-After", "1")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        status, headers, content = pass_on()
        request.send_response_only(status)
        if request.command != "HEAD":  # whose answer has a length and nothing that long
            headers["content-length"] = str(len(content))
        for name, value in headers.items():
            if name not in HOP_BY_HOP:
                request.send_header(name, value)
        request.end_headers()
        if fault == "short":
            content = content[: len(content) // 2]
            request.close_connection = True
        request.wfile.write(content)

    def fault(self):
        chance = self.random.random()
        for name, odds in self.odds.items():
            chance -= odds
            if chance < 0:
                self.happened[name] += 1
                return name
        return None
