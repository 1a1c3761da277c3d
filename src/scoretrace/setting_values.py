"""
What is written for a setting, in the environment or as an argument, as the value that it stands for.

Each raises ValueError with the end of a sentence: "it must be true or false".
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from string import Formatter
from typing import Any

from scoretrace.connections import is_sign_in
from scoretrace.item import Item

WAYS = ("azure_monitor", "opentelemetry", "opencensus")  # to an ingestion endpoint: modules of `exporters`
EXPORTERS = (*WAYS, "blob_export", "none")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg])?i?b?", re.IGNORECASE)
_CLEAN = re.compile(r"[^\w.-]+")
_IN_NAMES = {"designation", "model", "collection"}  # what the name of a file with collected data may hold


Processor = Callable[[Item], Item | None]

SAMPLED = ("trace", "request", "dependency", "event", "metric")  # types that sampling may leave out
_MOST_SAMPLED = 100_000  # items that one may stand for


def path_part(text: str) -> str:
    """
    *text* as one folder name that cannot leave its folder.

    >>> path_part("../my service"), path_part("..")
    ('.._my_service', 'default')
    """
    # File systems count bytes: 255 of them, and endings are still to come.
    part = _CLEAN.sub("_", text.strip()).encode("utf-8", "replace")[:128].decode("utf-8", "ignore")
    return part if part.strip(".") else "default"


def service_part(service: str) -> str:
    """The name of a service in folders and files: letter case tells no two services apart, and none is hidden."""
    return re.sub(r"^\.+", "_", path_part(service).lower())


def boolean(value: Any) -> bool:
    """True or false, as people write it."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be true or false")


def level(value: Any) -> int:
    """A level of the logging module."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip().upper()
    level = int(text) if text.isdigit() else logging.getLevelName(text)
    if not isinstance(level, int):
        raise ValueError("must be a level of the logging module, such as INFO")  # noqa: TRY004 - a value, not a type
    return level


def positive(value: Any) -> float:
    """A number above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not number > 0:
        raise ValueError("must be a number above 0")
    return number


def byte_count(value: Any) -> int:
    """A number of bytes: 1048576, 1 MiB."""
    match = _SIZE.fullmatch(str(value).strip())
    number = int(float(match[1]) * 1024 ** " KMG".index((match[2] or " ").upper())) if match else 0
    if number < 1:
        raise ValueError("must be a number of bytes, such as 1048576 or 1 MiB")
    return number


def name(value: Any) -> str:
    """A name that is not empty, nor too long."""
    if not isinstance(value, str) or not 0 < len(value.strip()) <= 250:
        raise ValueError("must be a name of at most 250 characters")
    return text(value)


def workspace(value: Any) -> str:
    """``subscription/resource group/name``, from all of it or the name alone."""
    parts = [part for part in name(value).split("/") if part]
    if len(parts) == 1:
        return f"default/default/{parts[0]}"
    if len(parts) == 3:
        return "/".join(parts)
    raise ValueError("must be a name, or subscription/resource group/name")


def file_name(value: Any) -> str:
    """The name of files with collected data."""
    given = name(value)
    fields = [parts[1:] for parts in Formatter().parse(given) if parts[1] is not None]
    if not given.endswith(".csv") or not all(field in _IN_NAMES and not (how or kind) for field, how, kind in fields):
        raise ValueError(f"must be a name that ends in .csv; {{{'} and {'.join(sorted(_IN_NAMES))}}} may be in it")
    return given


def boundary(value: Any) -> int:
    """Minutes of a day or an hour."""
    text = str(value).strip().lower()
    if text not in {"day", "hour"}:
        raise ValueError("must be day or hour")
    return 60 if text == "hour" else 1440


def names(value: Any) -> tuple[str, ...]:
    """Names, with commas between them where they are text."""
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(text(part) for part in parts if text(part))


def folder(value: Any) -> Path:
    """The path of a folder."""
    if "\0" in os.fspath(value):
        raise ValueError("must be a folder's path")
    return Path(value).expanduser().absolute()  # now: a script may change its working directory


def text(value: Any) -> str:
    """Text without spaces around it."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - reported as a setting
    # The environment may hold bytes that are no UTF-8, which Python hands on as lone surrogates.
    return value.strip().encode("utf-8", "backslashreplace").decode()


def exporters(value: Any) -> tuple[str, ...]:
    """Names of exporters that agree with each other."""
    given = tuple(dict.fromkeys(one.lower() for one in names(value))) or ("none",)
    unknown = set(given) - set(EXPORTERS)
    if unknown:
        raise ValueError(f"must be of {', '.join(EXPORTERS)}")
    if len(set(given) & set(WAYS)) > 1:
        raise ValueError(f"must name one of {', '.join(WAYS)}: all of them deliver to the same place")
    if "opencensus" in given and sys.version_info >= (3, 13):
        raise ValueError("cannot be opencensus on Python 3.13 and newer, where it does not work: use azure_monitor")
    return tuple(one for one in given if one != "none")


def processors(value: Any) -> tuple[Processor, ...]:
    """Functions of items, or their names."""
    if isinstance(value, str):
        value = names(value)
    elif callable(value) or not isinstance(value, Iterable):
        value = (value,)
    found = tuple(_function(name) if isinstance(name, str) else name for name in value)
    if not all(callable(processor) and isinstance(processor, Hashable) for processor in found):
        raise ValueError("must be functions that take an item and return one, or None to drop it")
    return found


def _function(name: str) -> Any:
    """The function that *name* (``package.module:function``) says, for who can only write text."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"must be functions, or named as module:function, which {name!r} is not")
    try:
        return getattr(import_module(module), function)
    except Exception as error:  # whatever the module does when it is imported
        raise ValueError(f"cannot be loaded: {name}: {type(error).__name__}: {error}") from error


def sampling(value: Any) -> tuple[tuple[str, int], ...]:
    """For each type how many items one stands for."""
    if isinstance(value, str) and "=" in value:
        value = {name: number for name, _, number in (part.partition("=") for part in value.split(","))}
    by_type = value if isinstance(value, Mapping) else dict.fromkeys(SAMPLED, value)
    unknown = {str(name).strip() for name in by_type} - set(SAMPLED)
    if unknown:
        raise ValueError(f"can name {', '.join(SAMPLED)}, and not {min(unknown)!r}")
    counts = {str(name).strip(): _stands_for(percentage) for name, percentage in by_type.items()}
    return tuple(sorted((name, count) for name, count in counts.items() if count > 1))


def _stands_for(percentage: Any) -> int:
    try:
        number = float(percentage) if not isinstance(percentage, bool) else 0.0
    except (TypeError, ValueError):
        number = 0.0
    if not 100 / _MOST_SAMPLED <= number <= 100:
        raise ValueError(
            "must be a percentage above 0 and at most 100, or one for each of some types: trace=10,request=50"
        )
    count = round(100 / number)
    # itemCount has to be whole, or its sum would not be the number of items.
    if abs(100 / number - count) > 0.01 * count:
        raise ValueError("must be 100 divided by a whole number, such as 50, 33.3, 25, 20, 10 or 1")
    return count


def stderr_too(value: Any) -> bool:
    """Whether sys.stderr is captured: in the scoring server, where nobody says."""
    return in_scoring_server() if value is None else boolean(value)


def in_scoring_server() -> bool:
    """Whether this process is a worker of azureml-inference-server-http."""
    return "azureml_inference_server_http.server.config" in sys.modules


def credential(value: Any) -> Any:
    """What signs in."""
    if not isinstance(value, str):
        if not hasattr(value, "get_token") or not isinstance(value, Hashable):
            raise ValueError('must have get_token and a hash, as those of azure-identity do, or be "default"')
        return value
    given = text(value)
    if not given or is_sign_in(given):
        return given
    raise ValueError('must be "default", Authorization=AAD, or an object with get_token')
