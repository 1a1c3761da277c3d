"""`scoretrace completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """
    Print the script that completes commands and options in a shell.

    \b
      eval "$(scoretrace completion bash)"
      scoretrace completion fish > ~/.config/fish/completions/scoretrace.fish
    """
    made = get_completion_class(shell)
    if made is None:  # pragma: no cover - click knows all three
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(made(ctx.find_root().command, {}, "scoretrace", "_SCORETRACE_COMPLETE").source())
