"""
The command line: each command calls one public function and shows what it returns.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the answer
is no, 2 wrong usage, 3 a query that cannot be answered or lines that cannot be
read, 4 nothing to read there, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

import scoretrace
from scoretrace import read
from scoretrace.cli_exports import compact, read_exports, sync
from scoretrace.cli_model_data import model_data
from scoretrace.cli_options import output_options, source_option
from scoretrace.collect import tally
from scoretrace.endpoint import HOST, PORT
from scoretrace.engine import MEMORY
from scoretrace.errors import PayloadError, QueryError, ScoretraceError, ScriptError, SourceError, UnknownNameError
from scoretrace.kql.places import near
from scoretrace.render import count, show, show_findings, show_item
from scoretrace.schema import BY_CLASSIC

if TYPE_CHECKING:
    from scoretrace.scoring import Outcome
    from scoretrace.settings import Settings
    from scoretrace.sidecar import Exported

_KEYWORDS = {"source", "timespan", "timeout", "memory"}  # of scoretrace.query
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, None}
CODES = (
    "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 query error, or lines set aside, 4 nothing to read there, "
    "130 interrupted."
)


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
            ctx.exit(1 if error.errno in _NO_ROOM else 4)
        except RuntimeError as error:
            if "interrupted" not in str(error):  # as DuckDB says that it was
                raise
            click.echo("interrupted", err=True)
            ctx.exit(130)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def _exit_code(error: ScoretraceError) -> int:
    for kind, code in ((QueryError, 3), (SourceError, 4), (PayloadError, 1)):
        if isinstance(error, kind):
            return code
    return 1


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
        said = f"{count(len(outcomes) - bad, 'request')}, {failed} failed"
        if bad:
            said += f", {count(bad, 'line')} not JSON"
        refused = tally.refusals().total()
        if refused:
            said += f", {count(refused, 'call')} of collect refused"
        click.echo(said, err=True)
    if bad or (strict and failed):
        ctx.exit(1)


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
@source_option
@click.option("--since", "timespan", metavar="SPAN", help="Only rows of the last SPAN: 30m, 6h, 7d, or ISO 8601 (P1D).")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="Another value for a let of the query.")
@click.option("-n", "--limit", type=click.IntRange(min=0), help="Show so many rows, and how many there are.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give the query up after that.")
@click.option("--memory", default=MEMORY, show_default=True, help="What DuckDB may take, beyond which it uses files.")
@click.option("--open", "is_link", is_flag=True, help="Print the link to the query in the portal, and run nothing.")
@output_options
def query(
    text: str,
    source: str | None,
    timespan: str | None,
    settings: tuple[str, ...],
    limit: int | None,
    timeout: float | None,
    memory: str,
    is_link: bool,
    form: str | None,
    output: str | None,
    no_headers: bool,
) -> None:
    """
    Run a Kusto query: its text, the name of a bundled one, or a .kql file; - reads the text from stdin.

    \b
      scoretrace query 'requests | summarize count() by resultCode'
      scoretrace query failures --set since=7d --format csv
      scoretrace query failures --source azure:/subscriptions/.../components/my-insights
    """
    if text == "-":
        text = sys.stdin.read()
    parameters: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes NAME=VALUE, not {setting!r}")
        if name.strip() in _KEYWORDS:
            raise click.UsageError(f"a let called {name.strip()} cannot be set from here: rename it in the query")
        parameters[name.strip()] = value.strip()
    if is_link:
        click.echo(scoretrace.portal_link(text, source=source, **parameters))
        return
    result = scoretrace.query(text, source=source, timespan=timespan, timeout=timeout, memory=memory, **parameters)
    show(result, form, output, headers=not no_headers, limit=limit)
    for name, reason in result.failed.items():
        click.echo(f"{name}: {reason}", err=True)
    for name, lines in result.unreadable.items():
        click.echo(f"{name}: {count(lines, 'line')} cannot be read, passed over", err=True)
    if result.partial:
        click.echo(f"rows are missing: {result.partial}", err=True)
        sys.exit(3)
    known = next((bundled.parameters for bundled in scoretrace.queries() if bundled.name == text), {})
    missing = [name for name, value in known.items() if value == '""' and name not in parameters]
    if not result.rows and missing:
        click.echo(f"this query needs a value: --set {missing[0]}=...", err=True)
    elif not result.rows and known.get("since") and timespan is None and "since" not in parameters:
        click.echo(f"this query looks back {known['since']}; --since 7d looks further", err=True)


@cli.command()
@click.argument("name", required=False)
@click.option("--workspace", is_flag=True, help="As a query over the tables of a Log Analytics workspace (AppTraces).")
@click.option(
    "--check",
    "files",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="Have Microsoft's own parser check this file; needs Node.js. May be repeated.",
)
@click.option("--support", is_flag=True, help="What of Kusto is answered on this machine, and what is refused.")
@click.pass_context
def queries(ctx: click.Context, name: str | None, workspace: bool, files: tuple[str, ...], support: bool) -> None:
    """
    List the bundled queries with the question each answers, or show the text of one.

    \b
      scoretrace queries
      scoretrace queries failures --workspace
      scoretrace queries --check mine.kql
    """
    if files:
        if not _checked(files):
            ctx.exit(1)
        return
    if support:
        _show_support()
        return
    bundled = scoretrace.queries()
    if name is None:
        width = max(len(entry.name) for entry in bundled)
        for entry in bundled:
            click.echo(f"{entry.name:<{width}}  {entry.question}")
        return
    for entry in bundled:
        if entry.name == name:
            click.echo((entry.workspace if workspace else entry.text).rstrip("\n"))
            return
    hint = near(name, (entry.name for entry in bundled)) or ": `scoretrace queries` lists them"
    raise UnknownNameError(f"there is no bundled query {name}{hint}")


def _checked(files: tuple[str, ...]) -> bool:
    """Whether the files are good Kusto; says what is wrong, and what is only not answered on this machine."""
    from scoretrace import kql_check

    texts = [Path(file).read_text(encoding="utf-8-sig") for file in files]
    is_good = True
    for file, text, found in zip(files, texts, kql_check.check(texts), strict=True):
        for diagnostic in found.diagnostics:
            click.echo(f"{file}:{diagnostic}")
        is_good = is_good and not found.diagnostics
        refusal = kql_check.refusal(text)
        if refusal and not found.diagnostics:
            click.echo(f"{file}: good Kusto, but not answered on this machine: {refusal}", err=True)
        elif not found.diagnostics:
            columns = ", ".join(f"{name}: {kind}" for name, kind in found.columns)
            click.echo(f"{file}: good, here too ({columns})", err=True)
    return is_good


def _show_support() -> None:
    from scoretrace.kql import support

    for title, listed in (("answered", support.supported()), ("refused by name", support.refused())):
        for kind, names in listed.items():
            click.echo(f"{kind}, {title}:")
            click.echo(textwrap.fill(" ".join(names), 100, initial_indent="  ", subsequent_indent="  "))


@cli.command()
@source_option
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
        show_item(console, item)


@cli.command()
@click.option("--home", help="What to deliver. [default: SCORETRACE_HOME, or .scoretrace]")
@click.option("-F", "--follow", is_flag=True, help="Go on with what comes after, until control-C or SIGTERM.")
@click.option("--exporter", help="How: azure_monitor, opentelemetry, opencensus, blob_export. [default: azure_monitor]")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Without --follow: give up when nothing could be delivered for so many seconds.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary.")
@click.pass_context
def export(
    ctx: click.Context, home: str | None, follow: bool, exporter: str | None, timeout: float, quiet: bool
) -> None:
    """
    Deliver what waits in a home: to Application Insights, or with blob_export to a container.

    Collected model data goes to the same account, or to that of AML_MODEL_DC_STORAGE.

    Where to is in the environment, as for the scoring script:
    APPLICATIONINSIGHTS_CONNECTION_STRING and AZURE_STORAGE_CONNECTION_STRING.
    With --follow it is the sidecar of a script that is configured with
    exporter="none". The exit code is 1 where something still waits at the end.

    \b
      scoretrace export
      scoretrace export --follow
      scoretrace export --exporter blob_export
    """
    from scoretrace import sidecar
    from scoretrace.settings import resolve

    if exporter and exporter.strip().lower() == "none":
        raise click.UsageError("--exporter none would deliver nothing")
    settings = resolve({"home": home, "exporter": exporter})
    if not settings.exporter:  # the environment that it shares with the script says "none", which is meant for that
        settings = resolve({"home": home, "exporter": "azure_monitor"})
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: ended.append(number))

    def said(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    result = sidecar.export(settings, follow=follow, timeout=timeout, stop=lambda: bool(ended), said=said)
    said(_said(result, settings))
    if signal.SIGINT in ended and not follow:
        ctx.exit(130)
    if result.waiting:
        ctx.exit(1)


@cli.command()
@click.option("--home", help="Where telemetry goes. [default: SCORETRACE_HOME, or .scoretrace]")
@click.option("--host", default=HOST, show_default=True, help="Listen on this address; there is no authentication.")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65_535), help="0 takes a free one.")
def serve(home: str | None, host: str, port: int) -> None:
    """
    Receive telemetry of any Application Insights SDK on this machine.

    It answers as the service does, and writes what it accepts below the home,
    where `scoretrace query` and `scoretrace tail` read it. Only this machine
    can reach it, unless --host says otherwise.

    \b
      scoretrace serve
      scoretrace serve --port 0 --home received
    """
    from scoretrace import endpoint
    from scoretrace.connections import is_loopback
    from scoretrace.settings import resolve

    settings = resolve({"home": home, "exporter": "none"})

    def ready(connection_string: str) -> None:
        click.echo(f"export APPLICATIONINSIGHTS_CONNECTION_STRING='{connection_string}'")
        click.echo(f"# what arrives is in {settings.home}: scoretrace tail --follow --from {settings.home}")
        click.echo("# control-C stops it")
        if not is_loopback(host):
            click.echo(f"{host} is not only this machine: whoever reaches it can write telemetry here", err=True)

    endpoint.serve(
        settings,
        host=host,
        port=port,
        ready=ready,
        ended=lambda items: click.echo(f"{count(items, 'item')} accepted", err=True),
    )


def _said(result: Exported, settings: Settings) -> str:
    parts = []
    delivers = settings.ingestion is not None and settings.exporter != ("blob_export",)
    if delivers:
        parts.append(f"{count(result.delivered, 'item')} delivered")
    parts += [f"{number:,} {reason}" for reason, number in result.given_up.items()]
    if result.copied or not delivers:
        parts.append(f"{count(result.copied, 'byte')} copied to storage")
    if result.waiting:
        parts.append(f"{count(result.waiting, 'byte')} still waiting in {settings.home}")
    if result.busy:
        parts.append("another process delivers this home")
    if result.others and delivers:
        parts.append(f"{count(result.others, 'folder')} of other resources left alone")
    return ", ".join(parts)


@cli.command()
@click.option("--home", help="The home to look at. [default: SCORETRACE_HOME, or .scoretrace]")
@click.option("--service", help="The name of the service. [default: OTEL_SERVICE_NAME, SERVICE_NAME]")
@click.option("--exporter", help="As in configure. [default: azure_monitor]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: topic, text, ok.")
@click.pass_context
def doctor(ctx: click.Context, home: str | None, service: str | None, exporter: str | None, as_json: bool) -> None:
    """
    Say why telemetry does not arrive.

    Where each setting comes from (secrets are masked), who has print, whether
    the home can be written, whether the endpoint answers and the storage can be
    written, and what was diverted, refused, expired or lost, and why. Run it where
    the script runs, with the same environment. The exit code is 1 where something does not work.

    \b
      scoretrace doctor
      scoretrace doctor --home /var/scoretrace --json
    """
    findings = scoretrace.doctor(home=home, service=service, exporter=exporter)
    if as_json:
        for finding in findings:
            click.echo(json.dumps(finding._asdict()))
    else:
        show_findings(findings)
    if any(finding.ok is False for finding in findings):
        ctx.exit(1)


@cli.command()
@click.argument("item_id", metavar="ITEM")
@source_option
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


for command in (model_data, read_exports, sync, compact):
    cli.add_command(command)
