"""Options that several commands have, and what is meant by them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

FORMATS = ("table", "json", "ndjson", "csv", "parquet")
F = TypeVar("F", bound=Callable[..., Any])


def source_option(command: F) -> F:
    """``--from``: what is read."""
    return click.option(
        "--from",
        "--source",
        "source",
        metavar="SOURCE",
        type=click.Path(),
        help="A home folder, a folder of exports, one file, or a container. [default: SCORETRACE_HOME, or .scoretrace]",
    )(command)


def output_options(command: F) -> F:
    """``--format``, ``--output`` and ``--no-headers``: how rows are shown."""
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


def home_option(what: str) -> Callable[[F], F]:
    """``--home``; *what* says what it is to the command."""
    return click.option(
        "--home", metavar="FOLDER", type=click.Path(), help=f"{what} [default: SCORETRACE_HOME, or .scoretrace]"
    )


def service_option(command: F) -> F:
    """``--service``: whose telemetry it is."""
    return click.option("--service", help="The name of the service. [default: OTEL_SERVICE_NAME, SERVICE_NAME]")(
        command
    )


def chosen(form: str | None, output: str | None) -> str:
    """The form to write in: the one asked for, the ending's of the file, or what fits where stdout goes."""
    ending = Path(output).suffix[1:].lower() if output else ""
    if (
        form is None
        and ending
        and ending not in FORMATS
        and Path(output or "").is_file() == Path(output or "").exists()
    ):
        raise click.UsageError(f"--output {output}: no form ends in .{ending}; give --format {'|'.join(FORMATS)}")
    form = form or (ending if ending in FORMATS else "table" if output is None and sys.stdout.isatty() else "ndjson")
    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    return form


def count(number: int, noun: str) -> str:
    """*number* with its noun."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
