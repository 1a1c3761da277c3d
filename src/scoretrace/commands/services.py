"""`scoretrace update` and `logs`: a service switched, and what it logged."""

from __future__ import annotations

import sys

import click

import scoretrace
from scoretrace.commands.options import home_option
from scoretrace.errors import ServiceNotFound

_AZURE = "azure:"
_STATES = {"on": True, "off": False}
_STATE = click.Choice(list(_STATES), case_sensitive=False)
_SAID = {True: "on", False: "off", None: "as configured"}


def _names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The services that a shell may complete."""
    return [name for name in scoretrace.Webservice.list(ctx.params.get("home")) if name.startswith(incomplete)]


@click.command()
@click.argument("name", shell_complete=_names)
@click.option(
    "--app-insights", type=click.Choice(list(_STATES), case_sensitive=False), help="Whether telemetry is recorded."
)
@click.option(
    "--model-data",
    type=click.Choice(list(_STATES), case_sensitive=False),
    help="Whether inputs and predictions are collected.",
)
@home_option("The home that NAME is in.")
@click.option("--create", is_flag=True, help="Switch a service of which the home knows nothing yet.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of what is on now, or of how far it is.")
def update(
    name: str, app_insights: str | None, model_data: str | None, home: str | None, create: bool, quiet: bool
) -> None:
    """
    Switch telemetry and the collection of model data of a service on or off.

    NAME is a service of the home: its processes obey within two seconds. Or it
    is azure: and the resource id of an online deployment, which is changed in
    Azure with the sign-in of az login (--tenant names another tenant there) or
    a managed identity: pip install azure-ai-ml azure-identity.

    \b
      scoretrace update diabetes --app-insights off
      scoretrace update diabetes --app-insights on --model-data on
      scoretrace update azure:/subscriptions/.../onlineEndpoints/diabetes/deployments/blue --app-insights on
    """
    if app_insights is None and model_data is None:
        raise click.UsageError("nothing to update: give --app-insights on|off, --model-data on|off or both")
    wanted = {
        "enable_app_insights": None if app_insights is None else _STATES[app_insights],
        "collect_model_data": None if model_data is None else _STATES[model_data],
    }
    if name.startswith(_AZURE):
        if home is not None or create:
            raise click.UsageError("--home and --create are for services of this machine")
        scoretrace.update(name, **wanted, progress=(lambda _text: None) if quiet else None)
        return
    try:
        service = scoretrace.Webservice(name, home=home, must_exist=not create)
    except ServiceNotFound as error:
        raise ServiceNotFound(f"{error} (--create switches one before its first start)") from error
    service.update(**wanted)
    if not quiet:
        switches = service.switches()
        click.echo(
            f"{service.name}: telemetry {_SAID[switches['enable_app_insights']]}, "
            f"model data {_SAID[switches['collect_model_data']]}",
            err=True,
        )


@click.command()
@click.argument("name", shell_complete=_names)
@click.option("-n", "--num-lines", default=5000, show_default=True, type=click.IntRange(min=0), help="How many lines.")
@click.option("--init", is_flag=True, help="Only what belongs to no request, as what init() does.")
@home_option("The home that NAME is in.")
def logs(name: str, num_lines: int, init: bool, home: str | None) -> None:
    """
    Show the newest lines of what a service of the home recorded, oldest first.

    \b
      scoretrace logs diabetes
      scoretrace logs diabetes -n 100 --init
    """
    if name.startswith(_AZURE):
        raise click.UsageError("logs are those of services of this machine; in Azure it is service.get_logs()")
    text = scoretrace.Webservice(name, home=home).get_logs(num_lines, init)
    if text:
        from scoretrace.summary import printable

        click.echo(printable(text) if sys.stdout.isatty() else text)
