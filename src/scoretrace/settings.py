"""
Every setting in one table: what it is called, where it may come from, what it is without that.

An argument wins over the environment, the environment over the default. Names
that the environment of a scoring service has anyway come first; SCORETRACE_*
is only for what has no name yet.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from scoretrace import setting_values
from scoretrace.connections import Ingestion, ingestion, storage_url
from scoretrace.errors import SettingsError
from scoretrace.setting_values import Processor, path_part, service_part

SEGMENT_BYTES, BUFFER_BYTES = 64 * 1024**2, 4 * 1024**2
NO_KEY = "00000000-0000-0000-0000-000000000000"
_ARGUMENT = "argument"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What one `Telemetry` works with; made by `resolve`."""

    connection_string: str
    ingestion: Ingestion | None
    storage: str
    credential: Any
    exporter: tuple[str, ...]
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
    capture_requests: bool
    log_response: bool
    instrument: tuple[str, ...]
    processors: tuple[Processor, ...]
    sampling_percentage: tuple[tuple[str, int], ...]
    exclude: tuple[str, ...]
    collect_model_data: bool
    model_data_storage: str
    model_data_file: str
    model_data_boundary: int
    keep_days: float
    keep_bytes: int
    segment_bytes: int
    buffer_bytes: int
    disabled: bool

    def __repr__(self) -> str:
        secret = {"ingestion", *(setting.name for setting in SETTINGS if setting.secret)}
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        shown = (f"{name}={'***' if value and name in secret else repr(value)}" for name, value in values.items())
        return f"Settings({', '.join(shown)})"

    @property
    def i_key(self) -> str:
        """The instrumentation key; zeros where there is no connection string."""
        return self.ingestion.i_key if self.ingestion else NO_KEY

    @property
    def app_folder(self) -> str:
        """``<app>_<ikey>``, the first folder of an export: name in lower case, key without dashes."""
        return f"{service_part(self.service)}_{self.i_key.replace('-', '').lower()}"

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


SETTINGS = (
    Setting(
        "connection_string",
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "AML_APP_INSIGHTS_KEY"),
        "",
        setting_values.text,
        "of the Application Insights resource; its key names the telemetry folder",
        secret=True,
    ),
    Setting(
        "exporter",
        ("SCORETRACE_EXPORTER",),
        ("azure_monitor",),
        setting_values.exporters,
        "what delivers: azure_monitor, opentelemetry or opencensus (with a connection string); blob_export; none",
    ),
    Setting(
        "storage",
        ("AZURE_STORAGE_CONNECTION_STRING",),
        "",
        setting_values.text,
        "the account for payloads, collected data and blob_export: a connection string, a URL, or a URL with a SAS",
        secret=True,
    ),
    Setting(
        "credential",
        ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING",),
        "",
        setting_values.credential,
        'signs in to both: "default" for DefaultAzureCredential, or an object with get_token',
        secret=True,
    ),
    Setting("home", ("SCORETRACE_HOME",), ".scoretrace", setting_values.folder, "the folder that holds everything"),
    Setting(
        "service",
        ("OTEL_SERVICE_NAME", "SERVICE_NAME"),
        "default",
        setting_values.name,
        "the web service: cloud_RoleName",
    ),
    Setting(
        "instance",
        ("HOSTNAME",),
        "",
        setting_values.text,
        "this replica: cloud_RoleInstance; the host's name if not given",
    ),
    Setting("version", ("SCORETRACE_VERSION",), "", setting_values.text, "of the service: application_Version"),
    Setting(
        "workspace",
        ("WORKSPACE_NAME",),
        "default/default/default",
        setting_values.workspace,
        "subscription/resource group/workspace",
    ),
    Setting("model", ("SCORETRACE_MODEL",), "default", setting_values.name, "the model, a folder of modeldata"),
    Setting(
        "model_version", ("SCORETRACE_MODEL_VERSION",), "default", setting_values.name, "its version, the folder below"
    ),
    Setting("level", ("SCORETRACE_LEVEL",), logging.INFO, setting_values.level, "log records below it are left alone"),
    Setting(
        "capture_print",
        ("SCORETRACE_CAPTURE_PRINT",),
        True,
        setting_values.boolean,
        "print and sys.stdout become traces",
    ),
    Setting(
        "capture_stderr",
        ("SCORETRACE_CAPTURE_STDERR",),
        None,
        setting_values.stderr_too,
        "sys.stderr too; where nobody says, only in the scoring server",
    ),
    Setting(
        "capture_requests",
        ("SCORETRACE_CAPTURE_REQUESTS",),
        True,
        setting_values.boolean,
        "calls of the scoring server become requests",
    ),
    Setting(
        "log_response",
        ("APP_INSIGHTS_LOG_RESPONSE_ENABLED",),
        True,
        setting_values.boolean,
        "the scoring server's answers too: custom dimension Response Value of the request",
    ),
    Setting(
        "instrument",
        ("SCORETRACE_INSTRUMENT",),
        (),
        setting_values.names,
        'outgoing calls become dependencies: "auto", or names of OpenTelemetry\'s instrumentations (requests, httpx)',
    ),
    Setting(
        "processors",
        ("SCORETRACE_PROCESSORS",),
        (),
        setting_values.processors,
        "functions (or module:function) that take an item and return it, a changed one, or None to drop it",
    ),
    Setting(
        "sampling_percentage",
        ("SCORETRACE_SAMPLING_PERCENTAGE",),
        100,
        setting_values.sampling,
        "how much is kept, for all types or each (trace=10,request=50); failures and exceptions always are",
    ),
    Setting(
        "exclude",
        ("SCORETRACE_EXCLUDE",),
        ("scoretrace", "azure", "msal", "opencensus", "opentelemetry", "urllib3"),
        setting_values.names,
        "loggers left alone, with all below them, in place of the default: what delivers telemetry must not feed it",
    ),
    Setting(
        "collect_model_data",
        ("AML_MODEL_DC_STORAGE_ENABLED",),
        True,
        setting_values.boolean,
        "ModelDataCollector and Collector collect; false makes them do nothing",
    ),
    Setting(
        "model_data_storage",
        ("AML_MODEL_DC_STORAGE",),
        "",
        setting_values.text,
        "the account that collected data is delivered to, where it is not that of storage",
        secret=True,
    ),
    Setting(
        "model_data_file",
        ("SCORETRACE_MODEL_DATA_FILE",),
        "data.csv",
        setting_values.file_name,
        "the name of the files with collected data; {designation}.csv is what azureml-monitoring wrote",
    ),
    Setting(
        "model_data_boundary",
        ("AML_MODEL_DC_BOUNDARY",),
        "day",
        setting_values.boundary,
        "what the column $aml_dc_boundary says, in minutes: day (1440) or hour (60)",
    ),
    Setting(
        "keep_days",
        ("SCORETRACE_KEEP_DAYS",),
        30.0,
        setting_values.positive,
        "how long delivered telemetry stays on disk",
    ),
    Setting("keep_bytes", ("SCORETRACE_KEEP_BYTES",), 2 * 1024**3, setting_values.byte_count, "how much of it"),
    Setting(
        "segment_bytes",
        ("SCORETRACE_SEGMENT_BYTES",),
        SEGMENT_BYTES,
        setting_values.byte_count,
        "a journal file is closed at this size",
    ),
    Setting(
        "buffer_bytes",
        ("SCORETRACE_BUFFER_BYTES",),
        BUFFER_BYTES,
        setting_values.byte_count,
        "kept in memory while the disk refuses",
    ),
    Setting("disabled", ("OTEL_SDK_DISABLED",), False, setting_values.boolean, "nothing is captured"),
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
        values[setting.name] = _read(setting, *_find(setting, given, environment))
    values["instance"] = values["instance"] or _host_name(environment)
    text = values["connection_string"]
    values["ingestion"] = ingestion(text) if text else None
    _agree(values)
    return Settings(**values)


def known_names() -> list[str]:
    """All names of the environment that a setting is read from."""
    return [name for setting in SETTINGS for name in setting.environment]


def unknown_names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Names of the environment that begin as ours do, and that nothing reads."""
    environment = os.environ if environment is None else environment
    return sorted(name for name in environment if name.startswith("SCORETRACE_") and name not in known_names())


def _host_name(environment: Mapping[str, str]) -> str:
    return os.uname().nodename if hasattr(os, "uname") else environment.get("COMPUTERNAME", "")


class Explained(NamedTuple):
    """A setting with its value as it may be *shown*, where that comes from, and what is wrong with it."""

    name: str
    shown: str
    origin: str
    error: str


def explain(given: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> list[Explained]:
    """Each setting as `resolve` would find it, with secrets masked. Raises nothing: what is wrong is said."""
    environment = os.environ if environment is None else environment
    found = []
    for setting in SETTINGS:
        value, origin = _find(setting, given or {}, environment)
        try:
            read = _read(setting, value, origin)
            # As it was written, but for a path: 100 percent rather than what is made of it.
            is_plain = isinstance(value, (int, float, str, Mapping)) and not isinstance(read, Path)
            shown, error = _shown(setting, value if is_plain else read), ""
        except SettingsError as wrong:
            shown, error = "***" if setting.secret else repr(value)[:80], str(wrong)
        found.append(Explained(setting.name, shown, origin or "default", error))
    return found


def _shown(setting: Setting, value: Any) -> str:
    if value in ("", ()):
        return _host_name(os.environ) if setting.name == "instance" else "none"
    if setting.read is setting_values.level and isinstance(value, int):
        return str(logging.getLevelName(value))
    if setting.secret:
        return "***"
    if isinstance(value, tuple):
        return ", ".join(_shown(setting, one) for one in value)
    return getattr(value, "__qualname__", str(value))


def _read(setting: Setting, value: Any, origin: str) -> Any:
    try:
        return setting.read(value)
    except (TypeError, ValueError) as error:
        shown = ":" if setting.secret else f" is {value!r:.80}:"
        where = setting.name if origin in {"", _ARGUMENT} else origin
        raise SettingsError(f"{where}{shown} it {error} ({setting.help})") from None


def _agree(values: Mapping[str, Any]) -> None:
    """What settings want of each other."""
    if values["model_data_storage"]:
        storage_url(values["model_data_storage"], "model_data_storage")
    if values["storage"]:
        storage_url(values["storage"])
    elif "blob_export" in values["exporter"]:
        raise SettingsError("exporter has blob_export, which needs storage: the account to copy to")
    for name in ("opentelemetry", "opencensus"):
        if name in values["exporter"] and not values["connection_string"]:
            raise SettingsError(f"exporter is {name}, which needs connection_string: where to send to")


def _find(setting: Setting, given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Any, str]:
    """The value of *setting*, and where it comes from: the argument, a name of the environment, or nowhere."""
    if given.get(setting.name) is not None:
        return given[setting.name], _ARGUMENT
    for name in setting.environment:
        if environment.get(name, "").strip():
            return environment[name], name
    return setting.default, ""
