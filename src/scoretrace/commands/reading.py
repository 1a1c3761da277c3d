"""`scoretrace tail` and `payload`: single rows of a home, and the originals of those that were too large."""

from __future__ import annotations

from pathlib import Path

import click

import scoretrace
from scoretrace.commands.options import source_option
from scoretrace.schema import BY_CLASSIC


@click.command()
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

    from scoretrace import read
    from scoretrace.commands.render import show_item

    console = Console(soft_wrap=True, highlight=False)
    kinds = [BY_CLASSIC[table].kind for table in chosen] or None

    def unreadable(path: Path) -> None:
        click.echo(f"{path}: a line cannot be read, passed over", err=True)

    items = read.follow if follow else read.newest
    for item in items(source, lines, kinds, unreadable=unreadable):
        show_item(console, item)


@click.command()
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
