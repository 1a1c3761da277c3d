"""`scoretrace export`, `serve` and `doctor`: delivery from the command line, to this machine, and why it fails."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import click

import scoretrace
from scoretrace.commands.options import count, home_option, service_option
from scoretrace.connections import HOST, PORT

if TYPE_CHECKING:
    from scoretrace.settings import Settings
    from scoretrace.sidecar import Exported


@click.command()
@home_option("What to deliver.")
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


@click.command()
@home_option("Where telemetry goes.")
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


@click.command()
@home_option("The home to look at.")
@service_option
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
    from scoretrace.commands.render import show_findings

    findings = scoretrace.doctor(home=home, service=service, exporter=exporter)
    if as_json:
        for finding in findings:
            click.echo(json.dumps(finding._asdict()))
    else:
        show_findings(findings)
    if any(finding.ok is False for finding in findings):
        ctx.exit(1)
