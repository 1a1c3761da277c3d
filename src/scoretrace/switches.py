"""
The switches of a service, in its home folder: on and off while it runs.

``state/switches/<service>.json`` holds an object; what it does not say is on:

    {"enable_app_insights": false, "collect_model_data": true}
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from scoretrace.setting_values import path_part

LOOK_SECONDS = 0.5  # between looks at the file; a change is obeyed within two seconds

_log = logging.getLogger("scoretrace")


_SAID = {"enable_app_insights": "recording", "collect_model_data": "collecting model data"}


class Switches(msgspec.Struct, frozen=True):
    """What is on; all of it where nobody said anything."""

    enable_app_insights: bool = True
    collect_model_data: bool = True


def path_of(home: Path, service: str) -> Path:
    """The file with the switches of *service*."""
    return home / "state" / "switches" / f"{path_part(service)}.json"


def switched_off(home: Path) -> list[tuple[str, str]]:
    """The services of *home* for which something is switched off, and what."""
    found = []
    for path in sorted((home / "state" / "switches").glob("[!.]*.json")):
        with suppress(OSError, msgspec.MsgspecError):
            said = msgspec.json.decode(path.read_bytes(), type=Switches)
            found += [(path.stem, what) for name, what in _SAID.items() if not getattr(said, name)]
    return found


class Watch:
    """
    The switches of *service* in *home*, looked at twice a second at the most, and only when somebody asks.

    *switch* is the one whose changes are said.
    """

    def __init__(self, home: Path, service: str, switch: str = "enable_app_insights") -> None:
        self.path = path_of(home, service)
        self._switch = switch
        self._found = Switches()
        self._stamp: tuple[int, int, int] | None = None
        self._look_at = float("-inf")

    def now(self) -> Switches:
        """What the file says. Never raises; a file that cannot be read leaves everything as it was."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            with suppress(Exception):  # a home that cannot be looked at now
                self._look()
        return self._found

    def _look(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._stamp = None
            self._turn(Switches())
            return
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        data = self.path.read_bytes()
        self._stamp = stamp
        try:
            self._turn(msgspec.json.decode(data, type=Switches))
        except msgspec.MsgspecError as error:
            _log.warning("%s is not understood, everything stays as it is: %s", self.path, error)

    def _turn(self, found: Switches) -> None:
        before, self._found = self._found, found
        is_on = getattr(found, self._switch)
        if getattr(before, self._switch) != is_on:
            _log.warning("%s is switched %s: %s", _SAID[self._switch], "on" if is_on else "off", self.path)
