"""`python -m scoretrace`, and the command `scoretrace`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules are imported; later the command line has it
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _run() -> None:
    try:
        import click
        import rich  # noqa: F401 - it needs both
    except ImportError:
        print("the command line needs its own dependencies: pip install 'scoretrace[cli,query]'", file=sys.stderr)
        sys.exit(1)
    del click
    from scoretrace.cli import cli

    cli(prog_name="scoretrace")


if __name__ == "__main__":
    main()
