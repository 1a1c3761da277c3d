"""`scoretrace model-data`: what was collected, on the command line."""

from __future__ import annotations

import click

import scoretrace
from scoretrace import sql
from scoretrace.commands.connection import connected, duckdb_error
from scoretrace.commands.options import output_options, source_option
from scoretrace.errors import SourceError


@click.group("model-data")
def model_data() -> None:
    """
    What ModelDataCollector and Collector collected: list it, read it.

    \b
      scoretrace model-data ls
      scoretrace model-data read --limit 20
    """


@model_data.command("ls")
@source_option
@output_options
def list_model_data(source: str | None, form: str | None, output: str | None, no_headers: bool) -> None:
    """
    List what was collected, of which models, and of which days.

    SOURCE is a home, a downloaded container, or any folder below which collected data lies.

    \b
      scoretrace model-data ls
    """
    from scoretrace.commands.render import show
    from scoretrace.model_data_files import Collected, summary
    from scoretrace.result import Result

    found = summary(source)
    with connected("scoretrace model-data") as connection:
        columns = ", ".join(f"unnest(${at}) AS {name}" for at, name in enumerate(Collected._fields, start=1))
        rows = connection.sql(f"SELECT {columns}", params=[list(column) for column in zip(*found, strict=True)])
        show(Result.of(connection, rows), form, output, headers=not no_headers)


@model_data.command("read")
@source_option
@click.option("--model", help="Only this model (or endpoint, or deployment).")
@click.option("--designation", help="inputs, predictions, ... [default: inputs joined to predictions]")
@click.option(
    "--since", metavar="TIME", help="From this UTC date or time on (2026-11-20, 2026-11-20T06:00), or the last 6h, 7d."
)
@click.option("--until", metavar="TIME", help="Before it.")
@click.option("--type", "types", metavar="COLUMN=TYPE", multiple=True, help="DuckDB's type of a column: zip=VARCHAR.")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="So many rows at the most.")
@output_options
def read_collected(
    source: str | None,
    model: str | None,
    designation: str | None,
    since: str | None,
    until: str | None,
    types: tuple[str, ...],
    limit: int | None,
    form: str | None,
    output: str | None,
    no_headers: bool,
) -> None:
    """
    Read collected data; inputs are joined to what was predicted from them.

    \b
      scoretrace model-data read --limit 20
      scoretrace model-data read --model best_model --designation inputs --since 2026-11-01 -o inputs.parquet
    """
    from scoretrace.collect.correlated import TIMESTAMP
    from scoretrace.commands.render import show
    from scoretrace.model_data import call_of, number_of, said
    from scoretrace.result import Result

    pairs = dict(pair.partition("=")[::2] for pair in types)
    if not all(pairs.values()):
        raise click.UsageError("--type takes COLUMN=TYPE, such as zip=VARCHAR")
    with connected("scoretrace model-data") as connection:
        try:
            rows = scoretrace.read_model_data(
                source,
                model=model,
                designation=designation,
                since=_when(since),
                until=_when(until),
                types=pairs,
                connection=connection,
            )
            rows = rows.order(f"{sql.name(TIMESTAMP)}, {call_of()}, {number_of()}")
            rows = rows if limit is None else rows.limit(limit)
            result = Result.of(connection, rows)
        except duckdb_error() as error:
            hint = "; --type COLUMN=VARCHAR takes any text" if "onver" in str(error) else ""
            raise SourceError(f"the data cannot be read: {said(error)}{hint}") from error
        show(result, form, output, headers=not no_headers)


def _when(text: str | None) -> str | None:
    from scoretrace.moments import moment

    try:
        moment(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return text
