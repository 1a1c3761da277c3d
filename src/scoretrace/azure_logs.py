"""
Queries in Azure: of an Application Insights resource, or of a Log Analytics workspace.

Through azure-monitor-query, with the same text and the same Result as here.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import time
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from scoretrace import bundled
from scoretrace.connections import is_loopback
from scoretrace.errors import MissingExtraError, QueryError, SourceError
from scoretrace.kql import literals
from scoretrace.kql.compiler import Rendering
from scoretrace.kql.parser import parse
from scoretrace.kql.syntax import names_in
from scoretrace.result import Result
from scoretrace.schema import BY_CLASSIC

SCHEME = "azure:"
ENDPOINT = "SCORETRACE_LOGS_ENDPOINT"  # of another cloud than the public one
_RESOURCE = re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/.+", re.IGNORECASE)
_WAYS = (
    "give azure:/subscriptions/<id>/resourceGroups/<group>/providers/microsoft.insights/components/<name>, as the "
    "portal's Properties page shows it, or azure:<workspace id>"
)

Window = tuple[datetime | None, datetime | None]


def is_azure(source: str | os.PathLike[str] | None) -> bool:
    """Whether *source* is one in Azure rather than on this machine."""
    return isinstance(source, str) and source.startswith(SCHEME)


def target(source: str) -> tuple[str, bool]:
    """
    The id that *source* names, and whether it is a workspace's.

    Raises:
        SourceError: it names none.
    """
    name = source.removeprefix(SCHEME).strip()
    if literals.guid(name) is not None:
        return name, True
    if _RESOURCE.fullmatch(name) is None:
        raise SourceError(f"{source} is no resource: {_WAYS}")
    return name, False


def query(
    source: str,
    text: str,
    window: Window,
    *,
    timeout: float | None = None,
    credential: Any = None,
    endpoint: str = "",
    retries: int = 3,
) -> Result:
    """
    The rows of a query in Azure.

    *credential* is `DefaultAzureCredential` unless given, *endpoint* that of the
    public cloud, or of ``SCORETRACE_LOGS_ENDPOINT``. A workspace is asked for its
    own tables.

    Raises:
        QueryError: the service refuses the query; with its message.
        SourceError: *source* is no id, or the service cannot be reached.
        MissingExtraError: azure-monitor-query is not installed.
    """
    began = time.monotonic()
    name, is_workspace = target(source)
    try:
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.monitor.query import LogsQueryClient
    except ImportError as error:
        raise MissingExtraError("a query in Azure", "azure-query") from error
    endpoint = endpoint or os.environ.get(ENDPOINT, "")
    options: dict[str, Any] = {"timespan": _timespan(window), "include_visualization": True}
    if timeout is not None:
        options["server_timeout"] = max(int(timeout), 1)
    if endpoint.startswith("http://") and is_loopback(urlsplit(endpoint).hostname or ""):
        options["enforce_https"] = False
    arguments: dict[str, Any] = {"retry_total": retries}
    if endpoint:
        arguments["endpoint"] = endpoint
    client = LogsQueryClient(credential or _default_credential(), **arguments)
    try:
        with client:
            if is_workspace:
                answer = client.query_workspace(name, _in_workspace(text), **options)
            else:
                answer = client.query_resource(name, text, **options)
    except HttpResponseError as error:
        raise QueryError(f"Azure refuses the query: {_said(error)}") from error
    except AzureError as error:
        raise SourceError(f"{urlsplit(endpoint).netloc or 'Azure'} cannot be asked: {error}") from error
    return _result(answer, time.monotonic() - began)


def _default_credential() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise MissingExtraError("a query in Azure", "azure-query") from error
    return DefaultAzureCredential()


def _in_workspace(text: str) -> str:
    """A query over classic tables as one over those of a workspace."""
    parsed = parse(text)
    return bundled.for_workspace(text) if names_in((*parsed.lets, parsed.body)) & set(BY_CLASSIC) else text


def _timespan(window: Window) -> Any:
    start, end = window
    if start is None:
        return None
    return (start, end) if end is not None else (start, datetime.now(start.tzinfo))


def _said(error: Any) -> str:
    """The innermost message of an answer of the service, which says what is wrong where."""
    try:
        found = json.loads(error.response.text())["error"]
        while isinstance(found.get("innererror"), dict):
            found = found["innererror"]
        return str(found.get("message") or error.message)
    except (AttributeError, KeyError, TypeError, ValueError):
        return str(error.message or error)


def _result(answer: Any, seconds: float) -> Result:
    found = getattr(answer, "tables", None)
    partial = ""
    if found is None:
        found = answer.partial_data
        problem = answer.partial_error
        partial = f"{getattr(problem, 'code', '')}: {getattr(problem, 'message', problem)}".lstrip(": ")
    if not found:
        return Result([], [], [], seconds=seconds, partial=partial)
    table = found[0]
    return Result(
        table.columns,
        table.columns_types,
        [tuple(map(_value, row, table.columns_types)) for row in table.rows],
        rendering=_rendering(answer.visualization),
        seconds=seconds,
        partial=partial,
    )


def _rendering(found: Any) -> Rendering | None:
    if not isinstance(found, dict) or not found.get("visualization"):
        return None
    return Rendering(found["visualization"], {key: value for key, value in found.items() if value is not None})


def _value(value: Any, kind: str) -> Any:
    """A value of the service as `Result` has it."""
    if value is None:
        return None
    if kind == "dynamic" and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if kind == "timespan":
        ticks = literals.timespan_ticks(str(value))
        return value if ticks is None else timedelta(microseconds=ticks / literals.MICROSECOND)
    if kind == "real" and isinstance(value, str):
        return float(value)
    return bool(value) if kind == "bool" else value


def portal_link(source: str, text: str) -> str:
    """
    Where in the portal a query can be looked at and run.

    Raises:
        SourceError: *source* is no resource in Azure.
    """
    name, is_workspace = target(source) if is_azure(source) else ("", True)
    if is_workspace:
        raise SourceError(f"a link needs a resource: {_WAYS.partition(', or')[0]}")
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    blade = "https://portal.azure.com/#blade/Microsoft_Azure_Monitoring_Logs/LogsBlade"
    shared = "source/LogsBlade.AnalyticsShareLinkToQuery"
    return f"{blade}/resourceId/{quote(name, safe='')}/{shared}/q/{quote(packed, safe='')}"
