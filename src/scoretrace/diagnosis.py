"""Why telemetry does not arrive: what is set and by whom, what answers, and what became of the rows."""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
from collections import Counter
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from scoretrace import notes, shared_file, switches
from scoretrace.blobs import AzureBlobs
from scoretrace.capture import prints, scoring_server
from scoretrace.connections import said
from scoretrace.cursor import cursors
from scoretrace.errors import MissingExtraError, ScoretraceError, SettingsError
from scoretrace.exporters import routes
from scoretrace.read import find
from scoretrace.setting_values import WAYS
from scoretrace.settings import Settings, explain, known_names, resolve, unknown_names

_LEAST_FREE = 100 * 1024**2  # bytes of disk below which something is about to be lost
_SERVER = "azureml-inference-server-http"
_REASONS = 5  # of what was refused are shown


class Finding(NamedTuple):
    """What is known about a *topic*; *ok* is False where something does not work, None where it only is so."""

    topic: str
    text: str
    ok: bool | None = None


class _Refused(msgspec.Struct):
    """A line of a quarantine file, as much of it as is shown."""

    status: int = 0
    message: str = ""


def doctor(**settings: Any) -> list[Finding]:
    """
    Look at everything between a print and its row, with these *settings* (those of `configure`) and this environment.

    It sends the ingestion endpoint a batch of nothing, writes the blob
    ``modeldata/scoretrace-doctor`` to the storage account if it is not there yet
    (ten seconds each at the most), and makes and removes an empty file in the
    home. Called inside a scoring script, what it says of
    `print` is what is there. Never raises for what it finds; secrets are masked.
    """
    rows = explain(settings)
    findings = [Finding("settings", f"{row.name} = {row.shown}  ({row.origin})") for row in rows]
    findings += [Finding("settings", row.error, ok=False) for row in rows if row.error]
    findings += [
        Finding("settings", f"{name} is no name of a setting{_meant(name)}", ok=False) for name in unknown_names()
    ]
    try:
        resolved = resolve(settings)
    except SettingsError as error:
        if not any(row.error for row in rows):  # else it is said already
            findings.append(Finding("settings", str(error), ok=False))
        return [*findings, *_print(None), *_server()]
    return [
        *findings,
        *_print(resolved.home),
        *_server(),
        *_home(resolved),
        *_extras(resolved),
        *_endpoint(resolved),
        *_storage(resolved),
        *_rows(resolved),
        *_collected(resolved),
    ]


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name, known_names(), n=1)
    return f": did you mean {near[0]}?" if near else ""


def _print(home: Path | None) -> list[Finding]:
    behind = prints.holder()
    who = {"builtins": "Python's own", f"{scoring_server.PACKAGE}.print_log_hook": "the scoring server's"}
    behind = who.get(behind, f"{behind}'s")
    tapped = f"tapped by scoretrace, {behind} behind it" if prints.is_tapped() else f"{behind}, not tapped here"
    found = [Finding("print", f"in this process: {tapped}")]
    living = filter(notes.is_alive, notes.read(home)) if home is not None else ()
    return found + [
        Finding("print", f"in process {note.pid} ({note.service}): {note.print or 'not tapped'}") for note in living
    ]


def _server() -> list[Finding]:
    found = []
    with suppress(PackageNotFoundError):
        found.append(Finding("scoring server", f"{_SERVER} {version(_SERVER)} is installed here"))
    if scoring_server.sends_itself():
        text = (
            "its own Application Insights switch is on beside ours, so each row would arrive twice: "
            "set AML_APP_INSIGHTS_ENABLED=false"
        )
        found.append(Finding("scoring server", text, ok=False))
    return found


def _home(settings: Settings) -> list[Finding]:
    home = settings.home
    probe = home / "state" / f".doctor-{os.getpid()}"
    made = [folder for folder in (probe.parent, *probe.parent.parents) if not folder.exists()]
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        free = shutil.disk_usage(home).free
    except OSError as error:
        return [Finding("home", f"{home} cannot be written: {error}", ok=False)]
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
    has_room = free > _LEAST_FREE
    state = "can be written" if has_room else "is almost full, so rows are kept in memory and then lost"
    found = [Finding("home", f"{home} {state}: {free // 1024**2:,} MB free", ok=has_room)]
    if settings.disabled:
        found.append(Finding("home", "disabled: nothing is captured", ok=False))
    for path, why in switches.faults(home):
        found.append(Finding("home", f"{path} {why}", ok=False))
    for service, what in switches.switched_off(home):
        path = switches.path_of(home, service)
        found.append(Finding("home", f"{what} is switched off for {service}: {path}", ok=False))
    return found


def _extras(settings: Settings) -> list[Finding]:
    try:
        routes.check(settings)
        if settings.instrument:
            from scoretrace.capture import instrument

            instrument.check(settings.instrument)
    except ScoretraceError as error:
        return [Finding("packages", str(error), ok=False)]
    missing = [name for name, package in (("cli", "rich"), ("query", "duckdb")) if _is_missing(package)]
    return [Finding("packages", f"not installed: scoretrace[{','.join(missing)}]")] if missing else []


def _is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def _endpoint(settings: Settings) -> list[Finding]:
    if settings.ingestion is None:
        text = "none: no connection string, so telemetry stays in the home (which is enough to query it)"
        return [Finding("endpoint", text)]
    endpoint = settings.ingestion.endpoint
    if not set(settings.exporter) & set(WAYS):
        return [Finding("endpoint", f"{endpoint} is left to `scoretrace export`: exporter names nothing that delivers")]
    try:
        reason = routes.probe(settings)
    except MissingExtraError:  # said already
        return []
    if reason:
        return [Finding("endpoint", f"{endpoint} does not take telemetry: {reason}", ok=False)]
    return [Finding("endpoint", f"{endpoint} answers", ok=True)]


def _storage(settings: Settings) -> list[Finding]:
    accounts = dict.fromkeys((settings.storage, settings.model_data_storage))
    found = [finding for account in accounts if account for finding in _account(account, settings)]
    return found or [Finding("storage", "none: originals of what is too large, and collected data, stay in the home")]


def _account(storage: str, settings: Settings) -> list[Finding]:
    try:
        blobs = AzureBlobs(storage, credential=settings.credential)
        blobs.put("modeldata/scoretrace-doctor", b"written to see whether this can be written")
    except Exception as error:  # noqa: BLE001 - azure-core, requests and credentials raise what they like
        return [Finding("storage", f"does not answer as it should: {said(error)}", ok=False)]
    return [Finding("storage", f"{blobs.url} can be written", ok=True)]


def _rows(settings: Settings) -> list[Finding]:
    home = settings.home
    lines, diverted = _written(home)
    found = [Finding("rows", f"{lines:,} on disk, {diverted:,} of them diverted because they were too large")]
    waiting = _waiting(settings)
    if waiting:
        found.append(Finding("rows", f"{waiting:,} bytes wait to be delivered"))
    refused = _refused(home)
    for (status, message), count in refused.most_common(_REASONS):
        reason = f"HTTP {status}: {message}" if status else message
        found.append(Finding("rows", f"{count:,} refused by the service: {reason} (in state/quarantine)", ok=False))
    torn = len(list((home / "state" / "quarantine").glob("*.torn")))
    if torn:
        found.append(Finding("rows", f"{torn:,} torn by a full disk or a power cut (in state/quarantine)", ok=False))
    lost: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for note in notes.read(home):
        counts.update(note.counts)
        lost.update({f"lost: {reason}": number for reason, number in note.lost.items()})
        lost.update({f"given up: {why}": number for why, number in note.given_up.items() if why != "refused"})
    said_of = {
        "not_diverted": "too large, and kept whole because the original could not be stored",
        "processor_errors": "went on unchanged because a processor failed",
    }
    found += [Finding("rows", f"{number:,} {text}", ok=False) for text, number in sorted(lost.items()) if number]
    found += [Finding("rows", f"{counts[name]:,} {text}", ok=False) for name, text in said_of.items() if counts[name]]
    not_taken = {name: number for name, number in counts.items() if name.startswith("refused ")}
    found += [
        Finding("model data", f"{number:,} calls of collect {name}", ok=False) for name, number in not_taken.items()
    ]
    said_if = {"dropped": "dropped by processors", "sampled_out": "left out by sampling"}
    found += [Finding("rows", f"{counts[name]:,} {text}") for name, text in said_if.items() if counts[name]]
    return found


def _collected(settings: Settings) -> list[Finding]:
    """What collectors wrote, and how much of it is not in storage."""
    home = settings.home
    is_switched_on = None
    with suppress(OSError, ValueError):  # a file that is damaged says nothing
        is_switched_on = switches.read(home, settings.service).collect_model_data
    if not settings.collect_model_data and not is_switched_on:
        return [Finding("model data", "nothing is collected: AML_MODEL_DC_STORAGE_ENABLED says so", ok=False)]
    with suppress(OSError):
        sizes = {name: (home / name).stat().st_size for name in shared_file.names(home) if (home / name).exists()}
        if not sizes:
            return []
        known = [cursor for cursor in cursors(home) if cursor.scope == "modeldata"]
        keys = [shared_file.key(home, name) for name in sizes]
        settled = sum(min((cursor.at(key) for cursor in known), default=0) for key in keys)
        found = [Finding("model data", f"{len(sizes):,} files with {sum(sizes.values()):,} bytes")]
        if settings.storage or settings.model_data_storage:
            found.append(Finding("model data", f"{max(sum(sizes.values()) - settled, 0):,} bytes wait to be delivered"))
        return found
    return []


def _written(home: Path) -> tuple[int, int]:
    """How many rows are in *home*, and how many of them point at a payload."""
    lines = diverted = 0
    with suppress(ScoretraceError, OSError):
        for blob in find(home):
            with suppress(OSError), blob.path.open("rb") as file:
                for line in file:
                    lines += 1
                    diverted += b'{"payload_sha256":' in line
    return lines, diverted


def _waiting(settings: Settings) -> int:
    """Bytes that the exporters of *settings* have not settled."""
    if settings.ingestion is None:
        return 0
    key = settings.i_key.replace("-", "")
    known = [cursor for cursor in cursors(settings.home) if cursor.covers(f"_{key}/")]
    total = 0
    for path in (settings.home / "telemetry").glob(f"*_{key}/*/*/*/*.blob"):
        with suppress(OSError):
            name = path.relative_to(settings.home / "telemetry").as_posix()
            total += path.stat().st_size - min((cursor.at(name) for cursor in known), default=0)
    return total


def _refused(home: Path) -> Counter[tuple[int, str]]:
    found: Counter[tuple[int, str]] = Counter()
    for path in sorted((home / "state" / "quarantine").glob("*.ndjson")):
        with suppress(OSError), path.open("rb") as file:
            for line in file:
                with suppress(msgspec.MsgspecError):
                    row = msgspec.json.decode(line, type=_Refused)
                    found[row.status, row.message] += 1
    return found
