"""
Our own transport: batches that are serialised already, through an azure-core pipeline.

The pipeline signs (where there is a credential), retries a connection that was
lost, and speaks to proxies. When to try again after an answer is decided by the
delivery loop, which can be woken and ended; a pipeline that sleeps cannot.
"""

from __future__ import annotations

import platform
from typing import Any
from urllib.parse import urlsplit

import scoretrace
from scoretrace import connections
from scoretrace.connections import is_loopback, said
from scoretrace.exporters.ingestion import Answer, Ingestion
from scoretrace.exporters.items import Send


def connect(target: connections.Ingestion, *, credential: Any = None) -> Send:
    """
    What sends envelopes to *target*; *credential* gives tokens for it, if the resource wants any.

    Needs azure-core, and azure-identity for a credential of the environment.
    """
    from azure.core.pipeline import Pipeline
    from azure.core.pipeline.policies import (
        BearerTokenCredentialPolicy,
        HeadersPolicy,
        ProxyPolicy,
        RedirectPolicy,
        RetryPolicy,
        UserAgentPolicy,
    )
    from azure.core.pipeline.transport import RequestsTransport
    from azure.core.rest import HttpRequest

    policies: list[Any] = [
        HeadersPolicy(),
        UserAgentPolicy(user_agent=f"scoretrace/{scoretrace.__version__} Python/{platform.python_version()}"),
        ProxyPolicy(),
        RedirectPolicy(permit_redirects=False),
        RetryPolicy(retry_total=1, retry_connect=1, retry_read=0, retry_status=0, retry_backoff_factor=0.1),
    ]
    if credential is not None:
        policies.append(BearerTokenCredentialPolicy(credential, f"{target.audience.rstrip('/')}//.default"))
    pipeline: Any = Pipeline(RequestsTransport(), policies)
    # A token travels in the clear only where it does not leave the machine.
    loopback = is_loopback(urlsplit(target.endpoint).hostname or "")
    tls: dict[str, Any] = {"enforce_https": False} if credential is not None and loopback else {}

    def post(url: str, headers: dict[str, str], body: bytes, timeout: float) -> Answer:
        request = HttpRequest("POST", url, headers=headers, content=body)
        response = pipeline.run(request, connection_timeout=timeout, read_timeout=timeout, **tls).http_response
        return Answer(response.status_code, response.headers, response.read())

    return Ingestion(target.endpoint, post, said)
