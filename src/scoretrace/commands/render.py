"""
Rows and items as a person or a program wants them: tables on a terminal, JSON, CSV or Parquet elsewhere.

Data goes to stdout or a file, what is said about it to stderr.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from scoretrace import charts, ticks
from scoretrace.commands.options import chosen, count
from scoretrace.errors import QueryError
from scoretrace.item import Item, Trace
from scoretrace.result import Page, Result
from scoretrace.schema import SEVERITIES
from scoretrace.summary import PRINTS, printable, severity, summary, time

if TYPE_CHECKING:
    from scoretrace.diagnosis import Finding

_STYLES = {0: "dim", 1: "", 2: "yellow", 3: "red", 4: "bold red"}
_CELL = 400  # characters of a value in a table on a terminal
_MANY = 8  # columns: beyond it, a table shows those that tell rows apart
_NARROWEST = 20  # characters a text needs to be read; with less, each row becomes a table of its own
_MOST_ROWS, _MOST_RECORDS = 1_000, 100  # shown on a terminal


def show(result: Result, form: str | None, output: str | None, *, headers: bool, limit: int | None = None) -> None:
    """
    Write *result* in *form*; without one, as a table on a terminal and as NDJSON in a pipe.

    Of more than *limit* rows the first so many, and how many there are.
    """
    form = chosen(form, output)
    shown = result if limit is None or len(result) <= limit else result.first(limit)
    if form == "parquet":
        with replaced(output or "") as path:
            shown.to_parquet(path)
    elif form == "table" and output is None:
        _show_table(shown, len(result))
        _show_chart(result)
        return
    else:
        _write(_rendered(shown, form, headers=headers), output)
    if shown is not result:
        click.echo(_counted(len(shown), len(result)), err=True)


def _counted(shown: int, total: int) -> str:
    return count(total, "row") if shown == total else f"{shown:,} of {count(total, 'row')}"


def _show_chart(result: Result) -> None:
    """What the query renders, as lines of text, where somebody is looking."""
    if result.rendering is None or not result.rows or not sys.stdout.isatty():
        return
    with suppress(QueryError):  # a table, a card, or columns that make no chart
        for line in charts.lines(result, shutil.get_terminal_size().columns):
            click.echo(line)


def show_pages(found: Iterable[Page], form: str, output: str | None, *, headers: bool) -> int:
    """Write rows as `show` does, a page at a time, in a *form* for programs; returns how many."""
    rows = 0

    def rendered() -> Iterable[str]:
        nonlocal rows
        for page in found:
            if form == "json":
                yield from (
                    f"{',' if rows or number else '['}\n{_json(row)}" for number, row in enumerate(page.dicts())
                )
            else:
                yield from _rendered(page, form, headers=headers and not rows)
            rows += len(page.rows)
        if form == "json":
            yield "\n]\n" if rows else "[]\n"

    _write(rendered(), output)
    return rows


@contextmanager
def replaced(output: str) -> Iterator[str]:
    """The file to write *output* to, which is that when it is whole: what was there stays until then."""
    target = Path(output)
    if target.exists() and not target.is_file():  # a pipe, a device
        yield output
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield str(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _write(pieces: Iterable[str], output: str | None) -> None:
    if output is not None:
        with replaced(output) as path, open(path, "w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        return
    # As bytes: UTF-8 whatever the terminal's encoding, and CSV's own line ends.
    left = iter(pieces)
    while chunk := "".join(islice(left, 1_000)):
        click.echo(chunk.encode(), nl=False)


def _rendered(result: Result | Page, form: str, *, headers: bool) -> Iterable[str]:
    if form == "json":
        yield _json(result.dicts()) + "\n"
    elif form == "ndjson":
        for row in result.dicts():
            yield _json(row) + "\n"
    elif form == "csv":
        line = io.StringIO(newline="")
        writer = csv.writer(line, lineterminator="\n")  # an id that ends in a carriage return is no id to a shell
        for values in [tuple(result.columns)] * headers + result.rows:
            writer.writerow(map(_csv_cell, values))
            yield line.getvalue()
            line.seek(0)
            line.truncate()
    else:
        from rich.console import Console

        file = io.StringIO()
        Console(file=file, width=200).print(_table(result, list(range(len(result.columns)))))
        yield file.getvalue()


def _show_table(result: Result, of: int) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    shown, same = _worth_showing(result)
    most = _MOST_ROWS
    if len(shown) > 4 and _width(result, shown) > console.width:
        most = _MOST_RECORDS
        for row in result.rows[:most]:
            console.print(_record(result, shown, row))
    else:
        console.print(_table(result, shown))
    if same:
        click.echo(f"the same in all rows: {', '.join(same)}", err=True)
    hidden = len(result.columns) - len(shown) - len(same)
    if hidden:
        click.echo(f"{count(hidden, 'empty column')} not shown; --format csv has all", err=True)
    total = _counted(min(len(result), most), of)
    if len(result) > most:
        total += "; --format csv has all"
    took = f" in {result.seconds:.2f} s" if result.seconds else ""
    click.echo(f"{total}{took}", err=True)


def _width(result: Result, shown: list[int]) -> int:
    """What the columns need at the least: their longest value, or room enough to break it where that may be."""
    widths = (
        (max([len(result.columns[index]), *(len(_text(row[index])) for row in result.rows[:_MOST_ROWS])]), index)
        for index in shown
    )
    return 2 + sum(3 + (width if _is_whole(result, index) else min(width, _NARROWEST)) for width, index in widths)


def _is_whole(result: Result | Page, index: int) -> bool:
    """Whether a column is never broken: times, numbers, and ids, which one wants to copy."""
    return result.types[index] not in {"string", "dynamic"} or result.columns[index].lower().endswith("id")


def _worth_showing(result: Result) -> tuple[list[int], list[str]]:
    """Which columns differ from row to row, where there are many; and what the others have in every row."""
    columns = list(range(len(result.columns)))
    if len(columns) <= _MANY or not result.rows:
        return columns, []
    shown, same = [], []
    for index in columns:
        values = [_text(row[index]) for row in result.rows]
        if len(values) == 1 or any(value != values[0] for value in values):
            if any(values):
                shown.append(index)
        elif values[0]:
            same.append(f"{result.columns[index]} = {_short(values[0])}")
    return shown, same


def _record(result: Result, shown: list[int], row: tuple[Any, ...]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for index in shown:
        text = _text(row[index])
        if text:
            table.add_row(Text(result.columns[index]), Text(_short(text)))
    return table


def _table(result: Result | Page, shown: list[int]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for index in shown:
        numeric = result.types[index] in {"int", "long", "real", "decimal"}
        table.add_column(
            Text(result.columns[index]),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=_is_whole(result, index),
        )
    for row in result.rows[:_MOST_ROWS]:
        table.add_row(*(Text(_short(_text(row[index]))) for index in shown))
    return table


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _CELL else f"{text[:_CELL]}… ({len(text):,} characters)"


def _csv_cell(value: Any) -> str:
    """As `_text`, but for what another program must be able to take back: times, and every digit of a number."""
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, timedelta):
        return _timespan(value)
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, (dict, list, bool)):
        return _json(value)
    return str(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(_jsonable(value)).decode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_jsonable(entry) for entry in value]
    return _timespan(value) if isinstance(value, timedelta) else value


def _timespan(value: timedelta) -> str:
    """As Kusto writes it: ``[-][d.]hh:mm:ss[.fffffff]``."""
    count = abs(value) // timedelta(microseconds=1) * 10
    text = ticks.to_timespan(count).removesuffix(".0000000")
    return ("-" if value < timedelta(0) else "") + text.removeprefix("0.")


def show_item(console: Any, item: Item) -> None:
    """Print *item* as a line, coloured by severity."""
    from rich.text import Text

    level = severity(item)
    name = SEVERITIES[level] if level is not None else ""
    source = f"{item.message} " if isinstance(item, Trace) and item.message in PRINTS else ""
    line = Text()
    line.append(f"{time(item).replace('T', ' ').removesuffix('Z') or 'no time'} ", "dim")
    line.append(f"{item.kind:<10} {name:<11} ", _STYLES.get(level if level is not None else 1, ""))
    line.append(source + _short(summary(item)).replace("\n", "\n    "))
    console.print(line)


def show_findings(findings: Iterable[Finding]) -> None:
    """Print what `doctor` found, a line each under its topic: what does not work stands out."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    topic = ""
    for finding in findings:
        if finding.topic != topic:
            topic = finding.topic
            console.print(Text(topic, "bold"))
        mark, style = {None: (" ", ""), True: ("+", "green"), False: ("!", "bold red")}[finding.ok]
        console.print(Text(f"  {mark} {finding.text}", style))
