"""
Deliver through azure-monitor-opentelemetry-exporter: its client, its pipeline, its sign-in.

What it is not trusted with is deciding what becomes of a batch (it drops what
it does not understand), so the answers go to the delivery loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scoretrace import connections
from scoretrace.connections import said
from scoretrace.exporters.ingestion import Answer, Ingestion
from scoretrace.exporters.items import TIMEOUT_SECONDS, Send

# Its telemetry about itself, and the remote control of its settings, go to hosts that nobody named.
_QUIET = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
)


def connect(target: connections.Ingestion, *, credential: Any = None) -> Send:
    """What sends envelopes to *target* through the exporter that is made for it."""
    from azure.core.rest import HttpRequest
    from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter

    with _quiet():
        exporter: Any = AzureMonitorLogExporter(
            connection_string=(
                f"InstrumentationKey={target.i_key};IngestionEndpoint={target.endpoint};AADAudience={target.audience}"
            ),
            credential=credential,
            disable_offline_storage=True,  # the journal is that
            retry_total=0,
            read_timeout=TIMEOUT_SECONDS,
            timeout=TIMEOUT_SECONDS,
        )
    client = exporter.client
    send = getattr(client, "send_request", None) or client._send_request  # noqa: SLF001 - its name before 1.0.0b46

    def post(url: str, headers: dict[str, str], body: bytes, timeout: float) -> Answer:
        request = HttpRequest("POST", url, headers=headers, content=body)
        response = send(request, connection_timeout=timeout, read_timeout=timeout)
        return Answer(response.status_code, response.headers, response.read())

    return Ingestion(target.endpoint, post, said)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reads this from the environment, and only when it is made."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(dict.fromkeys(_QUIET, "true"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
