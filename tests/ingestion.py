"""A loopback ingestion endpoint that can be told to fail, in a thread of the tests."""

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "12345678-90ab-cdef-1234-567890abcdef"


def accepted(count):
    return 200, {}, {"itemsReceived": count, "itemsAccepted": count, "errors": []}


def partly(count, errors):
    """A 206: *errors* are (index, status, message)."""
    listed = [{"index": index, "statusCode": status, "message": message} for index, status, message in errors]
    return 206, {}, {"itemsReceived": count, "itemsAccepted": count - len(listed), "errors": listed}


class Endpoint:
    """
    What was posted is in `batches`, what was accepted in `envelopes`.

    `answers` holds what the next requests get: a status, a (status, headers,
    body) triple, or a function of the batch that returns one of those; after
    them everything is accepted. A status of 0 closes the connection.
    """

    def __init__(self, port=0):
        self.batches = []
        self.requests = []
        self.envelopes = []
        self.answers = []
        self.always = None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # senders that are killed in the middle are what it is for
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def connection_string(self):
        return f"InstrumentationKey={KEY};IngestionEndpoint={self.url}/"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def messages(self):
        return [envelope["data"]["baseData"].get("message") for envelope in self.envelopes]

    def ids(self):
        return [envelope["data"]["baseData"]["properties"]["scoretrace_item_id"] for envelope in self.envelopes]

    def wait_for(self, count, seconds=30):
        """Wait until *count* envelopes were accepted, for a bounded time; the caller asserts what it wants."""
        end = time.monotonic() + seconds
        while len(self.envelopes) < count and time.monotonic() < end:
            time.sleep(0.02)
        return len(self.envelopes)

    def _answer(self, batch):
        with self._lock:
            answer = self.answers.pop(0) if self.answers else (self.always or accepted(len(batch)))
            if callable(answer):
                answer = answer(batch)
            if isinstance(answer, int):
                answer = (answer, {}, {})
            status, headers, body = answer
            if status in {200, 206} and isinstance(body, dict) and body["errors"] is not None:
                bad = {error["index"] for error in body["errors"]}
                self.envelopes += [envelope for index, envelope in enumerate(batch) if index not in bad]
            return status, headers, (body if isinstance(body, str) else json.dumps(body)).encode()

    def _handler(self):
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its own headers

            def do_POST(self):
                length = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(length)
                if len(raw) < length:  # the sender died in the middle
                    self.close_connection = True
                    return
                body = gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw
                batch = json.loads(body)
                endpoint.requests.append((self.path, dict(self.headers), len(body)))
                endpoint.batches.append(batch)
                status, headers, answer = endpoint._answer(batch)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return Handler
