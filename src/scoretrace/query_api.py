"""
The query API of Azure Monitor on this machine: what its clients send, answered from a home.

`POST /v1/apps/{app}/query`, `/v1/workspaces/{id}/query` and `/v1/{resource}/query`
(also below `/v1/resources/`) take ``{"query": ..., "timespan": ...}`` and give the
service's JSON. The ids in the address are not looked at: there is one home.

Source: Microsoft's reference of the Application Insights and Log Analytics
query APIs, version 1.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from scoretrace.errors import QueryError, QuerySyntaxError, QueryTimeoutError, ScoretraceError, SourceError
from scoretrace.kql import literals
from scoretrace.moments import duration
from scoretrace.result import Result

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_SECONDS = 180.0  # a query may take, unless the client says how long; the service's own limit
_MOST_SECONDS = 600.0
_MOST_ROWS = 500_000  # of an answer: service limits of Azure Monitor
_LOOK_SECONDS = 0.2  # whether the client is still there
_BODY_BYTES = 1024**2


def answer(
    home: Path, body: dict[str, Any], prefer: str = "", is_unwanted: Callable[[], bool] = lambda: False
) -> tuple[int, dict[str, Any]]:
    """
    The status and the JSON with which the service answers a request.

    *prefer* is the header of that name: ``wait=`` so many seconds, and whether
    statistics and what is to be rendered are wanted.
    """
    from scoretrace import engine

    asked = body.get("query")
    if not isinstance(asked, str) or not asked.strip():
        return 400, _error("BadArgumentError", "The request had some invalid properties", "the body has no query")
    wishes = dict(part.strip().partition("=")[::2] for part in prefer.split(","))
    try:
        timespan = _timespan(body.get("timespan"))
        wait = min(float(wishes.get("wait", _SECONDS)), _MOST_SECONDS)
    except (QueryError, ValueError) as error:
        return 400, _error("BadArgumentError", "The request had some invalid properties", str(error))
    try:
        result = engine.answer(asked, home, engine.window_of(timespan), wait, is_unwanted=is_unwanted)
    except SourceError as error:
        return 404, _error("PathNotFoundError", "The requested path does not exist", str(error))
    except QueryTimeoutError as error:
        return 504, _error("GatewayTimeout", "The query took too long", str(error))
    except QueryError as error:
        return 400, _refused(error)
    except ScoretraceError as error:
        return 500, _error("InternalServerError", "The query could not be run", str(error))
    return 200, _encoded(result, wishes)


def _timespan(said: Any) -> Any:
    """
    A duration, or two times with a slash between, as the API has it.

    Raises:
        QueryError: it is neither.
    """
    if said in (None, ""):
        return None
    first, slash, second = str(said).partition("/")
    if not slash:
        return duration(first)
    start, end = _moment(first), _moment(second)
    if start is None and end is None:
        raise QueryError(f"{said!r:.80} is no timespan")
    if start is None and end is not None:
        return _sum(end, -duration(first)), end
    if end is None and start is not None:
        return start, _sum(start, duration(second))
    return start, end


def _sum(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment + span
    except OverflowError as error:
        raise QueryError(f"a timespan of {span.days} days reaches beyond the calendar") from error


def _moment(written: str) -> datetime | None:
    found = literals.datetime_ticks(written)
    return None if found is None else literals.moment_of(found).replace(tzinfo=timezone.utc)


def _encoded(result: Result, wishes: dict[str, str]) -> dict[str, Any]:
    kinds = result.types
    rows = [[_cell(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in result.rows[:_MOST_ROWS]]
    columns = [{"name": name, "type": kind} for name, kind in zip(result.columns, kinds, strict=True)]
    made: dict[str, Any] = {"tables": [{"name": "PrimaryResult", "columns": columns, "rows": rows}]}
    if len(result.rows) > _MOST_ROWS:
        said = f"the answer has {len(result.rows):,} rows, of which {_MOST_ROWS:,} are here"
        made["error"] = {"code": "PartialError", "message": "There were some errors when processing your query.",
                         "details": [{"code": "EngineError", "message": said}]}  # fmt: skip
    if wishes.get("include-render") == "true":
        rendering = result.rendering
        made["render"] = {
            "visualization": rendering.kind if rendering is not None else None,
            **(rendering.properties if rendering is not None else {}),
        }
    if wishes.get("include-statistics") == "true":
        made["statistics"] = {"query": {"executionTime": result.seconds, "rowCount": len(result.rows)}}
    return made


def _cell(value: Any, kind: str) -> Any:
    """A value as the service writes it in JSON."""
    if kind == "dynamic":
        return None if value is None else msgspec.json.encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
    if isinstance(value, timedelta):
        return literals.timespan_text(value // timedelta(microseconds=1) * literals.MICROSECOND)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _error(code: str, message: str, inner: str, inner_code: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"code": code, "message": message}
    found["innererror"] = {"code": inner_code or code, "message": inner}
    return {"error": found}


def _refused(error: QueryError) -> dict[str, Any]:
    kind = "SyntaxError" if isinstance(error, QuerySyntaxError) else "SemanticError"
    found = _error("BadArgumentError", "The request had some invalid properties", str(error), kind)
    if error.line is not None:
        found["error"]["innererror"]["line"] = error.line
        found["error"]["innererror"]["pos"] = error.column
    return found


def routes(home: Path) -> list[Route]:
    """The routes of the API, over *home*."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response
    from starlette.routing import Route

    async def ask(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _BODY_BYTES:
                return made(413, _error("BadArgumentError", "The request is too large", f"{_BODY_BYTES:,} bytes"))
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            return made(400, _error("BadArgumentError", "The request had some invalid properties", str(error)))
        if not isinstance(said, dict):
            return made(400, _error("BadArgumentError", "The request had some invalid properties", "no JSON object"))
        return await answered(request, said)

    async def asked(request: Request) -> Response:
        return await answered(request, dict(request.query_params))

    async def answered(request: Request, said: dict[str, Any]) -> Response:
        """The answer of a query, which ends when its client has left, or the server does."""
        unwanted = threading.Event()
        work = run_in_threadpool(answer, home, said, request.headers.get("prefer", ""), unwanted.is_set)
        running = asyncio.ensure_future(work)
        is_ending = getattr(request.app.state, "is_ending", bool)
        while not (await asyncio.wait({running}, timeout=_LOOK_SECONDS))[0]:
            if is_ending() or await request.is_disconnected():
                unwanted.set()
        return made(*await running)

    def made(status: int, found: dict[str, Any]) -> Response:
        return Response(msgspec.json.encode(found), status, media_type="application/json")

    paths = ("/v1/apps/{app}/query", "/v1/workspaces/{workspace}/query", "/v1/resources/{resource:path}/query")
    shared = "/v1/{resource:path}/query"  # as azure-monitor-query asks for a resource
    return [
        route
        for path in (*paths, shared)
        for route in (Route(path, ask, methods=["POST"]), Route(path, asked, methods=["GET"]))
    ]
