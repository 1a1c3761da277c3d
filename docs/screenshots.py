"""
Screenshots of the terminal for the documents: real commands in a real terminal of 110 columns, as pictures.

    python docs/screenshots.py

They show the home that `make demo` leaves.
"""

import fcntl
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
HOME = ROOT / ".scoretrace" / "demo" / "home"
COLUMNS, LINES = 110, 60
COMMANDS = {
    "query": ["scoretrace query requests-by-result", "scoretrace query failures"],
    "chart": ["scoretrace query response-times-over-time --set slot=50ms"],
    "tail": ["scoretrace tail -n 6 --table requests", "scoretrace tail --table exceptions"],
    "switch": [
        "scoretrace update diabetes --app-insights off --model-data off",
        "scoretrace update diabets --app-insights on",
        "scoretrace update diabetes --app-insights on --model-data on",
    ],
}
# As rich draws it, but with the reader's own monospaced letters: no font comes from elsewhere.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
 line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: arial; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def in_a_terminal(line: str) -> str:
    """What a command writes to a terminal."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {
        **os.environ,
        "SCORETRACE_HOME": str(HOME),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "COLUMNS": str(COLUMNS),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    environment.pop("CI", None)
    with subprocess.Popen(shlex.split(line), stdin=inner, stdout=inner, stderr=inner, env=environment):
        os.close(inner)
        said = b""
        while True:
            try:
                piece = os.read(outer, 65_536)
            except OSError:  # as Linux says that the other end is closed
                break
            if not piece:
                break
            said += piece
    os.close(outer)
    return said.decode().replace("\r\n", "\n").replace(str(HOME), "home")


def picture(commands: list[str], name: str) -> str:
    """Commands with what they showed, as SVG."""
    console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in commands:
        console.print(Text(f"$ {line}", "bold"))
        console.print(Text.from_ansi(in_a_terminal(line).rstrip("\n")), soft_wrap=True)
    return console.export_svg(title="scoretrace", code_format=FORMAT, unique_id=f"terminal-{name}")


if __name__ == "__main__":
    subprocess.run([sys.executable, ROOT / "examples" / "diabetes" / "demo.py"], check=True, stdout=subprocess.DEVNULL)
    (DOCS / "screenshots").mkdir(exist_ok=True)
    for name, commands in COMMANDS.items():
        (DOCS / "screenshots" / f"{name}.svg").write_text(picture(commands, name), encoding="utf-8")
