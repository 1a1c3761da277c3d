"""
The pages made from the code: `commands.md` from what ``--help`` says, `settings.md` from the table of settings.

    python docs/build.py

writes them; the tests compare them.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from scoretrace.cli import CODES, COMMANDS, cli
from scoretrace.settings import SETTINGS, Setting

DOCS = Path(__file__).resolve().parent
_WIDTH = 100
_SIZES = {"GiB": 1024**3, "MiB": 1024**2}


def commands() -> str:
    """Every command with its help."""
    page = [
        "# Commands",
        "",
        "What `--help` says, by topic. Data goes to stdout, everything else to stderr. `python -m scoretrace` is the",
        'same command, and `eval "$(scoretrace completion bash)"` completes it in a shell (zsh and fish too).',
        "",
        CODES,
        "",
        "SOURCE is a home folder, any folder with export files below it, one such file, or (for `read`, `sync` and",
        "`query`) the URL of a container or account.",
        "",
    ]
    with cli.make_context("scoretrace", ["completion"]) as context:
        for topic, names in COMMANDS.items():
            page += [f"## {topic}", ""]
            for name in names:
                command = cli.get_command(context, name)
                assert command is not None
                for path, one in _all((name,), command):
                    page += [f"### `scoretrace {' '.join(path)}`", "", "```text", _help(context, path, one), "```", ""]
    return "\n".join(page).rstrip() + "\n"


def _all(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _all((*path, name), below)


def _help(context: click.Context, path: tuple[str, ...], command: click.Command) -> str:
    name = " ".join(path)
    below = click.Context(command, context, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
    return command.get_help(below)


def settings() -> str:
    """Every setting with its names in the environment and what it is without them."""
    rows = []
    for setting in SETTINGS:
        names = ", ".join(f"`{name}`" for name in setting.environment)
        rows.append(f"| `{setting.name}` | {names} | {_default(setting)} | {setting.help} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Keywords of `configure` and `TelemetryHandler`. An argument wins over the environment, the environment",
            "over the default. `scoretrace doctor` shows what holds, and where it comes from.",
            "",
            "| setting | environment | default | what it is |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _default(setting: Setting) -> str:
    value = setting.default
    if setting.name == "level":
        return "INFO"
    if value is None:
        return "false, but true in the scoring server"
    if value in ("", ()):
        return "the host's name" if setting.name == "instance" else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    for unit, size in _SIZES.items():
        if isinstance(value, int) and value >= size:
            return f"{value // size} {unit}"
    return f"`{value}`"


PAGES = {"commands.md": commands, "settings.md": settings}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
