"""
Run a scoring script on this machine as the scoring server would: `init()` once, `run()` for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from scoretrace import compat, process
from scoretrace.capture.requests import is_timed
from scoretrace.capture.values import as_json
from scoretrace.errors import ScriptError

_SERVER = "azureml_inference_server_http"


class Outcome(NamedTuple):
    """
    What became of one request: its *line* in the file (from 1), and its *response* as JSON text or its *error*.

    *is_request* is False for a line that is not JSON and was not scored.
    """

    line: int
    response: str = ""
    error: str = ""
    is_request: bool = True


def score(
    script: str | os.PathLike[str],
    requests: str | os.PathLike[str] | Iterable[bytes],
    *,
    done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """
    Score each line of *requests* (a file of JSON lines, or the lines) with the script's ``init()`` and ``run()``.

    `run` gets what the server would give it for a POST with that body: the text,
    the values that inference-schema's decorators ask for, or with ``@rawhttp`` a
    Flask request. A parameter called ``request_headers`` gets an empty
    dictionary, an async `run` is awaited, and a stream is read to its end. Azure
    ML's own packages are answered for where they are not installed (see
    `scoretrace.compat`). Each
    call is a request of the current telemetry, which
    `configure` starts with the environment's settings if there is none. A `run`
    that raises is a failed request; the next line is scored all the same.
    Blank lines are passed over. *done* is called with each outcome.

    Raises:
        ScriptError: the script cannot be read or imported, has no `run`, or its `init` fails.
    """
    if process.current() is None:
        process.configure()
    lines = _lines(requests)
    module = _load(Path(script))
    run = _run_of(module, script)
    _init(module, script)
    outcomes = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        outcome = _score_line(run, number, line)
        outcomes.append(outcome)
        if done is not None:
            done(outcome)
    return outcomes


def _lines(requests: str | os.PathLike[str] | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(requests, (str, os.PathLike)):
        try:
            return Path(requests).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
        except OSError as error:
            raise ScriptError(f"the requests cannot be read: {error}") from error
    return requests


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise ScriptError(f"there is no script {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"{path} is not a Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # as the server has it: what the script pickles must find its module
    if importlib.util.find_spec(_SERVER) is not None:
        importlib.import_module(f"{_SERVER}.server")  # answers for azureml.contrib.services, as behind the server
        sys.modules[f"{_SERVER}.api.aml_request"]._rawHttpRequested = False  # type: ignore[attr-defined] # noqa: SLF001
    compat.install()
    folder = str(path.absolute().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(f"{path} cannot be imported", error) from error
    return module


def _failed(what: str, error: BaseException) -> ScriptError:
    """The error of the script as one of ours; it is a row too, since it ends what would have been a service."""
    current = process.current()
    if current is not None:
        current.exception(error, severity_level=4)
    return ScriptError(f"{what}: {type(error).__name__}: {error}")


def _run_of(module: ModuleType, script: str | os.PathLike[str]) -> Callable[[str], Any]:
    run = getattr(module, "run", None)
    if not callable(run):
        raise ScriptError(f"{os.fspath(script)} has no function run(): a scoring script has init() and run(data)")
    arguments = _arguments_of(run)

    def call(body: str) -> Any:
        with _context(body) as request:
            return _whole(run(**arguments(body if request is None else request)))

    return call if is_timed(run) else process.request(name="run")(call)


def _is_raw() -> bool:
    """Whether the script asked for the whole request, with ``@rawhttp``."""
    return bool(getattr(sys.modules.get(f"{_SERVER}.api.aml_request"), "_rawHttpRequested", False))


@contextlib.contextmanager
def _context(body: str) -> Iterator[Any]:
    """The Flask request of a POST of *body*, current for Flask's own functions; None where nobody asked for it."""
    if not _is_raw():
        yield None
        return
    from flask import Flask, request
    from werkzeug.test import EnvironBuilder

    environ = EnvironBuilder("/score", method="POST", data=body, content_type="application/json").get_environ()
    with Flask("score").request_context(environ):
        yield request


def _arguments_of(run: Callable[..., Any]) -> Callable[[Any], dict[str, Any]]:
    """How the scoring server makes of a body what *run* is called with."""
    parameters = dict(inspect.signature(run).parameters)
    extra: dict[str, Any] = {"request_headers": {}} if parameters.pop("request_headers", None) else {}
    schema = sys.modules.get("inference_schema.schema_util")
    if schema is None or _is_raw() or not schema.is_schema_decorated(run):
        first = next(iter(parameters), "data")
        return lambda body: {first: body, **extra}

    def values(body: str) -> dict[str, Any]:
        given = json.loads(body)
        if not isinstance(given, dict):
            raise ValueError("the line should be a JSON object: run() is decorated with a schema")  # noqa: TRY004
        missing = [name for name, one in parameters.items() if name not in given and one.default is one.empty]
        if missing:
            raise ValueError(f"a value is not provided for the {missing[0]!r} parameter of run()")
        return {name: given.get(name, one.default) for name, one in parameters.items()} | extra

    return values


def _whole(value: Any) -> Any:
    """What `run` returned, read to its end: an async one, a stream, a response that streams."""
    if inspect.isasyncgen(value):
        value = _collected(value)
    if inspect.iscoroutine(value):
        value = asyncio.run(value)
    if inspect.isgenerator(value):
        return list(value)
    if hasattr(value, "status_code") and hasattr(value, "get_data"):
        value.direct_passthrough = False  # of a file, which the server would send by itself
        value.get_data()
    return value


async def _collected(pieces: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in pieces]


def _init(module: ModuleType, script: str | os.PathLike[str]) -> None:
    init = getattr(module, "init", None)
    if init is None:
        return
    try:
        init()
    except (Exception, SystemExit) as error:
        raise _failed(f"init() of {os.fspath(script)} failed", error) from error


def _score_line(run: Callable[[str], Any], number: int, line: bytes) -> Outcome:
    try:
        body = line.decode()
        json.loads(body)  # what the script's own json.loads would say, NaN included
    except (ValueError, RecursionError) as error:
        return Outcome(number, error=f"not JSON: {error}", is_request=False)
    try:
        value = run(body)
        return Outcome(number, response=_response(value))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the script's own, and a row of its own by now
        return Outcome(number, error=f"{type(error).__name__}: {error}{_place(error)}")


def _place(error: BaseException) -> str:
    """Where in which file it was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return ""
    return f" ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"


def _response(value: Any) -> str:
    if hasattr(value, "status_code") and hasattr(value, "get_data"):
        text: str = value.get_data(as_text=True)
        return text if value.mimetype == "application/json" else msgspec.json.encode(text).decode()
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return as_json(value)
