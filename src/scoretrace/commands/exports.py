"""`scoretrace read`, `sync` and `compact`: exported telemetry on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import scoretrace
from scoretrace import sql
from scoretrace.commands.connection import connected, duckdb_error
from scoretrace.commands.options import chosen, count, output_options
from scoretrace.errors import SourceError

if TYPE_CHECKING:
    from scoretrace.exports import Export, Summary

_SHOWN = 1_000  # rows of a table on a terminal
_SET_ASIDE = 3


@click.command("read")
@click.argument("source", required=False, type=click.Path())
@click.option(
    "-t", "--table", "chosen_tables", multiple=True, help="traces, requests, AppTraces, ...; without it, what there is."
)
@click.option(
    "--since", metavar="TIME", help="From this UTC date or time on (2026-11-20, 2026-11-20T06:00), or the last 6h, 7d."
)
@click.option("--until", metavar="TIME", help="Before it.")
@click.option("--drop-repeats", is_flag=True, help="Leave out rows that were exported twice.")
@click.option(
    "--bookmark", type=click.Path(dir_okay=False), help="Read only what came after the last reading with this file."
)
@click.option(
    "--quarantine",
    type=click.Path(file_okay=False),
    help="Where lines go that cannot be read. [default: state/quarantine of the home]",
)
@click.option(
    "-n", "--limit", type=click.IntRange(0, 2**63 - 1), help="So many rows at the most; nothing is counted then."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
@output_options
@click.pass_context
def read_exports(
    ctx: click.Context,
    source: str | None,
    chosen_tables: tuple[str, ...],
    since: str | None,
    until: str | None,
    drop_repeats: bool,
    bookmark: str | None,
    quarantine: str | None,
    limit: int | None,
    quiet: bool,
    form: str | None,
    output: str | None,
    no_headers: bool,
) -> None:
    """
    Read exported telemetry as tables.

    SOURCE is a home, a folder with exports in it, a file, or the URL of a
    container or account. Read are continuous exports, diagnostic settings (PT1H.json), data exports
    (PT05M.json) and messages of Event Hubs. The exit code is 3 where lines had
    to be set aside.

    \b
      scoretrace read archive
      scoretrace read archive --table traces --since 7d --format csv
      scoretrace read https://team.blob.core.windows.net/insights-logs-apptraces -t traces -o traces.parquet
    """
    from scoretrace.commands.render import show
    from scoretrace.exports import Held
    from scoretrace.result import Result

    if len(chosen_tables) > 1:
        raise click.UsageError("one --table at a time; read_export(...).to_parquet(folder) writes several")
    table = chosen_tables[0] if chosen_tables else None
    if table is None and (bookmark or drop_repeats or limit is not None):
        raise click.UsageError("--bookmark, --drop-repeats and --limit are for the rows of a --table")
    if bookmark and limit is not None:
        raise click.UsageError(
            "--bookmark and --limit do not go together: what is behind the limit would count as read"
        )
    with _bar("reading", quiet=quiet) as progress, _usage():
        export = scoretrace.read_export(
            source,
            tables=table,
            since=since,
            until=until,
            drop_repeats=drop_repeats,
            bookmark=bookmark,
            quarantine=quarantine,
            progress=progress,
        )
        with export, connected("scoretrace read") as connection:
            if table is None:
                found = export.held()
                columns = ", ".join(f"unnest(${at}) AS {name}" for at, name in enumerate(Held._fields, start=1))
                lists = [[row[at] for row in found] for at in range(len(Held._fields))]
                rows = connection.sql(f"SELECT {columns}", params=lists)
                show(Result.of(connection, rows), form, output, headers=not no_headers)
                return
            try:
                shown = _shown(export, table, connection, chosen(form, output), output, limit, headers=not no_headers)
                summary = export.examine(table) if limit is None else None
            except duckdb_error() as error:
                if output is not None and "write" in str(error):
                    raise OSError(f"{output} cannot be written: {str(error).splitlines()[0]}") from error
                raise SourceError(f"the exports cannot be read: {str(error).splitlines()[0]}") from error
            export.remember()
    if summary is None:
        return
    if not quiet:
        _say(summary, shown)
    if summary.set_aside:
        ctx.exit(_SET_ASIDE)
    if summary.failed:
        ctx.exit(1)


def _shown(
    export: Export, table: str, connection: Any, form: str, output: str | None, limit: int | None, *, headers: bool
) -> int:
    from scoretrace.commands.render import replaced, show, show_pages
    from scoretrace.result import Result, pages

    rows = export.relation(table, connection=connection)
    if limit is not None:
        rows = rows.limit(limit)
    if form == "parquet" and output is not None:
        with replaced(output) as path:
            rows.write_parquet(path)
        return -1
    times = {"timestamp", "TimeGenerated"} & set(rows.columns)
    for name in times:  # Python's own times have microseconds
        text = f"left(strftime({sql.name(name)}, '%Y-%m-%dT%H:%M:%S.%n'), 27) || 'Z' AS {sql.name(name)}"
        rows = rows.project(f"* REPLACE ({text})")
    if form == "table":
        result = Result.of(connection, rows.limit(_SHOWN))
        show(result, form, output, headers=headers)
        return len(result)
    return show_pages(pages(connection, rows), form, output, headers=headers)


def _say(summary: Summary, shown: int) -> None:
    parts = [f"{count(summary.rows, 'row')} in {count(summary.blobs, 'blob')}"]
    if 0 <= shown < summary.rows:
        parts.append(f"the first {shown:,} shown")
    if summary.repeated:
        parts.append(f"{summary.repeated:,} repeated")
    if summary.unfinished:
        parts.append(f"{count(summary.unfinished, 'last line')} not whole yet")
    if summary.undated:
        parts.append(f"{count(summary.undated, 'row')} without a time left out")
    if summary.set_aside:
        parts.append(f"{count(summary.set_aside, 'line')} set aside")
    click.echo(", ".join(parts), err=True)
    for reason, number in summary.reasons.items():
        click.echo(f"  {number:,}: {reason}", err=True)
    if summary.unknown:
        click.echo(f"  keys that no column has: {', '.join(sorted(summary.unknown))}", err=True)
    for path in summary.quarantine:
        click.echo(f"  see {path}", err=True)
    for name, reason in summary.failed.items():
        click.echo(f"{name}: {reason}", err=True)


@click.command("sync")
@click.argument("source")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("-t", "--table", "chosen_tables", multiple=True, help="Only this table.")
@click.option("--since", metavar="TIME", help="From this UTC date or time on, or the last 6h, 7d.")
@click.option("--until", metavar="TIME", help="Before it.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
@click.pass_context
def sync(
    ctx: click.Context,
    source: str,
    folder: str,
    chosen_tables: tuple[str, ...],
    since: str | None,
    until: str | None,
    quiet: bool,
) -> None:
    """
    Copy the exports of a container into FOLDER, and later what changed.

    SOURCE is the URL of a container, of a folder in one, or of an account. A
    sync that was interrupted goes on where it was. The exit code is 1 where a
    blob could not be had.

    \b
      scoretrace sync https://team.blob.core.windows.net/telemetry archive
      scoretrace sync https://team.blob.core.windows.net archive --since 7d
    """
    with _bar("copying", quiet=quiet) as progress, _usage():
        result = scoretrace.sync(
            source, folder, tables=chosen_tables or None, since=since, until=until, progress=progress
        )
    if not quiet:
        click.echo(
            f"{result.fetched:,} of {count(result.blobs, 'blob')} copied, {count(result.bytes, 'byte')}", err=True
        )
    for name, reason in result.failed.items():
        click.echo(f"{name}: {reason}", err=True)
    if result.failed:
        ctx.exit(1)


@click.command("compact")
@click.argument("source", required=False, type=click.Path())
@click.option("--drop", is_flag=True, help="Remove these files; they can be made again.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
def compact(source: str | None, drop: bool, quiet: bool) -> None:
    """
    Keep closed hours as Parquet files beside their blobs, which queries then use.

    SOURCE is a home, or a folder of exports. Run it every hour, or every day:
    what is there already is kept.

    \b
      scoretrace compact
      scoretrace compact archive --drop
    """
    with _bar("compacting", quiet=quiet, unit="hour") as progress:
        result = scoretrace.compact(source, drop=drop, progress=progress)
    if quiet:
        return
    if drop:
        click.echo(f"{count(result.dropped, 'file')} removed", err=True)
        return
    said = f"{count(result.hours, 'hour')} compacted, {result.kept:,} kept"
    if result.hours:
        said += f": {result.blob_bytes:,} bytes are {result.parquet_bytes:,} in Parquet"
    if result.left:
        said += f"; {count(result.left, 'hour')} with lines that cannot be read left as they are"
    click.echo(said, err=True)


@contextmanager
def _usage() -> Iterator[None]:
    """A value of an option that cannot be is wrong usage."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, scoretrace.ScoretraceError):
            raise
        raise click.UsageError(str(error)) from error


@contextmanager
def _bar(what: str, *, quiet: bool, unit: str = "blob") -> Iterator[Callable[[int, int], None] | None]:
    """Progress on stderr, where that is a terminal."""
    if quiet or not sys.stderr.isatty() or os.environ.get("CI"):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what)

        def advance(done: int, total: int) -> None:
            more = f" of {total:,}" if unit == "hour" else f", {total / 1e6:,.1f} MB"
            bar.update(task, description=f"{what}: {count(done, unit)}{more}")

        yield advance
