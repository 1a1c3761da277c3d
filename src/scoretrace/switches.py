"""
The switches of a service, in its home folder: on and off while it runs.

``state/switches/<service>.json``, the name in lower case as in the folders of
telemetry, holds an object. What it does not say is as it was configured:

    {"enable_app_insights": false, "collect_model_data": true}
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from scoretrace import locks, ticks
from scoretrace.blobs import FolderBlobs
from scoretrace.setting_values import service_part

LOOK_SECONDS = 0.5  # between looks at the file; a change is obeyed within two seconds
_LOCK_SECONDS = 2.0  # that a change waits for another one, which takes milliseconds

_DAMAGED = (msgspec.MsgspecError, ValueError)  # ValueError: text that is no UTF-8

_log = logging.getLogger("scoretrace")


SAID = {"enable_app_insights": "recording", "collect_model_data": "collecting model data"}


class Switches(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is on or off; None where nobody said anything, and what was configured counts."""

    enable_app_insights: bool | None = None
    collect_model_data: bool | None = None


def path_of(home: Path, service: str) -> Path:
    """The file with the switches of *service*."""
    return home / _name(service)


def _name(service: str) -> str:
    return f"state/switches/{service_part(service)}.json"


def read(home: Path, service: str) -> Switches:
    """
    What the file of *service* says; nothing is said where there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    try:
        data = path_of(home, service).read_bytes()
    except FileNotFoundError:
        return Switches()
    return msgspec.json.decode(data, type=Switches)


def put(home: Path, service: str, **changes: bool) -> Switches:
    """
    Say *changes* in the file of *service*, and leave the rest of it as it is.

    The file is replaced whole. Processes see it within two seconds, this one at once.

    Raises:
        OSError: it cannot be written.
        ValueError: it is damaged, and *changes* are not all that it could say.
    """
    with _alone(home, service):
        said = {} if len(changes) == len(SAID) else msgspec.structs.asdict(read(home, service))
        found = Switches(**{**said, **changes})
        FolderBlobs(home).put(_name(service), msgspec.json.encode(found))
    path = path_of(home, service).absolute()
    for reference in tuple(_watches):
        watch = reference()
        if watch is not None and watch.path.absolute() == path:
            watch.look_now()
    return found


@contextmanager
def _alone(home: Path, service: str) -> Iterator[None]:
    """Two who change the switches of a service do it one after the other."""
    path = path_of(home, service)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.stem}.lock").open("ab") as file:
        end = time.monotonic() + _LOCK_SECONDS
        while not locks.try_lock(file.fileno()):
            if time.monotonic() > end:
                raise TimeoutError("another process is changing it, or this file system has no locks")
            time.sleep(0.01)
        yield


def remember(home: Path, service: str) -> None:
    """Leave the name of *service* in *home*: it may be switched before it has recorded anything. Never raises."""
    name = f"state/services/{service_part(service)}"
    with suppress(OSError, ValueError):
        if not (home / name).exists():
            FolderBlobs(home).put(name, service.encode("utf-8", "replace"))


def services(home: Path) -> dict[str, str]:
    """The services that *home* knows: by their name in folders, how they are written as far as that is known."""
    names = {service_part(path.stem): path.stem for path in _files(home)}
    for path in (home / "telemetry").glob("*_*"):
        name = path.name.rpartition("_")[0]
        names[name] = name
    for path in (home / "state" / "services").glob("[!.]*"):
        with suppress(OSError):
            names[path.name] = path.read_text("utf-8", "replace").strip() or path.name
    return names


def _files(home: Path) -> list[Path]:
    return sorted((home / "state" / "switches").glob("[!.]*.json"))


def faults(home: Path) -> list[tuple[Path, str]]:
    """The files with switches that nobody obeys, and why."""
    return [(path, why) for path in _files(home) if (why := _examined(path)[1])]


def switched_off(home: Path) -> list[tuple[str, str]]:
    """The services of *home* for which something is switched off, and what."""
    examined = ((path.stem, *_examined(path)) for path in _files(home))
    return [
        (name, what)
        for name, said, why in examined
        for switch, what in SAID.items()
        if not why and getattr(said, switch) is False
    ]


def _examined(path: Path) -> tuple[Switches, str]:
    """What a file says, and why nobody obeys it, where that is so."""
    try:
        said = msgspec.json.decode(path.read_bytes(), type=Switches)
    except (OSError, *_DAMAGED) as error:
        return Switches(), f"is not understood, everything stays as it was: {error}"
    name = service_part(path.stem)
    return said, "" if path.stem == name else f"is not read: its name has to be {name}.json"


_watches: list[weakref.ref[Watch]] = []  # of this process; a list, because that is copied at once


class Watch:
    """
    One *switch* of *service* in *home*, looked at twice a second at the most, and only when somebody asks.

    It is *configured* on or off where the file does not say. *hurry* is called
    when this process has changed the file: whoever remembers an answer forgets it.
    """

    def __init__(
        self,
        home: Path,
        service: str,
        switch: str,
        *,
        configured: bool = True,
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        self._hurry = hurry
        self.path = path_of(home, service)
        self.off_since = 0  # when it is off: since when, in ticks
        self._said = ""
        self._switch = switch
        self._configured = self._is_on = configured
        self._stamp: tuple[int, int, int] | None = None
        self._look_at = float("-inf")
        _watches.append(weakref.ref(self, _watches.remove))  # when it can be asked

    def is_on(self) -> bool:
        """What the file says. Never raises; a file that cannot be read leaves everything as it was."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            try:
                self._look()
            except (*_DAMAGED, IsADirectoryError, PermissionError) as error:
                self._say(error)
            except Exception:  # noqa: BLE001, S110 - a home that cannot be looked at now, of which others speak
                pass
        return self._is_on

    def look_now(self) -> None:
        """Ask the file with the next question, however soon that comes."""
        self._look_at = float("-inf")
        with suppress(Exception):  # whoever remembers an answer forgets it by itself in a second
            self._hurry()

    def _look(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._said = None, ""
            self._turn(Switches(), ticks.now())
            return
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        data = self.path.read_bytes()
        self._stamp = stamp
        self._said = ""
        self._turn(msgspec.json.decode(data, type=Switches), status.st_mtime_ns // 100)

    def _say(self, error: Exception) -> None:
        if self._said != str(error):
            self._said = str(error)
            _log.warning("%s is not understood, everything stays as it is: %s", self.path, error)

    def _turn(self, found: Switches, since: int) -> None:
        said = getattr(found, self._switch)
        is_on = self._configured if said is None else said
        if is_on != self._is_on:
            self._is_on = is_on
            self.off_since = since
            _log.warning("%s is switched %s: %s", SAID[self._switch], "on" if is_on else "off", self.path)
