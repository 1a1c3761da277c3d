"""`scoretrace run`: a scoring script, without a server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import click

import scoretrace
from scoretrace.commands.options import count, home_option, service_option

if TYPE_CHECKING:
    from scoretrace.scoring import Outcome
    from scoretrace.telemetry import Telemetry


@click.command()
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("requests", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@home_option("Where telemetry goes.")
@service_option
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
    then. A line that is not JSON is named and left out, and the exit code is 1,
    as it is where rows were lost, because the disk is full for example.

    \b
      scoretrace run score.py requests.ndjson
      scoretrace run score.py requests.ndjson --service diabetes -o responses.ndjson
    """
    from scoretrace import process
    from scoretrace.collect import tally

    # Line by line, so that what was scored is there whatever ends the process.
    sink = open(output, "w", encoding="utf-8", buffering=1) if output else None  # noqa: SIM115 - closed below
    lines = sys.stdin.buffer if requests == "-" else requests
    try:
        with _progress(requests, quiet=quiet) as advance:
            # After the bar, which may stand in for stdout.
            telemetry = scoretrace.configure(home=home, service=service)
            outcomes = scoretrace.score(script, lines, done=lambda outcome: _scored(outcome, requests, sink, advance))
    finally:
        if sink is not None:
            sink.close()
    bad = sum(not outcome.is_request for outcome in outcomes)
    failed = sum(bool(outcome.error) for outcome in outcomes) - bad
    if not quiet:
        said = f"{count(len(outcomes) - bad, 'request')}, {failed} failed"
        if bad:
            said += f", {count(bad, 'line')} not JSON"
        refused = tally.refusals().total()
        if refused:
            said += f", {count(refused, 'call')} of collect refused"
        for one in process.known():  # a script may have configured another one
            if one.settings.disabled:
                said += "; nothing was recorded: OTEL_SDK_DISABLED says so"
            elif not one.is_on():
                name = one.settings.service
                said += f"; telemetry of {name} is off: scoretrace update {name} --app-insights on"
        click.echo(said, err=True)
    lost = sum(_lost(one) for one in {telemetry, *process.known()})
    if lost:
        click.echo(f"{count(lost, 'row')} lost: scoretrace doctor says more", err=True)
    if bad or lost or (strict and failed):
        ctx.exit(1)


def _lost(telemetry: Telemetry) -> int:
    """How many rows are nowhere now, or nowhere but in the memory of a process that ends."""
    telemetry.flush(timeout=0)
    stats = telemetry.stats()
    return int(sum(stats["lost"].values()) + stats["buffered"])


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
