"""Modules of other packages that are needed by some calls only."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scoretrace.errors import MissingExtraError


def installed(module: str, what: str) -> Any:
    """
    A module that only *what* needs.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, package=module.partition(".")[0]) from error
