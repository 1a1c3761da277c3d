"""
Answers as charts: which columns are drawn as what, as Kusto's ``render`` says it or the columns suggest it.

Drawn by matplotlib for notebooks, and as a line of blocks for a terminal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from scoretrace.errors import QueryError
from scoretrace.kql import literals
from scoretrace.optional import installed

if TYPE_CHECKING:
    from scoretrace.result import Result

KINDS = ("timechart", "linechart", "barchart", "columnchart", "piechart", "scatterchart", "areachart")
_ALIKE = {"stackedareachart": "areachart", "anomalychart": "timechart", "ladderchart": "barchart"}
_ALONG = {"timechart", "linechart", "areachart"}  # what goes from left to right
_NUMBERS = {"int", "long", "real"}
_MOST_SERIES = 20
_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR = "█"


class Series(msgspec.Struct, frozen=True):
    """Points of one name, in the order of the rows."""

    name: str
    x: list[Any]
    y: list[float]


class Chart(msgspec.Struct, frozen=True):
    """What is drawn: *kind* is one of `KINDS`."""

    kind: str
    title: str
    x: str
    y: str
    series: list[Series]
    is_stacked: bool = False


def chart_of(result: Result, kind: str | None = None) -> Chart:
    """
    The series of an answer.

    Raises:
        QueryError: there is no such chart, or no column of numbers for it.
    """
    rendering = result.rendering
    said = rendering.kind if rendering is not None else ""
    properties = dict(rendering.properties) if rendering is not None else {}
    wanted = kind or said or ("timechart" if "datetime" in result.types else "columnchart")
    wanted = _ALIKE.get(wanted, wanted)
    if wanted not in KINDS:
        raise QueryError(f"there is no chart {wanted}: there are {', '.join(KINDS)}")
    columns, types, rows = _unfolded(result)
    x = _x(columns, types, wanted, properties)
    y = _y(columns, types, x, properties)
    by = _by(columns, types, x, y, properties)
    found: dict[str, Series] = {}
    for row in rows:
        for index in y:
            if row[index] is None:
                continue
            parts = [str(row[column]) for column in by]
            name = ": ".join([*parts, *([columns[index]] if len(y) > 1 or not parts else [])])
            series = found.setdefault(name, Series(name, [], []))
            series.x.append(row[x])
            series.y.append(float(row[index]))
    if wanted in _ALONG:
        found = {name: _sorted(one) for name, one in found.items()}
    if not found and rows:
        raise QueryError(f"there are no numbers to draw as a {wanted}")
    chosen = sorted(found.values(), key=lambda one: -sum(map(abs, one.y)))[:_MOST_SERIES]
    return Chart(
        wanted,
        str(properties.get("title", "")),
        str(properties.get("xtitle") or columns[x]),
        str(properties.get("ytitle") or (columns[y[0]] if len(y) == 1 else "")),
        [one for one in found.values() if one in chosen],
        is_stacked=wanted == "areachart" or str(properties.get("kind", "")).startswith("stacked"),
    )


def _sorted(series: Series) -> Series:
    """Its points from left to right, whatever order the rows have."""
    if not all(isinstance(x, datetime | int | float) for x in series.x):
        return series
    points = sorted(zip(series.x, series.y, strict=True), key=lambda point: point[0])
    return Series(series.name, [x for x, _ in points], [y for _, y in points])


def _unfolded(result: Result) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    """The rows, those of make-series with a row for each step."""
    folded = [
        index
        for index, kind in enumerate(result.types)
        if kind == "dynamic" and result.rows and all(isinstance(row[index], list) for row in result.rows)
    ]
    if not folded:
        return result.columns, result.types, result.rows
    types = list(result.types)
    rows = []
    for row in result.rows:
        for step in range(max(len(row[index]) for index in folded)):
            values = list(row)
            for index in folded:
                value = row[index][step] if step < len(row[index]) else None
                if isinstance(value, str):
                    ticks = literals.datetime_ticks(value)
                    value = None if ticks is None else literals.moment_of(ticks).replace(tzinfo=timezone.utc)
                values[index] = value
            rows.append(tuple(values))
    for index in folded:
        is_time = any(isinstance(row[index], datetime) for row in rows)
        types[index] = "datetime" if is_time else "real"
    return result.columns, types, rows


def _named(columns: Sequence[str], said: Any) -> list[int]:
    names = [name.strip() for name in str(said or "").split(",") if name.strip()]
    return [columns.index(name) for name in names if name in columns]


def _x(columns: Sequence[str], types: Sequence[str], kind: str, properties: dict[str, Any]) -> int:
    said = _named(columns, properties.get("xcolumn"))
    if said:
        return said[0]
    if "datetime" in types and kind in {"timechart", "linechart", "areachart", "columnchart", "scatterchart"}:
        return types.index("datetime")
    if kind == "timechart":
        raise QueryError("a timechart needs a column of times")
    return 0


def _y(columns: Sequence[str], types: Sequence[str], x: int, properties: dict[str, Any]) -> list[int]:
    said = _named(columns, properties.get("ycolumns"))
    found = said or [index for index, kind in enumerate(types) if kind in _NUMBERS and index != x]
    if not found:
        raise QueryError("there is no column of numbers to draw")
    return found


def _by(columns: Sequence[str], types: Sequence[str], x: int, y: list[int], properties: dict[str, Any]) -> list[int]:
    """The columns whose values are the names of series."""
    said = _named(columns, properties.get("series"))
    return said or [index for index, kind in enumerate(types) if kind == "string" and index not in {x, *y}][:1]


def _shown_by_notebooks(figure: type) -> type:
    """A figure that draws itself: IPython draws others only once pyplot has made one."""

    def as_png(self: Any) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

    return type("Figure", (figure,), {"_repr_png_": as_png})


def draw(result: Result, kind: str | None = None) -> Any:
    """
    An answer as a matplotlib Figure.

    Raises:
        QueryError: it has no columns for such a chart.
        MissingExtraError: matplotlib is not installed.
    """
    chart = chart_of(result, kind)
    figures = installed("matplotlib.figure", "Result.chart()")
    figure = _shown_by_notebooks(figures.Figure)(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    _DRAWN[chart.kind](axes, chart)
    axes.set_title(chart.title)
    if chart.kind != "piechart":
        axes.set_xlabel("" if chart.kind == "barchart" else chart.x)
        axes.set_ylabel("" if chart.kind == "barchart" else chart.y)
        if len(chart.series) > 1:
            axes.legend(fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
        if chart.kind != "barchart" and any(isinstance(x, datetime) for one in chart.series for x in one.x[:1]):
            figure.autofmt_xdate()
            places = {x for one in chart.series for x in one.x}
            if chart.kind in _ALONG and len(places) == 1:  # of one place matplotlib makes an axis of years
                (only,) = places
                axes.set_xlim(only - timedelta(hours=1), only + timedelta(hours=1))
    return figure


def _lines(axes: Any, chart: Chart) -> None:
    for one in chart.series:
        axes.plot(one.x, one.y, label=one.name, marker="." if len(one.x) < 40 else None)


def _points(axes: Any, chart: Chart) -> None:
    for one in chart.series:
        axes.scatter(one.x, one.y, label=one.name, s=12)


def _areas(axes: Any, chart: Chart) -> None:
    places, heights = _table(chart)
    if len(places) == 1:  # an area of one place is nothing
        _lines(axes, chart)
        return
    axes.stackplot(places, heights, labels=[one.name for one in chart.series], alpha=0.8)


def _table(chart: Chart) -> tuple[list[Any], list[list[float]]]:
    """All places, and of each series what is at each of them."""
    places = list(dict.fromkeys(x for one in chart.series for x in one.x))
    if all(isinstance(x, (datetime, int, float)) for x in places):
        places.sort()
    heights = []
    for one in chart.series:
        known = dict(zip(one.x, one.y, strict=True))
        heights.append([known.get(place, 0.0) for place in places])
    return places, heights


def _bars(axes: Any, chart: Chart) -> None:
    places, heights = _table(chart)
    labels = [_label(place) for place in places]
    share = 0.8 if chart.is_stacked else 0.8 / max(len(heights), 1)
    below = [0.0] * len(places)
    for number, (one, values) in enumerate(zip(chart.series, heights, strict=True)):
        at = [
            place + (0 if chart.is_stacked else (number - (len(heights) - 1) / 2) * share)
            for place in range(len(places))
        ]
        if chart.kind == "barchart":
            axes.barh(at, values, share, left=below if chart.is_stacked else None, label=one.name)
        else:
            axes.bar(at, values, share, bottom=below if chart.is_stacked else None, label=one.name)
        below = [one + other for one, other in zip(below, values, strict=True)]
    if chart.kind == "barchart":
        axes.set_yticks(range(len(places)), labels)
        axes.invert_yaxis()
    else:
        step = max(len(places) // 12, 1)
        axes.set_xticks(range(0, len(places), step), labels[::step], rotation=30, ha="right")


def _label(place: Any) -> str:
    if isinstance(place, datetime):
        return place.strftime("%m-%d %H:%M" if place.hour or place.minute else "%Y-%m-%d")
    return str(place)


def _pie(axes: Any, chart: Chart) -> None:
    slices: dict[str, float] = {}
    for one in chart.series:
        for x, y in zip(one.x, one.y, strict=True):
            label = _label(x) if len(chart.series) == 1 else one.name
            slices[label] = slices.get(label, 0.0) + max(y, 0.0)
    axes.pie(list(slices.values()), labels=list(slices), autopct="%1.0f%%")


_DRAWN = {
    "areachart": _areas,
    "barchart": _bars,
    "columnchart": _bars,
    "linechart": _lines,
    "piechart": _pie,
    "scatterchart": _points,
    "timechart": _lines,
}


def lines(result: Result, width: int) -> list[str]:
    """
    An answer as text of *width* characters a line: a line of blocks for a series over time, a bar for each value else.

    Raises:
        QueryError: it has no columns for such a chart.
    """
    chart = chart_of(result)
    if not chart.series:
        return []
    title = [chart.title] if chart.title else []
    if chart.kind in {"timechart", "linechart", "areachart", "scatterchart"}:
        return title + [_spark(one, width) for one in chart.series]
    if len(chart.series) == 1:
        named = [(_label(x), y) for x, y in zip(chart.series[0].x, chart.series[0].y, strict=True)]
    else:
        named = [(f"{_label(x)} {one.name}", y) for one in chart.series for x, y in zip(one.x, one.y, strict=True)]
    wide = min(max(len(name) for name, _ in named), width // 3)
    largest = max((abs(value) for _, value in named), default=0.0) or 1.0
    room = max(width - wide - 14, 8)
    return title + [
        f"{name[:wide]:<{wide}} {_BAR * round(abs(value) / largest * room)} {value:,.6g}" for name, value in named[:40]
    ]


def _spark(series: Series, width: int) -> str:
    found = _sorted(series).y
    room = max(width - 40, 10)
    if len(found) > room:  # the highest of each stretch
        edges = [len(found) * index // room for index in range(room + 1)]
        found = [max(found[start:end]) for start, end in pairwise(edges)]
    low, high = min(found), max(found)
    blocks = "".join(
        _BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1)) if high > low else 0] for value in found
    )
    return f"{series.name[:20]:<20} {blocks} {low:,.4g} to {high:,.4g}"
