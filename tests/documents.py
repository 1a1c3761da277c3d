"""The blocks of code in the documents, and how each kind is run."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import tomllib

from scoretrace.cli import cli

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_ENDLESS = re.compile(r"scoretrace serve|--follow|-F\b")


class Block(NamedTuple):
    """A block with its *language*, what else its fence says, and the line that it begins on."""

    language: str
    words: tuple[str, ...]
    code: str
    line: int


def blocks(document):
    """All blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        language, *words = match[2].split() or [""]
        code = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
        found.append(Block(language, tuple(words), code, text[: match.start()].count("\n") + 1))
    return found


def run_console(block, folder, environment):
    """Each line behind a ``$`` in a shell; what is shown below it must be there, and then the command may also fail."""
    commands = re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]
    assert commands, "a console has lines that begin with $"
    for command in commands:
        line, *shown = command.rstrip("\n").split("\n")
        with subprocess.Popen(
            ["bash", "-c", line] if not _ENDLESS.search(line) else shlex.split(line),
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            if _ENDLESS.search(line):
                said = process.stdout.readline()
                process.send_signal(signal.SIGINT)
                said += process.communicate(timeout=60)[0]
                code = 0 if process.returncode in {0, 130} else process.returncode
            else:
                said = process.communicate(timeout=120)[0]
                code = process.returncode
        if not any("Error" in expected for expected in shown):
            assert code == 0, f"{line}\n{said}"
        for expected in shown:
            pattern = ".*".join(re.escape(part) for part in expected.split("..."))
            assert re.search(pattern, said), f"{line}\n{said}"


def check_shell(block):
    """Lines that set a machine up: what they name is there, and a command of ours has these options."""
    for line in block.code.strip().splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["pip", "install"]:
            ours = [match for word in words[2:] for match in re.findall(r"(?:scoretrace|\.)\[([\w,-]+)\]", word)]
            assert all(set(extras.split(",")) <= EXTRAS for extras in ours), line
        elif words[0] == "scoretrace":
            _parsed(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        else:
            assert words[0] in {"export", "curl"}, line


def _parsed(words):
    """A command line is taken apart as it would be, and not run."""
    with click.Context(cli, info_name="scoretrace") as context:
        command = cli.get_command(context, words[0])
        assert command is not None, words
        command.make_context(words[0], list(words[1:]), parent=context)


def shell_environment(home):
    """The environment of a reader: our commands on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "SCORETRACE_HOME": str(home)}
