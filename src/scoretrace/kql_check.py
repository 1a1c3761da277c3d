"""
What Microsoft's own parser of Kusto says of a query.

It is an npm package (`@kusto/language-service-next`) that runs in Node.js, and
knows the tables of Application Insights and of a workspace from `schema`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from scoretrace.engine import CATALOG
from scoretrace.errors import MissingExtraError, QueryError
from scoretrace.kql import literals
from scoretrace.kql.compiler import compile_query
from scoretrace.kql.places import line_and_column

PACKAGE = "@kusto/language-service-next"
_SECONDS = 120  # for all queries together; the first takes a second, each other 5 ms


class Diagnostic(NamedTuple):
    """Something that is wrong with a query, and where."""

    line: int
    column: int
    severity: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.severity} {self.code}: {self.message}"


class Checked(NamedTuple):
    """What the parser says of a query: what is wrong with it, and the names and types of its columns."""

    diagnostics: list[Diagnostic]
    columns: list[tuple[str, str]]


def check(
    texts: Sequence[str],
    *,
    tables: Mapping[str, Sequence[tuple[str, str]]] = CATALOG,
    package: str | os.PathLike[str] | None = None,
    node: str | None = None,
) -> list[Checked]:
    """
    What the parser says of each of *texts* over *tables*.

    *package* is the folder of the npm package; without it, it is looked for in
    `node_modules` here and above, in NODE_PATH, and among npm's global packages.
    *node* is the command that runs Node.js.

    Raises:
        MissingExtraError: Node.js or the package is not there.
    """
    node = node or shutil.which("node")
    folder = Path(package) if package is not None else _found()
    if node is None or folder is None:
        command = "node, of your system or from nodejs.org" if node is None else f"npm install {PACKAGE}"
        raise MissingExtraError("checking queries", command=command)
    asked = {"tables": {name: dict(columns) for name, columns in tables.items()}, "queries": list(texts)}
    with resources.as_file(resources.files("scoretrace.kql") / "analyze.js") as script:
        done = subprocess.run(  # noqa: S603 - node and our own script
            [node, str(script), str(folder)],
            input=json.dumps(asked),
            capture_output=True,
            encoding="utf-8",
            timeout=_SECONDS,
            check=False,
        )
    if done.returncode:
        raise MissingExtraError("checking queries", command=f"{folder} does not run: {done.stderr[-400:]}")
    return [
        Checked(
            [
                Diagnostic(*line_and_column(text, said["start"]), said["severity"], said["code"], said["message"])
                for said in found["diagnostics"]
            ],
            [(name, kind) for name, kind in found["columns"] or []],
        )
        for text, found in zip(texts, json.loads(done.stdout), strict=True)
    ]


def refusal(text: str) -> str:
    """Why the local engine does not answer a query; nothing where it does."""
    try:
        compile_query(text, CATALOG, now=literals.ticks_of(datetime.now(timezone.utc)))
    except QueryError as error:
        return "" if "depend on its rows" in str(error) else str(error)
    return ""


def _found() -> Path | None:
    """The folder of the npm package."""
    here = Path.cwd()
    places = [folder / "node_modules" for folder in (here, *here.parents)]
    places += [Path(place) for place in os.environ.get("NODE_PATH", "").split(os.pathsep) if place]
    npm = shutil.which("npm")
    for place in places:
        if (place / PACKAGE).is_dir():
            return place / PACKAGE
    if npm is not None:
        shared = subprocess.run([npm, "root", "--global"], capture_output=True, encoding="utf-8", check=False)  # noqa: S603
        if (Path(shared.stdout.strip()) / PACKAGE).is_dir():
            return Path(shared.stdout.strip()) / PACKAGE
    return None
