"""
The command line: each command calls one public function and shows what it returns.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the answer
is no, 2 wrong usage, 3 a query that cannot be answered, 4 nothing to read
there, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

import click
import msgspec

import scoretrace
from scoretrace import read, ticks
from scoretrace.engine import Result
from scoretrace.errors import PayloadError, QueryError, ScoretraceError, ScriptError, SourceError
from scoretrace.item import ExceptionItem, Item, Request, Trace
from scoretrace.schema import BY_CLASSIC, SEVERITIES
from scoretrace.scoring import Outcome

F = TypeVar("F", bound=Callable[..., Any])

CODES = "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 query error, 4 nothing to read there, 130 interrupted."
FORMATS = ("table", "json", "ndjson", "csv", "parquet")
_STYLES = {0: "dim", 1: "", 2: "yellow", 3: "red", 4: "bold red"}
_CELL = 400  # characters of a value in a table on a terminal
_MANY = 8  # columns: beyond it, a table shows those that tell rows apart
_NARROWEST = 20  # characters a text needs to be read; with less, each row becomes a table of its own
_MOST_ROWS, _MOST_RECORDS = 1_000, 100  # shown on a terminal


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a full disk is an error with a name
            return result
        except ScoretraceError as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, ScriptError) and error.__cause__ is not None:
                click.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
            click.echo(f"{type(error).__name__}: {error}", err=True)
            ctx.exit(_exit_code(error))
        except BrokenPipeError:
            # Whoever read our output has seen enough; the interpreter must not complain at its end either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"{type(error).__name__}: {error}", err=True)
            with contextlib.suppress(OSError):  # nothing may be left for the interpreter to flush at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(4)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def _exit_code(error: ScoretraceError) -> int:
    for kind, code in ((QueryError, 3), (SourceError, 4), (PayloadError, 1)):
        if isinstance(error, kind):
            return code
    return 1


def _source(command: F) -> F:
    return click.option(
        "--from",
        "source",
        metavar="SOURCE",
        help="A home folder, a folder of exports, or one file. [default: SCORETRACE_HOME, or .scoretrace]",
    )(command)


def _output(command: F) -> F:
    for option in (
        click.option("--no-headers", is_flag=True, help="Leave out the header of CSV."),
        click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file instead of stdout."),
        click.option(
            "-f",
            "--format",
            "form",
            type=click.Choice(FORMATS),
            help="How to show the rows. [default: table on a terminal, ndjson in a pipe]",
        ),
    ):
        command = option(command)
    return command


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=CODES,
)
@click.version_option(scoretrace.__version__, prog_name="scoretrace")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Application Insights telemetry of scoring scripts: run them, read it back, ask it questions."""
    del debug  # read from the context where an error ends a command


@cli.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("requests", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--home", help="Where telemetry goes. [default: SCORETRACE_HOME, or .scoretrace]")
@click.option("--service", help="The name of the service. [default: OTEL_SERVICE_NAME, SERVICE_NAME]")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help='Write a JSON value for each line that is not blank: its response, or {"error": ...}.',
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a request failed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@click.pass_context
def run(
    ctx: click.Context,
    script: str,
    requests: str,
    home: str | None,
    service: str | None,
    output: str | None,
    strict: bool,
    quiet: bool,
) -> None:
    """
    Score each line of REQUESTS with SCRIPT.

    REQUESTS holds one JSON value a line; - reads stdin. The script's init()
    runs once, its run() for each line, as a request with everything in it. A
    run() that raises is a failed request, and with --strict the exit code is 1
    then. A line that is not JSON is named and left out, and the exit code is 1.

    \b
      scoretrace run score.py requests.ndjson
      scoretrace run score.py requests.ndjson --service diabetes -o responses.ndjson
    """
    # Line by line, so that what was scored is there whatever ends the process.
    sink = open(output, "w", encoding="utf-8", buffering=1) if output else None  # noqa: SIM115 - closed below
    lines = sys.stdin.buffer if requests == "-" else requests
    try:
        with _progress(requests, quiet=quiet) as advance:
            scoretrace.configure(home=home, service=service)  # after the bar, which may stand in for stdout
            outcomes = scoretrace.score(script, lines, done=lambda outcome: _scored(outcome, requests, sink, advance))
    finally:
        if sink is not None:
            sink.close()
    bad = sum(not outcome.is_request for outcome in outcomes)
    failed = sum(bool(outcome.error) for outcome in outcomes) - bad
    if not quiet:
        said = f"{_count(len(outcomes) - bad, 'request')}, {failed} failed"
        if bad:
            said += f", {_count(bad, 'line')} not JSON"
        click.echo(said, err=True)
    if bad or (strict and failed):
        ctx.exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _scored(outcome: Outcome, requests: str, sink: IO[str] | None, advance: Callable[[], None]) -> None:
    if outcome.error:
        click.echo(f"{requests}:{outcome.line}: {outcome.error}", err=True)
    if sink is not None:
        sink.write((outcome.response or json.dumps({"error": outcome.error})) + "\n")
    advance()


class _progress:  # noqa: N801 - used as a context manager
    """
    A bar on stderr, where that is a terminal.

    Where stdout is the same terminal, what the script prints goes above the bar.
    """

    def __init__(self, requests: str, *, quiet: bool) -> None:
        self.bar: Any = None
        if not quiet and sys.stderr.isatty() and not os.environ.get("CI"):
            from rich.console import Console
            from rich.progress import Progress

            total = None
            if requests != "-":
                with open(requests, "rb") as file:
                    total = sum(bool(line.strip()) for line in file)
            both = sys.stdout.isatty()
            self.bar = Progress(
                console=Console(stderr=True), transient=True, redirect_stdout=both, redirect_stderr=both
            )
            self.task = self.bar.add_task("scoring", total=total)

    def __enter__(self) -> Callable[[], None]:
        if self.bar is None:
            return lambda: None
        self.bar.start()
        return lambda: self.bar.advance(self.task)

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()


@cli.command()
@click.argument("text", metavar="TEXT|NAME|FILE")
@_source
@click.option("--since", "timespan", metavar="SPAN", help="Only rows of the last SPAN: 30m, 6h, 7d, or ISO 8601 (P1D).")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="Another value for a let of the query.")
@_output
def query(
    text: str,
    source: str | None,
    timespan: str | None,
    settings: tuple[str, ...],
    form: str | None,
    output: str | None,
    no_headers: bool,
) -> None:
    """
    Run a Kusto query: its text, the name of a bundled one, or a .kql file; - reads the text from stdin.

    \b
      scoretrace query 'requests | summarize count() by resultCode'
      scoretrace query failures --set since=7d --format csv
    """
    if text == "-":
        text = sys.stdin.read()
    parameters = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes NAME=VALUE, not {setting!r}")
        parameters[name.strip()] = value.strip()
    result = scoretrace.query(text, source=source, timespan=timespan, **parameters)
    _show(result, form, output, headers=not no_headers)
    for name, count in result.unreadable.items():
        click.echo(f"{name}: {_count(count, 'line')} cannot be read, passed over", err=True)
    default = next((bundled.parameters.get("since") for bundled in scoretrace.queries() if bundled.name == text), None)
    if not result.rows and default and timespan is None and "since" not in parameters:
        click.echo(f"this query looks back {default}; --since 7d looks further", err=True)


@cli.command()
@click.argument("name", required=False)
def queries(name: str | None) -> None:
    """
    List the bundled queries with the question each answers, or show the text of one.

    \b
      scoretrace queries
      scoretrace queries failures
    """
    bundled = scoretrace.queries()
    if name is None:
        width = max(len(entry.name) for entry in bundled)
        for entry in bundled:
            click.echo(f"{entry.name:<{width}}  {entry.question}")
        return
    for entry in bundled:
        if entry.name == name:
            click.echo(entry.text.rstrip("\n"))
            return
    raise QueryError(f"there is no bundled query {name}: `scoretrace queries` lists them")


@cli.command()
@_source
@click.option("-n", "--lines", default=20, show_default=True, type=click.IntRange(min=0), help="How many items.")
@click.option("-F", "--follow", is_flag=True, help="Go on with items as they are written, until control-C.")
@click.option("-t", "--table", "chosen", type=click.Choice(list(BY_CLASSIC)), multiple=True, help="Only this table.")
def tail(source: str | None, lines: int, follow: bool, chosen: tuple[str, ...]) -> None:
    """
    Show the newest items of all tables, coloured by severity.

    \b
      scoretrace tail
      scoretrace tail --follow --table exceptions
    """
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    kinds = [BY_CLASSIC[table].kind for table in chosen] or None

    def unreadable(path: Path) -> None:
        click.echo(f"{path}: a line cannot be read, passed over", err=True)

    items = read.follow if follow else read.newest
    for item in items(source, lines, kinds, unreadable=unreadable):
        _show_item(console, item)


@cli.command()
@click.argument("item_id", metavar="ITEM")
@_source
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to a file instead of stdout.")
def payload(item_id: str, source: str | None, output: str | None) -> None:
    """
    Give back the original of an item that was too large, byte for byte.

    ITEM is the column itemId of the row. A payload whose SHA-256 is not the one
    in the row is refused.

    \b
      scoretrace payload 0de0c520-181f-422d-8640-100000000003 > original.json
    """
    data = scoretrace.payload(item_id, source=source)
    if output:
        Path(output).write_bytes(data)
    else:
        click.echo(data, nl=False)


def _show(result: Result, form: str | None, output: str | None, *, headers: bool) -> None:
    ending = Path(output).suffix[1:].lower() if output else ""
    form = form or (ending if ending in FORMATS else "table" if output is None and sys.stdout.isatty() else "ndjson")
    if form == "parquet":
        if output is None:
            raise click.UsageError("--format parquet needs --output FILE")
        result.to_parquet(output)
        return
    if form == "table" and output is None:
        _show_table(result)
        return
    if output is not None:
        with open(output, "w", encoding="utf-8", newline="") as file:
            file.writelines(_rendered(result, form, headers=headers))
        return
    # As bytes: UTF-8 whatever the terminal's encoding, and CSV's own line ends.
    pieces = iter(_rendered(result, form, headers=headers))
    while chunk := "".join(islice(pieces, 1_000)):
        click.echo(chunk.encode(), nl=False)


def _rendered(result: Result, form: str, *, headers: bool) -> Iterable[str]:
    if form == "json":
        yield _json(result.dicts()) + "\n"
    elif form == "ndjson":
        for row in result.dicts():
            yield _json(row) + "\n"
    elif form == "csv":
        line = io.StringIO(newline="")
        writer = csv.writer(line, lineterminator="\n")  # an id that ends in a carriage return is no id to a shell
        for values in [tuple(result.columns)] * headers + result.rows:
            writer.writerow([value.isoformat() if isinstance(value, datetime) else _text(value) for value in values])
            yield line.getvalue()
            line.seek(0)
            line.truncate()
    else:
        from rich.console import Console

        file = io.StringIO()
        Console(file=file, width=200).print(_table(result, list(range(len(result.columns)))))
        yield file.getvalue()


def _show_table(result: Result) -> None:
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
        click.echo(f"{_count(hidden, 'empty column')} not shown; --format csv has all", err=True)
    total = _count(len(result), "row")
    if len(result) > most:
        total = f"the first {most:,} of {total} shown; --format csv has all"
    click.echo(total, err=True)


def _width(result: Result, shown: list[int]) -> int:
    """What the columns need at the least: their longest value, or room enough to break it where that may be."""
    widths = (
        (max([len(result.columns[index]), *(len(_text(row[index])) for row in result.rows[:_MOST_ROWS])]), index)
        for index in shown
    )
    return 2 + sum(3 + (width if _is_whole(result, index) else min(width, _NARROWEST)) for width, index in widths)


def _is_whole(result: Result, index: int) -> bool:
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


def _table(result: Result, shown: list[int]) -> Any:
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
    text = "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
    return text if len(text) <= _CELL else f"{text[:_CELL]}… ({len(text):,} characters)"


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


def _show_item(console: Any, item: Item) -> None:
    from rich.text import Text

    level = getattr(item, "severity_level", None)
    if isinstance(item, Request) and item.success is False:
        level = 3
    time = ticks.to_iso(item.timestamp)[:23].replace("T", " ") if item.timestamp is not None else "no time"
    name = SEVERITIES[level] if level is not None else ""
    line = Text()
    line.append(f"{time} ", "dim")
    line.append(f"{item.kind:<10} {name:<11} ", _STYLES.get(level if level is not None else 1, ""))
    line.append(_short(_summary(item)).replace("\n", "\n    "))
    console.print(line)


def _summary(item: Item) -> str:
    if isinstance(item, Trace):
        contents = item.custom_dimensions.get("Contents")
        return item.message if contents is None else f"{item.message} {contents}"
    if isinstance(item, ExceptionItem):
        return f"{item.outer_type}: {item.outer_message}"
    if isinstance(item, Request):
        milliseconds = (item.duration or 0) / ticks.MILLISECOND
        return f"{item.name} {item.result_code} {milliseconds:.1f} ms"
    return str(getattr(item, "name", "") or getattr(item, "counter", ""))
