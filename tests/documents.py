"""The blocks of code in the documents, and how each kind is run."""

import json
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

from processes import until
from scoretrace import read
from scoretrace.cli import cli
from scoretrace.settings import known_names

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


def run_shell(block, folder, environment, connection_string):
    """
    Lines that set a machine up, or go on for ever.

    What they install is an extra of ours; the sidecar and the endpoint of our own run; what goes to Azure is taken
    apart as it would be, and not run.
    """
    for line in block.code.strip().splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["pip", "install"]:
            ours = [match for word in words[2:] for match in re.findall(r"(?:scoretrace|\.)\[([\w,-]+)\]", word)]
            assert all(set(extras.split(",")) <= EXTRAS for extras in ours), line
        elif line == "scoretrace export --follow":
            given = {**environment, "APPLICATIONINSIGHTS_CONNECTION_STRING": connection_string}
            with subprocess.Popen(words, cwd=folder, env=given, stderr=subprocess.PIPE, text=True) as process:
                assert until((Path(environment["SCORETRACE_HOME"]) / "state" / "cursors").exists)
                process.send_signal(signal.SIGINT)
                assert "delivered" in process.stderr.read()
        elif words[0] == "curl":
            _ask_endpoint(line, folder, environment)
        elif words[0] == "scoretrace":
            _parsed(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        else:
            assert words[0] == "export", line
            assert words[1].partition("=")[0] in known_names(), line


def _ask_endpoint(line, folder, environment):
    """Curl asks a `scoretrace serve` of its own, on another port than the documents name."""
    command = ["scoretrace", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        port = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[1]
        ended = subprocess.run(["bash", "-c", line.replace("8317", port)], capture_output=True, text=True, timeout=60)
        process.send_signal(signal.SIGINT)
    assert json.loads(ended.stdout)["tables"], ended.stdout + ended.stderr


def run_json(block, folder, environment):
    """A `logging.json` is used as one."""
    code = (
        "import json, logging.config, sys\nlogging.config.dictConfig(json.loads(sys.argv[1]))\nlogging.warning('one')"
    )
    assert "TelemetryHandler" in block.code
    subprocess.run(
        [sys.executable, "-c", code, block.code], cwd=folder, env=environment, check=True, capture_output=True
    )
    newest = read.newest(environment["SCORETRACE_HOME"], 1)
    assert [item.message for item in newest] == ["one"]


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
