"""
A web service of this machine, under the names that Azure ML's SDK v1 gave to the same things.

Whatever runs a scoring script with this home and service name is that service:
`scoretrace run`, the scoring server, any process that called `configure`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scoretrace import read, settings, switches
from scoretrace.errors import ServiceError, ServiceNotFound, SettingsError, SourceError
from scoretrace.item import ExceptionItem, Item, Thrown
from scoretrace.near import near
from scoretrace.schema import SEVERITIES
from scoretrace.service.configuration import DeployConfiguration, deploy_configuration, flags
from scoretrace.setting_values import service_part
from scoretrace.summary import severity, summary, time


class Webservice:
    """
    The service *name* in the home folder *home*.

    Args:
        name: as in ``configure(service=...)`` or SERVICE_NAME.
        home: the home folder; without it that of the settings.
        must_exist: whether the home has to know the service. ``False`` is for switching before its first start.

    Raises:
        ServiceNotFound: the home does not know it.
    """

    _compute = ""

    def __init__(self, name: str, *, home: str | os.PathLike[str] | None = None, must_exist: bool = True) -> None:
        if not isinstance(name, str) or not name.strip():
            raise SettingsError(f"{type(self).__name__} takes the name of a service, not {name!r:.80}")
        self.name = name.strip()
        self.home = settings.home() if home is None else Path(home)
        if must_exist:
            _known(self.home, self.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, home={os.fspath(self.home)!r})"

    @classmethod
    def deploy_configuration(
        cls, *, enable_app_insights: bool | None = None, collect_model_data: bool | None = None, **more: Any
    ) -> DeployConfiguration:
        """
        What a service is deployed with, as a dictionary; *more* are other keywords of SDK v1 (``cpu_cores``, ...).

        Raises:
            SettingsError: a switch is neither True, False nor None, or SDK v1 does not take a keyword (where it is
                in use; otherwise it says so when it gets the configuration).
        """
        both = {"enable_app_insights": enable_app_insights, "collect_model_data": collect_model_data}
        return deploy_configuration(cls._compute, **both, **more)

    def update(self, *, enable_app_insights: bool | None = None, collect_model_data: bool | None = None) -> None:
        """
        Switch recording and collecting on or off; ``None`` leaves it as it is.

        Processes of the service obey within two seconds, when they next record something.

        Raises:
            SettingsError: nothing is given, or a value is neither True nor False.
            ServiceError: the file with the switches is damaged, or cannot be written.
        """
        wanted = flags(enable_app_insights, collect_model_data)
        path = switches.path_of(self.home, self.name)
        try:
            switches.put(self.home, self.name, **wanted)
        except OSError as error:
            why = "there is a folder in its place, remove it" if path.is_dir() else error.strerror or str(error)
            raise ServiceError(f"{path} cannot be written, nothing is switched: {why}") from error
        except ValueError as error:
            missing = next(name for name in switches.SAID if name not in wanted)
            raise ServiceError(
                f"{path} is damaged ({error}), so {missing} is not known: give both switches, which replaces the file"
            ) from error

    def switches(self) -> dict[str, bool | None]:
        """
        What is switched on and off; ``None`` is as it was configured.

        Raises:
            ServiceError: the file with the switches is damaged or cannot be read.
        """
        try:
            found = switches.read(self.home, self.name)
        except (OSError, ValueError) as error:
            raise ServiceError(f"{switches.path_of(self.home, self.name)} cannot be read: {error}") from error
        return {name: getattr(found, name) for name in switches.SAID}

    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """
        The last *num_lines* lines of what was recorded, oldest first: UTC time, severity, text.

        A text of several lines is as many. *init* has only what belongs to no request, as what ``init()`` does.

        Raises:
            SettingsError: *num_lines* is negative or no whole number.
        """
        if not isinstance(num_lines, int) or num_lines < 0:
            raise SettingsError(f"num_lines is {num_lines!r:.80}: it must be a whole number, 0 or more")
        keep = _in_no_operation if init else None
        try:
            found = read.newest(self.home, num_lines, app_name=service_part(self.name), keep=keep)
        except SourceError:  # switched, and never started
            return ""
        # A row is a line or more, so the last rows have the last lines.
        return "\n".join(deque(_lines(found), maxlen=num_lines))

    @classmethod
    def list(cls, home: str | os.PathLike[str] | None = None) -> list[str]:
        """The names of the services that a home knows, sorted; in lower case where only their folder is known."""
        return sorted(switches.services(settings.home() if home is None else Path(home)).values())


class AksWebservice(Webservice):
    """A service of this machine that SDK v1 deploys to Azure Kubernetes Service; see `Webservice`."""

    _compute = "AksWebservice"


class AciWebservice(Webservice):
    """A service of this machine that SDK v1 deploys to Azure Container Instances; see `Webservice`."""

    _compute = "AciWebservice"


def _known(home: Path, name: str) -> None:
    names = switches.services(home)
    if service_part(name) in names:
        return
    if not home.is_dir():
        raise ServiceNotFound(f"there is no home {home}: run the service once, or name another home")
    hint = near(name, names.values())
    if not hint:
        listed = ", ".join(sorted(names.values())[:10])
        hint = f": there are {listed}" if names else ": nothing has run there yet"
    raise ServiceNotFound(f"there is no service {name} in {home}{hint}")


def _in_no_operation(item: Item) -> bool:
    return not item.operation_id


def _lines(items: Iterable[Item]) -> Iterator[str]:
    for item in items:
        yield from _text(item).rstrip("\n").split("\n")


def _text(item: Item) -> str:
    """An item as the lines of a log."""
    level = severity(item)
    kind = "" if item.kind in {"trace", "exception"} else f"{item.kind} "
    lines = [f"{time(item) or '-'} {SEVERITIES[1 if level is None else level]:<11} {kind}{summary(item)}"]
    for number, thrown in enumerate(item.details if isinstance(item, ExceptionItem) else ()):
        if number:
            lines.append(f"  caused by {thrown.type_name}: {thrown.message}")
        lines.append(_stack(thrown))
    return "\n".join(filter(None, lines))


def _stack(thrown: Thrown) -> str:
    frames = (f"    {frame.method} in {frame.file_name}:{frame.line}" for frame in thrown.parsed_stack)
    return thrown.stack or "\n".join(frames)
