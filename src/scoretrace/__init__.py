"""
Application Insights telemetry for Azure ML scoring scripts: never cut, never lost, readable on a laptop.

    import scoretrace

    scoretrace.configure()

From here on what the script prints and logs is on disk before the call returns,
and `scoretrace query "traces | take 10"` reads it back.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoretrace.collect.collector import BasicCorrelationContext, Collector
    from scoretrace.collect.model_data_collector import ModelDataCollector
    from scoretrace.compaction import compact
    from scoretrace.diagnosis import doctor
    from scoretrace.engine import portal_link, queries, query
    from scoretrace.errors import (
        CollectionError,
        FormatError,
        MissingExtraError,
        PayloadChanged,
        PayloadError,
        PayloadNotFound,
        QueryError,
        QuerySyntaxError,
        QueryTimeoutError,
        ScoretraceError,
        ScriptError,
        ServiceError,
        ServiceNotFound,
        SettingsError,
        SourceError,
        UnknownNameError,
        UnsupportedQuery,
    )
    from scoretrace.exports import Export, read_export
    from scoretrace.guarding import guard
    from scoretrace.item import map_texts
    from scoretrace.mirror import sync
    from scoretrace.model_data import read_model_data
    from scoretrace.payloads import payload
    from scoretrace.pipelines import (
        GuardedLogExporter,
        GuardedSpanExporter,
        JournalLogExporter,
        JournalSpanExporter,
    )
    from scoretrace.process import TelemetryHandler, configure, log, request, request_context
    from scoretrace.scoring import score
    from scoretrace.service.updating import update
    from scoretrace.service.webservice import AciWebservice, AksWebservice, Webservice
    from scoretrace.telemetry import Telemetry

__version__ = "0.1.0"

__all__ = [
    "AciWebservice",
    "AksWebservice",
    "BasicCorrelationContext",
    "CollectionError",
    "Collector",
    "Export",
    "FormatError",
    "GuardedLogExporter",
    "GuardedSpanExporter",
    "JournalLogExporter",
    "JournalSpanExporter",
    "MissingExtraError",
    "ModelDataCollector",
    "PayloadChanged",
    "PayloadError",
    "PayloadNotFound",
    "QueryError",
    "QuerySyntaxError",
    "QueryTimeoutError",
    "Result",
    "ScoretraceError",
    "ScriptError",
    "ServiceError",
    "ServiceNotFound",
    "SettingsError",
    "SourceError",
    "Telemetry",
    "TelemetryHandler",
    "UnknownNameError",
    "UnsupportedQuery",
    "Webservice",
    "compact",
    "configure",
    "doctor",
    "guard",
    "log",
    "map_texts",
    "payload",
    "portal_link",
    "queries",
    "query",
    "read_export",
    "read_model_data",
    "request",
    "request_context",
    "score",
    "sync",
    "update",
]

_HOMES = {
    **dict.fromkeys(("BasicCorrelationContext", "Collector"), "collect.collector"),
    "ModelDataCollector": "collect.model_data_collector",
    **dict.fromkeys(("Export", "read_export"), "exports"),
    "compact": "compaction",
    "doctor": "diagnosis",
    "guard": "guarding",
    "map_texts": "item",
    **dict.fromkeys(
        ("GuardedLogExporter", "GuardedSpanExporter", "JournalLogExporter", "JournalSpanExporter"), "pipelines"
    ),
    "payload": "payloads",
    "read_model_data": "model_data",
    "Result": "result",
    "portal_link": "engine",
    "queries": "engine",
    "query": "engine",
    "score": "scoring",
    **dict.fromkeys(("AciWebservice", "AksWebservice", "Webservice"), "service.webservice"),
    "update": "service.updating",
    "sync": "mirror",
    "Telemetry": "telemetry",
    **dict.fromkeys(("TelemetryHandler", "configure", "log", "request", "request_context"), "process"),
}


_MODULES = {"compat", "item", "middleware", "ticks"}  # public as modules


def __getattr__(name: str) -> Any:
    # A name is imported when it is first used: a script that logs must not pay for the reader.
    if name in _MODULES:
        return import_module(f"scoretrace.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'scoretrace' has no attribute {name!r}")
    value = getattr(import_module(f"scoretrace.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_MODULES, "__version__"]
