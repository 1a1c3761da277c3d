"""
The command line: each command calls one public function and shows what it returns.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the answer
is no, 2 wrong usage, 3 a query that cannot be answered or lines that cannot be
read, 4 nothing to read there, 130 interrupted.

A command is imported when it is asked for, so that its help comes at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click

import scoretrace
from scoretrace.errors import PayloadError, QueryError, ScoretraceError, ScriptError, ServiceNotFound, SourceError

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, None}
CODES = (
    "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 query error, or lines set aside, 4 nothing to read there, "
    "130 interrupted."
)
# By topic: the commands, with what they do in a line, and their function in the package `commands`.
COMMANDS = {
    "Score and switch": {
        "run": ("Score each line of a file with a scoring script.", "run:run"),
        "update": ("Switch telemetry and model data of a service on or off.", "services:update"),
        "logs": ("Show the newest lines of what a service recorded.", "services:logs"),
    },
    "Look at it": {
        "query": ("Run a Kusto query.", "queries:query"),
        "queries": ("List the bundled queries, or check your own.", "queries:queries"),
        "tail": ("Show the newest items of all tables.", "reading:tail"),
        "payload": ("Give back the original of an item that was too large.", "reading:payload"),
        "model-data": ("List and read inputs and predictions that were collected.", "model_data:model_data"),
    },
    "Deliver": {
        "export": ("Deliver what waits in a home.", "delivery:export"),
        "serve": ("Receive telemetry of any SDK on this machine.", "delivery:serve"),
        "doctor": ("Say why telemetry does not arrive.", "delivery:doctor"),
    },
    "Exports of Azure": {
        "read": ("Read exported telemetry as tables.", "exports:read_exports"),
        "sync": ("Copy the exports of a container, and later what changed.", "exports:sync"),
        "compact": ("Keep closed hours as Parquet files.", "exports:compact"),
    },
    "This command": {
        "completion": ("Print what a shell needs to complete commands.", "completion:completion"),
    },
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order of the help."""
        del ctx
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself; `commands` has but its name."""
        del ctx
        for commands in COMMANDS.values():
            if cmd_name in commands:
                module, _, name = commands[cmd_name][1].partition(":")
                found: click.Command = getattr(import_module(f"scoretrace.commands.{module}"), name)
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands by topic, for which none has to be imported."""
        del ctx
        width = max(len(name) for commands in COMMANDS.values() for name in commands)
        for topic, commands in COMMANDS.items():
            with formatter.section(topic):
                formatter.write_dl([(name.ljust(width), said) for name, (said, _) in commands.items()])

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
    for kind, code in ((QueryError, 3), (SourceError, 4), (ServiceNotFound, 4), (PayloadError, 1)):
        if isinstance(error, kind):
            return code
    return 1


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=CODES,
    commands={name: click.Command(name) for commands in COMMANDS.values() for name in commands},
)
@click.version_option(scoretrace.__version__, prog_name="scoretrace")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Application Insights telemetry of scoring scripts: run them, read it back, ask it questions."""
    del debug  # read from the context where an error ends a command
