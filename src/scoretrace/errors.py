"""
Everything scoretrace raises, in one tree.

    ScoretraceError
    ├── SettingsError        a setting that cannot work, found when it is given
    ├── FormatError          bytes that are not a row of the format they were read as
    ├── PayloadError
    │   ├── PayloadNotFound  no such item, or an item whose payload was never diverted
    │   └── PayloadChanged   the stored bytes are not the ones the row points at
    ├── CollectionError      data that a collector does not take, handed to its on_error
    ├── SourceError          nothing to read where the reader was pointed
    ├── QueryError           a query that cannot be answered, with line and column where known
    │   ├── QuerySyntaxError
    │   ├── UnknownNameError
    │   ├── QueryTimeoutError it took longer than it was given
    │   └── UnsupportedQuery the local engine would have to guess, so it refuses
    ├── ScriptError          a scoring script that cannot be run
    ├── ServiceError         a web service or deployment that cannot be switched
    │   └── ServiceNotFound  there is none of this name
    └── MissingExtraError    an optional dependency that is not installed

They reach the developer who configures, reads or queries. A log or print call
raises none of them, nor does `collect`.
"""

from __future__ import annotations

import sys


class ScoretraceError(Exception):
    """The root of the tree: catch it to catch everything scoretrace raises."""


class SettingsError(ScoretraceError, ValueError):
    """A setting that cannot work. The message names the setting and the way out."""


class FormatError(ScoretraceError, ValueError):
    """Bytes that are not a row of the format they were read as."""


class PayloadError(ScoretraceError):
    """The original of a diverted payload cannot be given back."""


class PayloadNotFound(PayloadError, LookupError):  # noqa: N818 - reads as what happened
    """No item has this id, or its payload was never diverted, or the blob is gone."""


class PayloadChanged(PayloadError):  # noqa: N818 - reads as what happened
    """The stored bytes do not have the SHA-256 that the row states."""


class CollectionError(ScoretraceError, ValueError):
    """Data that a collector does not take. Its *reason* is what `stats` counts it under."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class SourceError(ScoretraceError, LookupError):
    """There is nothing to read where the reader was pointed."""


class QueryError(ScoretraceError):
    """
    A query that cannot be answered.

    *line* and *column* count from 1 and are ``None`` where the engine does not
    say which part of the query it means.
    """

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None) -> None:
        self.line = line
        self.column = column
        super().__init__(message if line is None else f"line {line}, column {column}: {message}")


class QuerySyntaxError(QueryError):
    """The text is not Kusto Query Language."""


class UnknownNameError(QueryError):
    """The query names a table, column or bundled query that does not exist."""


class QueryTimeoutError(QueryError, TimeoutError):
    """The query took longer than it was given."""


class UnsupportedQuery(QueryError):  # noqa: N818 - reads as what happened
    """The query is good Kusto, but the local engine cannot answer it truly."""


class ScriptError(ScoretraceError):
    """A scoring script that cannot be imported, or that has no ``run``."""


class ServiceError(ScoretraceError):
    """A web service or deployment that cannot be switched: the message says why, and the way out."""


class ServiceNotFound(ServiceError, LookupError):  # noqa: N818 - reads as what happened
    """There is no service of this name where one looked."""


class MissingExtraError(ScoretraceError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""

    def __init__(self, what: str, extra: str = "", *, package: str = "", command: str = "") -> None:
        wanted = command or f"pip install {package or repr(f'scoretrace[{extra}]')}"
        message = f"{what} needs an optional dependency: {wanted}"
        if extra == "query" and sys.version_info < (3, 11):
            message = f"{what} needs DuckDB 2, which there is for Python 3.11 and newer: this is {sys.version[:4]}"
        super().__init__(message)
