"""
Where the exports of Application Insights put their blobs: what a path says of what lies there.

    <app>_<key>/<Folder>/<yyyy-MM-dd>/<HH>/*.blob                        continuous export, and our journal
    insights-logs-<table>/resourceId=/.../y=/m=/d=/h=/m=00/PT1H.json     diagnostic setting
    am-<table>/WorkspaceResourceId=/.../y=/m=/d=/h=/m=<mm>/PT05M.json    data export rule, then PT05M_1.json ...

Times in paths are UTC. A continuous export files by when it delivered, a
diagnostic setting by when it received, which is up to 48 hours after what
happened; a data export rule by the time of the row. Sources: the pages on
continuous export, resource logs and data export of Azure Monitor.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from scoretrace.schema import BY_CLASSIC, BY_FOLDER, BY_WORKSPACE, Table

CONTINUOUS, DIAGNOSTIC = "continuous", "diagnostic"
KNOWN = (
    "a continuous export (<app>_<key>/<Folder>/<yyyy-MM-dd>/<HH>/*.blob), "
    "a diagnostic setting (insights-logs-<table>/.../PT1H.json), "
    "a data export (am-<table>/.../PT05M.json), "
    'or messages of an Event Hub ({"records": [...]} in *.json)'
)  # fmt: skip
CONTAINERS = re.compile(r"insights-logs-app[a-z]+|am-app[a-z]+|telemetry")
SUFFIXES = (".blob", ".json", ".ndjson", ".jsonl", ".blob.gz", ".json.gz", ".ndjson.gz", ".jsonl.gz")

# How long before and after its own time a row may be filed: clocks differ, and delivery waits.
_LATE, _EARLY = timedelta(hours=48), timedelta(hours=1)
_EXACT = timedelta(minutes=5)
_DATA_EXPORT = "data export"

_FOLDERS = "|".join(BY_FOLDER)
_DAY = re.compile(
    rf"(?:.*/)?(?P<folder>{_FOLDERS})"
    r"(?:/(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?:/(?P<hour>\d\d))?)?(?:/[^/]*)?"
)
_LOOSE = re.compile(rf"(?:.*/)?(?P<folder>{_FOLDERS})/.*")
_APP = re.compile(rf"(?:^|/)([^/]+)_([0-9a-fA-F]{{32}})/(?:{_FOLDERS})(?:/|$)")
_HIVE = re.compile(
    r".*?/y=(?P<year>\d{4})(?:/m=(?P<month>\d\d?)(?:/d=(?P<day>\d\d?)(?:/h=(?P<hour>\d\d?)"
    r"(?:/m=(?P<minute>\d\d?))?)?)?)?(?:/[^/=]*)?"
)
_CONTAINER = re.compile(r"(?:insights-logs|am)-(app[a-z]+)")
_ON_THE_WAY = re.compile(
    r"(?:^|/)(?:(?:W|w)orkspaceResourceId=|resourceId=|[^/]+_[0-9a-fA-F]{32}$)" rf"|(?:^|/)(?:{_FOLDERS})$"
)
_TABLES = {name.lower(): table for name, table in BY_WORKSPACE.items()}

# Layouts that are not Azure's: by name, what matches the path of a blob. Its group `table` is the classic name of
# the table; `year`, `month`, `day` and `hour` say from when it is, where the path does.
FURTHER: dict[str, re.Pattern[str]] = {}

Window = tuple[datetime | None, datetime | None]


class Place(NamedTuple):
    """What a path says: of which *layout* and *table* (None: the rows say it), whose, and of which times."""

    layout: str = ""
    table: Table | None = None
    app_name: str = ""
    i_key: str = ""
    start: datetime | None = None
    end: datetime | None = None

    @property
    def hour(self) -> str:
        """The hour as ``yyyy-MM-dd/HH``, empty where the path has none."""
        return self.start.strftime("%Y-%m-%d/%H") if self.start is not None else ""

    def may_hold(self, window: Window) -> bool:
        """Whether rows of *window* may lie there, as far as the path says."""
        if self.start is None or self.end is None:
            return True
        since, until = window
        early, late = (_EXACT, _EXACT) if self.is_exact else (_EARLY, _LATE)
        try:
            return (since is None or self.end > since - early) and (until is None or self.start < until + late)
        except OverflowError:  # at the ends of the calendar
            return True

    def is_inside(self, window: Window) -> bool:
        """Whether nothing below it can be left out for its time."""
        since, until = window
        if since is None and until is None:
            return bool(self.layout)
        if self.start is None or self.end is None:
            return False
        return (since is None or self.start >= since) and (until is None or self.end <= until)

    @property
    def is_exact(self) -> bool:
        """Whether rows are filed by their own time."""
        return self.layout == _DATA_EXPORT


@lru_cache(maxsize=4_096)
def of(path: str) -> Place:
    """
    What the *path* of a blob or of a folder says; forward slashes, without one at the end.

    >>> of("team_0123456789abcdef0123456789abcdef/Messages/2026-11-20/10/a.blob").hour
    '2026-11-20/10'
    >>> of("am-apptraces/WorkspaceResourceId=/x/y=2026/m=11/d=20/h=10/m=05/PT05M.json").table.classic
    'traces'
    """
    name = path.rpartition("/")[2]
    is_blob = name.endswith(SUFFIXES)
    hive = _HIVE.fullmatch(path)
    if hive and (not is_blob or name.startswith(("PT1H", "PT05M"))):
        container = next((match[1] for part in path.split("/") if (match := _CONTAINER.fullmatch(part))), "")
        layout = _DATA_EXPORT if "WorkspaceResourceId=" in path or name.startswith("PT05M") else DIAGNOSTIC
        return Place(layout, _TABLES.get(container), "", "", *_span(hive))
    match = None
    if not is_blob or ".blob" in name:
        match = _DAY.fullmatch(path) or (_LOOSE.fullmatch(path) if is_blob else None)
    if match:
        found = match.groupdict()
        times = _span(match) if "year" in found else (None, None)
        app = _APP.search(path)
        if not (app or is_blob or found.get("year")):
            return Place()  # any folder may be called Event
        whose = (app[1], app[2].lower()) if app else ("", "")
        return Place(CONTINUOUS, BY_FOLDER[match["folder"]], *whose, *times)
    for layout, pattern in FURTHER.items():
        found_further = pattern.fullmatch(path) if is_blob else None
        if found_further:
            return Place(layout, BY_CLASSIC.get(found_further["table"]), "", "", *_span(found_further))
    inner = next((part for part in path.split("/") if _CONTAINER.fullmatch(part)), "")
    if inner and not is_blob:
        return Place(DIAGNOSTIC, _TABLES.get(inner.rpartition("-")[2]))
    return Place()


def leads(path: str) -> bool:
    """
    Whether exports are to be looked for in the folder *path*.

    >>> leads("c/resourceId=/SUBSCRIPTIONS"), leads("c/pictures")
    (True, False)
    """
    return bool(of(path).layout) or CONTAINERS.fullmatch(path) is not None or _ON_THE_WAY.search(path) is not None


def decoder(layout: str) -> str:
    """Which of `CONTINUOUS` and `DIAGNOSTIC` the rows of *layout* are written in."""
    return DIAGNOSTIC if layout == _DATA_EXPORT else layout


def _span(match: re.Match[str]) -> tuple[datetime | None, datetime | None]:
    """From when on, and until when, what lies below a folder was filed."""
    found = {name: int(value) for name, value in match.groupdict().items() if value and value.isdigit()}
    if "year" not in found:
        return None, None
    try:
        start = datetime(  # noqa: DTZ001 - naive on purpose: every time here is UTC
            found["year"], found.get("month", 1), found.get("day", 1), found.get("hour", 0), found.get("minute", 0)
        )
        if found.get("minute"):
            return start, start + _EXACT
        if "hour" in found:
            return start, start + timedelta(hours=1)
        if "day" in found:
            return start, start + timedelta(days=1)
        if "month" in found:
            return start, (start.replace(day=1) + timedelta(days=32)).replace(day=1)
        return start, start.replace(year=start.year + 1)
    except ValueError:
        return None, None
