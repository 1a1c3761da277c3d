"""
Every setting in one table: what it is called, where it may come from, what it is without that.

An argument wins over the environment, the environment over the default. Names
that the environment of a scoring service has anyway come first; SCORETRACE_*
is only for what has no name yet.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from scoretrace.errors import SettingsError

SEGMENT_BYTES, BUFFER_BYTES = 64 * 1024**2, 4 * 1024**2
NO_KEY = "00000000-0000-0000-0000-000000000000"
_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg])?i?b?", re.IGNORECASE)
_CLEAN = re.compile(r"[^\w.-]+")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one `Telemetry` works with; made by `resolve`."""

    connection_string: str
    i_key: str
    home: Path
    service: str
    instance: str
    version: str
    workspace: str
    model: str
    model_version: str
    level: int
    capture_print: bool
    capture_stderr: bool
    exclude: tuple[str, ...]
    keep_days: float
    keep_bytes: int
    segment_bytes: int
    buffer_bytes: int
    disabled: bool

    @property
    def app_folder(self) -> str:
        """``<app>_<ikey>``, the first folder of an export: name in lower case, key without dashes."""
        return f"{path_part(self.service).lower()}_{self.i_key.replace('-', '').lower()}"

    @property
    def model_folder(self) -> str:
        """``<sub>/<rg>/<workspace>/<webservice>/<model>/<version>``, below the container ``modeldata``."""
        parts = [*self.workspace.lower().split("/"), self.service, self.model, self.model_version]
        return "/".join(map(path_part, parts))


class Setting(NamedTuple):
    """One row of the table."""

    name: str
    environment: tuple[str, ...]
    default: Any
    read: Callable[[Any], Any]
    help: str
    secret: bool = False


def path_part(text: str) -> str:
    """
    *text* as one folder name that cannot leave its folder.

    >>> path_part("../my service"), path_part("..")
    ('.._my_service', 'default')
    """
    part = _CLEAN.sub("_", text.strip())[:128]
    return part if part.strip(".") else "default"


def instrumentation_key(connection_string: str) -> str:
    """
    The key in a connection string (``InstrumentationKey=<guid>;IngestionEndpoint=...``), or in a bare GUID.

    >>> instrumentation_key(" instrumentationkey=12345678-1234-1234-1234-123456789ABC ; X=y;")
    '12345678-1234-1234-1234-123456789abc'

    Raises:
        SettingsError: there is no such key. The message never repeats the string.
    """
    text = connection_string.strip()
    if _GUID.fullmatch(text):
        return text.lower()
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (pair.partition("=") for pair in text.split(";"))
    }
    key = fields.get("instrumentationkey", "")
    way_out = "copy the whole connection string from the Overview page of the Application Insights resource"
    if not key:
        raise SettingsError(f"connection_string has no InstrumentationKey: {way_out}")
    if not _GUID.fullmatch(key):
        raise SettingsError(f"connection_string has an InstrumentationKey that is not a GUID: {way_out}")
    return key.lower()


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("must be true or false")


def _level(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip().upper()
    level = int(text) if text.isdigit() else logging.getLevelName(text)
    if not isinstance(level, int):
        raise ValueError("must be a level of the logging module, such as INFO")  # noqa: TRY004 - a value, not a type
    return level


def _positive(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not number > 0:
        raise ValueError("must be a number above 0")
    return number


def _bytes(value: Any) -> int:
    match = _SIZE.fullmatch(str(value).strip())
    number = int(float(match[1]) * 1024 ** " KMG".index((match[2] or " ").upper())) if match else 0
    if number < 1:
        raise ValueError("must be a number of bytes, such as 1048576 or 1 MiB")
    return number


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= 250:
        raise ValueError("must be a name of at most 250 characters")
    return _text(value)


def _workspace(value: Any) -> str:
    parts = [part for part in _name(value).split("/") if part]
    if len(parts) == 1:
        return f"default/default/{parts[0]}"
    if len(parts) == 3:
        return "/".join(parts)
    raise ValueError("must be a name, or subscription/resource group/name")


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(_text(part) for part in parts if _text(part))


def _folder(value: Any) -> Path:
    if "\0" in os.fspath(value):
        raise ValueError("must be a folder's path")
    return Path(value).expanduser().absolute()  # now: a script may change its working directory


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - reported as a setting
    # The environment may hold bytes that are no UTF-8, which Python hands on as lone surrogates.
    return value.strip().encode("utf-8", "backslashreplace").decode()


SETTINGS = (
    Setting(
        "connection_string",
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "AML_APP_INSIGHTS_KEY"),
        "",
        _text,
        "of the Application Insights resource; its key names the telemetry folder",
        secret=True,
    ),
    Setting("home", ("SCORETRACE_HOME",), ".scoretrace", _folder, "the folder that holds everything"),
    Setting("service", ("OTEL_SERVICE_NAME", "SERVICE_NAME"), "default", _name, "the web service: cloud_RoleName"),
    Setting("instance", ("HOSTNAME",), "", _text, "this replica: cloud_RoleInstance; the host's name if not given"),
    Setting("version", ("SCORETRACE_VERSION",), "", _text, "of the service: application_Version"),
    Setting(
        "workspace", ("WORKSPACE_NAME",), "default/default/default", _workspace, "subscription/resource group/workspace"
    ),
    Setting("model", ("SCORETRACE_MODEL",), "default", _name, "the model, a folder of modeldata"),
    Setting("model_version", ("SCORETRACE_MODEL_VERSION",), "default", _name, "its version, the folder below"),
    Setting("level", ("SCORETRACE_LEVEL",), logging.INFO, _level, "log records below it are left alone"),
    Setting("capture_print", ("SCORETRACE_CAPTURE_PRINT",), True, _boolean, "print and sys.stdout become traces"),
    Setting("capture_stderr", ("SCORETRACE_CAPTURE_STDERR",), False, _boolean, "sys.stderr too"),
    Setting(
        "exclude",
        ("SCORETRACE_EXCLUDE",),
        ("scoretrace", "azure", "msal", "opencensus", "opentelemetry", "urllib3"),
        _names,
        "loggers left alone, with all below them, in place of the default: what delivers telemetry must not feed it",
    ),
    Setting("keep_days", ("SCORETRACE_KEEP_DAYS",), 30.0, _positive, "how long delivered telemetry stays on disk"),
    Setting("keep_bytes", ("SCORETRACE_KEEP_BYTES",), 2 * 1024**3, _bytes, "how much of it"),
    Setting(
        "segment_bytes", ("SCORETRACE_SEGMENT_BYTES",), SEGMENT_BYTES, _bytes, "a journal file is closed at this size"
    ),
    Setting(
        "buffer_bytes", ("SCORETRACE_BUFFER_BYTES",), BUFFER_BYTES, _bytes, "kept in memory while the disk refuses"
    ),
    Setting("disabled", ("OTEL_SDK_DISABLED",), False, _boolean, "nothing is captured"),
)


_current_home: Path | None = None


def use_home(home: Path | None) -> None:
    """Make *home* the one that is read where none is named; ``None`` goes back to the settings."""
    global _current_home  # noqa: PLW0603 - one a process, like the telemetry that sets it
    _current_home = home


def home() -> Path:
    """The home of the telemetry that is configured in this process, or else of the settings."""
    return _current_home or resolve().home


def resolve(given: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """
    The settings from *given* (``None`` counts as not given), the environment and the defaults.

    Raises:
        SettingsError: a setting is unknown or cannot work; the message names it and where it came from.
    """
    given = given or {}
    environment = os.environ if environment is None else environment
    unknown = given.keys() - {setting.name for setting in SETTINGS}
    if unknown:
        names = ", ".join(setting.name for setting in SETTINGS)
        raise SettingsError(f"{min(unknown)} is not a setting; there are {names}")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        value, origin = _find(setting, given, environment)
        try:
            values[setting.name] = setting.read(value)
        except (TypeError, ValueError) as error:
            shown = "" if setting.secret else f" is {value!r:.80}:"
            raise SettingsError(f"{origin}{shown} it {error} ({setting.help})") from None
    if not values["instance"]:
        values["instance"] = os.uname().nodename if hasattr(os, "uname") else environment.get("COMPUTERNAME", "")
    text = values["connection_string"]
    return Settings(i_key=instrumentation_key(text) if text else NO_KEY, **values)


def _find(setting: Setting, given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Any, str]:
    if given.get(setting.name) is not None:
        return given[setting.name], setting.name
    for name in setting.environment:
        if environment.get(name, "").strip():
            return environment[name], name
    return setting.default, setting.name
