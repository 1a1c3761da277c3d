"""
Send batches to an ingestion endpoint, whichever pipeline carries them.

Redirects are followed here and not in the pipeline: the new host is kept, and
only one that belongs to the same host or to Azure is accepted, so that neither
telemetry nor a token goes where somebody's `Location` header points.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from scoretrace.exporters.replies import Reply, reply_of

# Ingestion hosts of the public and the sovereign clouds.
AZURE_SUFFIXES = (
    ".applicationinsights.azure.com",
    ".applicationinsights.azure.us",
    ".applicationinsights.azure.cn",
    ".applicationinsights.us",
    ".monitor.azure.com",
    ".monitor.azure.us",
    ".monitor.azure.cn",
    ".services.visualstudio.com",
)
_REDIRECTS = 10
_GZIP = 16 + zlib.MAX_WBITS


class Answer(NamedTuple):
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# URL, headers, body and seconds; raises where no answer came.
Post = Callable[[str, dict[str, str], bytes, float], Answer]


class Ingestion:
    """The endpoint that *url* names (without its path), through *post*."""

    def __init__(self, url: str, post: Post, said: Callable[[BaseException], str]) -> None:
        self.url = self._origin = url
        self._post = post
        self._said = said
        self._gzip = True

    def __call__(self, envelopes: list[bytes], timeout: float) -> Reply:
        """Send *envelopes* within *timeout* seconds for each step; never raises."""
        body = b"[%b]" % b",".join(envelopes)
        try:
            answer = self._send(body, timeout)
        except Exception as error:  # noqa: BLE001 - azure-core, requests and credentials raise what they like
            reply = Reply(reason=f"no answer from {self.url}: {self._said(error)}")
            self.url = self._origin  # a host that it was sent to may be gone
            return reply
        reply = reply_of(answer.status, answer.body, answer.headers, len(envelopes))
        if reply.reason:
            reply = reply._replace(reason=f"{reply.reason} from {self.url}")
        if answer.status == 404:
            self.url = self._origin
        return reply

    def _send(self, body: bytes, timeout: float) -> Answer:
        if not self._gzip:
            return self._follow(body, {}, timeout)
        answer = self._follow(_gzip(body), {"Content-Encoding": "gzip"}, timeout)
        if answer.status == 415 or (answer.status == 400 and b'"index"' not in answer.body):
            # It may be the compression that was refused: the service names an item where it is an item.
            plain = self._follow(body, {}, timeout)
            if plain.status != answer.status:
                self._gzip = False
                return plain
        return answer

    def _follow(self, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": "application/json", **headers}
        for _ in range(_REDIRECTS):
            url = f"{self.url}/v2.1/track"
            answer = self._post(url, dict(headers), body, timeout)
            location = next((value for name, value in answer.headers.items() if name.lower() == "location"), "")
            if answer.status not in {307, 308} or not location:
                return answer
            base = allowed(url, location)
            if base is None:
                raise ConnectionError(f"redirected from {urlsplit(url).hostname} to a host that is not Azure's")
            self.url = base
        raise ConnectionError("redirected in a circle")


def allowed(url: str, location: str) -> str | None:
    """
    Where *location* sends whoever asked *url*, without the path of `track`; None where that is not to be followed.

    >>> allowed("https://dc.services.visualstudio.com/v2.1/track", "https://evil.example/v2.1/track")
    """
    target = urljoin(url, location)
    here, there = urlsplit(url), urlsplit(target)
    if here.scheme == "https" and there.scheme != "https":
        return None
    hosts = [(parts.hostname or "").lower() for parts in (here, there)]
    if hosts[0] != hosts[1] and not all(host.endswith(AZURE_SUFFIXES) for host in hosts):
        return None
    path = there.path.rstrip("/")
    for end in ("/v2.1/track", "/v2/track"):
        path = path.removesuffix(end)
    return f"{there.scheme}://{there.netloc}{path}"


def _gzip(body: bytes) -> bytes:
    squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return squeeze.compress(body) + squeeze.flush()
