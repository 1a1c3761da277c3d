"""
Where collected model data lies: its files, told by their paths, below a home, a container or any folder.

Two layouts are known, each from some folder on:
``<sub>/<rg>/<workspace>/<service>/<model>/<version>/<designation>/<yyyy>/<MM>/<dd>/<file>.csv``
of ModelDataCollector, with months and days of one digit too, and
``<endpoint>/<deployment>/<collection>/<yyyy>[/<MM>[/<dd>[/<HH>[/<mm>]]]]/<id>.jsonl``
of Azure ML's data collector, however often that begins a new folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from scoretrace import sources
from scoretrace.errors import SourceError
from scoretrace.moments import When, moment
from scoretrace.setting_values import path_part

_CSV = re.compile(
    r"(?:.*/)?(?:(?P<workspace>[^/]+/[^/]+/[^/]+)/)?(?P<service>[^/]+)/(?P<model>[^/]+)/(?P<version>[^/]+)"
    r"/(?P<designation>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d?)/(?P<day>\d\d?)/[^/]+\.csv"
)
_EVENTS = re.compile(
    r"(?:.*/)?(?P<service>[^/]+)/(?P<version>[^/]+)/(?P<designation>[^/]+)"
    r"/(?P<year>\d{4})(?:/(?P<month>\d\d?)(?:/(?P<day>\d\d?)(?:/\d\d){0,2})?)?/[^/]+\.jsonl"
)
_OTHERS = {"aml_telemetry.csv"}  # what azureml-monitoring writes beside its inputs
_CONTAINER = "modeldata"
# What Azure ML's monitoring calls them, which knows these two by name.
SAME = {"model_inputs": "inputs", "model_outputs": "predictions"}


class DataFile(NamedTuple):
    """A file with collected data: whose it is, as far as its path says, and from which day on."""

    path: Path
    service: str = ""
    model: str = ""
    version: str = ""
    designation: str = ""
    first: date | None = None
    last: date | None = None

    @property
    def is_events(self) -> bool:
        """Whether its lines are events, rather than rows."""
        return self.path.suffix == ".jsonl"


def find(
    source: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    designation: str | None = None,
    since: When = None,
    until: When = None,
) -> list[DataFile]:
    """
    The files with collected data of *source*: a home, any folder, or one file; those of other days are left out.

    For the layout without models, *model* is the endpoint or the deployment.

    Raises:
        SourceError: there is no such place, or no collected data in it.
    """
    place = sources.local(source)
    if place.is_file():
        found = [_of(place.absolute())]
    else:
        inside = place / _CONTAINER
        found = sorted(_walk(inside if inside.is_dir() else place))
    if not found:
        raise SourceError(
            f"there is no collected model data in {place}: it lies at .../<designation>/<yyyy>/<MM>/<dd>/"
        )
    if model is not None and not any(_is_of(file, model) for file in found):
        there = ", ".join(sorted({name for file in found for name in _names(file)}))
        raise SourceError(f"nothing was collected of {model}: there is {there}")
    start, end = moment(since), moment(until)
    return [
        file
        for file in found
        if (model is None or _is_of(file, model))
        and (designation is None or is_meant(file.designation, designation))
        and (start is None or file.last is None or file.last >= start.date())
        and (end is None or file.first is None or file.first <= end.date())
    ]


class Collected(NamedTuple):
    """What was collected of one designation: in how many *files* of how many *bytes*, and of which days."""

    service: str
    model: str
    version: str
    designation: str
    files: int
    bytes: int
    first: str
    last: str


def summary(source: str | os.PathLike[str] | None = None) -> list[Collected]:
    """
    What was collected in *source*, by service, model, version and designation.

    Raises:
        SourceError: there is no such place, or no collected data in it.
    """
    by_name: dict[tuple[str, str, str, str], list[DataFile]] = {}
    for file in find(source):
        by_name.setdefault((file.service, file.model, file.version, file.designation), []).append(file)
    return [
        Collected(
            *name,
            len(files),
            sum(file.path.stat().st_size for file in files),
            min((file.first.isoformat() for file in files if file.first), default=""),
            max((file.last.isoformat() for file in files if file.last), default=""),
        )
        for name, files in sorted(by_name.items())
    ]


def _names(file: DataFile) -> Iterable[str]:
    return (file.service, file.version) if file.is_events and not file.model else (file.model,)


def _is_of(file: DataFile, model: str) -> bool:
    return model in _names(file) or path_part(model) in _names(file)


def is_meant(found: str, wanted: str) -> bool:
    """Whether the folder *found* is that of the designation *wanted*."""
    return found in (wanted, path_part(wanted)) or SAME.get(found, found) == SAME.get(wanted, wanted)


def _walk(root: Path) -> Iterable[DataFile]:
    for folder, _, names in os.walk(root.absolute()):
        for name in names:
            if name.endswith((".csv", ".jsonl")) and not name.startswith(".") and name not in _OTHERS:
                file = _of(Path(folder, name))
                if file.first is not None:
                    yield file


def _of(path: Path) -> DataFile:
    match = (_EVENTS if path.suffix == ".jsonl" else _CSV).fullmatch(path.as_posix())
    if match is None:
        return DataFile(path)
    found = match.groupdict()
    year, month, day = (int(found[name] or 0) for name in ("year", "month", "day"))
    try:
        first = date(year, month or 1, day or 1)
    except ValueError:
        return DataFile(path)
    last = first if day else (date(year + (month or 12) // 12, (month or 12) % 12 + 1, 1) - timedelta(days=1))
    names = (found["service"], found.get("model") or "", found["version"], found["designation"])
    return DataFile(path, *names, first, last)
