"""`scoretrace query` and `queries`: Kusto on the command line."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

import scoretrace
from scoretrace.bounds import MEMORY
from scoretrace.commands.options import count, output_options, source_option
from scoretrace.errors import UnknownNameError

_KEYWORDS = {"source", "timespan", "timeout", "memory"}  # of scoretrace.query


def _names(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The bundled queries that a shell may complete, and else files."""
    found = [CompletionItem(one.name) for one in scoretrace.queries() if one.name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


@click.command()
@click.argument("text", metavar="TEXT|NAME|FILE", shell_complete=_names)
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
    from scoretrace.commands.render import show

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


@click.command()
@click.argument("name", required=False, shell_complete=_names)
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
    from scoretrace.near import near

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


_INDENTED = textwrap.TextWrapper(100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _show_support() -> None:
    from scoretrace.kql import support

    for title, listed in (("answered", support.supported()), ("refused by name", support.refused())):
        for kind, names in listed.items():
            click.echo(f"{kind}, {title}:")
            click.echo(
                textwrap.fill(" ".join(names), 100, break_on_hyphens=False, initial_indent="  ", subsequent_indent="  ")
            )
