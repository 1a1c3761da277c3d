"""
Deliver through opencensus-ext-azure: its transport, which posts and reads the answer.

It is deprecated and does not say what became of each item, only that a batch is
done, to be repeated or dropped. What it tells on the side (what it would store,
what it logs, what it counts) is enough to know.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import msgspec

from scoretrace.connections import Ingestion, said
from scoretrace.exporters.ingestion import allowed
from scoretrace.exporters.items import Send
from scoretrace.exporters.replies import Reply, reply_of


class _Told(logging.Filter):
    """Takes what the transport says of single items, instead of the console, which would show whole envelopes."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[tuple[Any, Any, Any]] = []
        self.thread = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self.thread:  # somebody's own exporter
            return True
        if isinstance(record.args, tuple) and len(record.args) == 3:
            status, message, envelope = record.args
            self.refused.append((status, message, envelope))
        return False


class _Stored:
    """Stands where the transport keeps what is to be sent again."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    def put(self, envelopes: list[Any], *_: Any) -> None:
        self.envelopes += envelopes


_TOLD = _Told()


def connect(target: Ingestion, *, credential: Any = None) -> Send:
    """What sends envelopes to *target* through OpenCensus."""
    from opencensus.ext.azure.common import Options, transport

    told = _TOLD
    told.thread = 0  # a child may have been forked in the middle of a batch
    transport.logger.addFilter(told)  # once, however often it is connected

    class Checked(Options):  # type: ignore[misc]
        """Where it is redirected to is asked of us: it would follow anybody's header, with the token."""

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "endpoint" and told.thread and allowed(f"{self.endpoint}/v2.1/track", value) is None:
                raise ConnectionError("redirected to a host that is not Azure's")
            super().__setattr__(name, value)

    class Transport(transport.TransportMixin):  # type: ignore[misc]
        def __init__(self) -> None:
            self.options = Checked(
                connection_string=f"InstrumentationKey={target.i_key};IngestionEndpoint={target.endpoint}",
                credential=credential,
                enable_local_storage=False,
            )
            self.storage = _Stored()
            self._consecutive_redirects = 0

        def _check_stats_collection(self) -> bool:
            # It counts in memory then, by status; nothing is sent. Without it, it drops what it could not send.
            return True

        def _is_stats_exporter(self) -> bool:
            return False

    way = Transport()
    counted = transport._requests_map  # noqa: SLF001 - it has no other way to say which status it got

    def send(envelopes: list[bytes], timeout: float) -> Reply:
        batch = [msgspec.json.decode(envelope) for envelope in envelopes]
        told.refused, told.thread, way.storage = [], threading.get_ident(), _Stored()
        counted.clear()
        way.options.timeout = timeout
        try:
            result = way._transmit(batch)  # noqa: SLF001 - what its exporters call
        except Exception as error:  # noqa: BLE001 - requests and credentials raise what they like
            return Reply(reason=said(error))
        finally:
            told.thread = 0
            way._consecutive_redirects = 0  # noqa: SLF001
        if result != transport.TransportStatusCode.SUCCESS:
            way.options.endpoint = target.endpoint  # a host that it was sent to may be gone
        return _reply(result == transport.TransportStatusCode.SUCCESS, batch, way.storage.envelopes, told, counted)

    return send


def _reply(done: bool, batch: list[Any], stored: list[Any], told: _Told, counted: dict[str, Any]) -> Reply:
    if done:
        return Reply()
    for kind in ("retry", "throttle", "failure"):
        for status in counted.get(kind, ()):
            return reply_of(int(status), b"", {}, len(batch))
    problems = counted.get("exception")
    if problems:
        return Reply(reason=", ".join(map(str, problems)))
    # A part was accepted: what it would store is to be sent again, and it said why of what it dropped.
    places = {id(envelope): index for index, envelope in enumerate(batch)}
    dropped = [(status, message, envelope) for status, message, envelope in told.refused if id(envelope) in places]
    errors = [
        {"index": places[id(envelope)], "statusCode": int(status), "message": str(message)}
        for status, message, envelope in (*dropped, *((500, "", envelope) for envelope in stored))
    ]
    if not errors:
        return Reply(reason="OpenCensus dropped the batch without a word")
    return reply_of(206, msgspec.json.encode({"errors": errors}), {}, len(batch))
