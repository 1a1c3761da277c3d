"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from scoretrace.render import FORMATS

F = TypeVar("F", bound=Callable[..., Any])


def source_option(command: F) -> F:
    """``--from``: what is read."""
    return click.option(
        "--from",
        "--source",
        "source",
        metavar="SOURCE",
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
