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
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import msgspec

from scoretrace.connections import Ingestion, ingestion, is_sign_in, storage_url
from scoretrace.errors import SettingsError
from scoretrace.item import Item

SEGMENT_BYTES, BUFFER_BYTES = 64 * 1024**2, 4 * 1024**2
NO_KEY = "00000000-0000-0000-0000-000000000000"
EXPORTERS = ("azure_monitor", "opentelemetry", "opencensus", "blob_export", "none")
_ARGUMENT = "argument"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg])?i?b?", re.IGNORECASE)
_CLEAN = re.compile(r"[^\w.-]+")
_IN_NAMES = {"designation", "model", "collection"}  # what the name of a file with collected data may hold


Processor = Callable[[Item], Item | None]

SAMPLED = ("trace", "request", "dependency", "event", "metric")  # types that sampling may leave out
_MOST_SAMPLED = 100_000  # items that one may stand for


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
    # File systems count bytes: 255 of them, and endings are still to come.
    part = _CLEAN.sub("_", text.strip()).encode("utf-8", "replace")[:128].decode("utf-8", "ignore")
    return part if part.strip(".") else "default"


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


def _file_name(value: Any) -> str:
    name = _name(value)
    fields = [parts[1:] for parts in Formatter().parse(name) if parts[1] is not None]
    if not name.endswith(".csv") or not all(field in _IN_NAMES and not (how or kind) for field, how, kind in fields):
        raise ValueError(f"must be a name that ends in .csv; {{{'} and {'.join(sorted(_IN_NAMES))}}} may be in it")
    return name


def _boundary(value: Any) -> int:
    text = str(value).strip().lower()
    if text not in {"day", "hour"}:
        raise ValueError("must be day or hour")
    return 60 if text == "hour" else 1440


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


def _exporters(value: Any) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.lower() for name in _names(value))) or ("none",)
    unknown = set(names) - set(EXPORTERS)
    if unknown:
        raise ValueError(f"must be of {', '.join(EXPORTERS)}")
    if len(set(names) & set(EXPORTERS[:3])) > 1:
        raise ValueError(f"must name one of {', '.join(EXPORTERS[:3])}: all of them deliver to the same place")
    if "opencensus" in names and sys.version_info >= (3, 13):
        raise ValueError("cannot be opencensus on Python 3.13 and newer, where it does not work: use azure_monitor")
    return tuple(name for name in names if name != "none")


def _processors(value: Any) -> tuple[Processor, ...]:
    if isinstance(value, str):
        value = _names(value)
    elif callable(value) or not isinstance(value, Iterable):
        value = (value,)
    found = tuple(_function(name) if isinstance(name, str) else name for name in value)
    if not all(callable(processor) and isinstance(processor, Hashable) for processor in found):
        raise ValueError("must be functions that take an item and return one, or None to drop it")
    return found


def _function(name: str) -> Any:
    """The function that *name* (``package.module:function``) says, for who can only write text."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"must be functions, or named as module:function, which {name!r} is not")
    try:
        return getattr(import_module(module), function)
    except Exception as error:  # whatever the module does when it is imported
        raise ValueError(f"cannot be loaded: {name}: {type(error).__name__}: {error}") from error


def _sampling(value: Any) -> tuple[tuple[str, int], ...]:
    """For each type how many items one stands for."""
    if isinstance(value, str) and "=" in value:
        value = {name: number for name, _, number in (part.partition("=") for part in value.split(","))}
    by_type = value if isinstance(value, Mapping) else dict.fromkeys(SAMPLED, value)
    unknown = {str(name).strip() for name in by_type} - set(SAMPLED)
    if unknown:
        raise ValueError(f"can name {', '.join(SAMPLED)}, and not {min(unknown)!r}")
    counts = {str(name).strip(): _stands_for(percentage) for name, percentage in by_type.items()}
    return tuple(sorted((name, count) for name, count in counts.items() if count > 1))


def _stands_for(percentage: Any) -> int:
    try:
        number = float(percentage) if not isinstance(percentage, bool) else 0.0
    except (TypeError, ValueError):
        number = 0.0
    if not 100 / _MOST_SAMPLED <= number <= 100:
        raise ValueError(
            "must be a percentage above 0 and at most 100, or one for each of some types: trace=10,request=50"
        )
    count = round(100 / number)
    # itemCount has to be whole, or its sum would not be the number of items.
    if abs(100 / number - count) > 0.01 * count:
        raise ValueError("must be 100 divided by a whole number, such as 50, 33.3, 25, 20, 10 or 1")
    return count


def _stderr(value: Any) -> bool:
    return in_scoring_server() if value is None else _boolean(value)


def in_scoring_server() -> bool:
    """Whether this process is a worker of azureml-inference-server-http."""
    return "azureml_inference_server_http.server.config" in sys.modules


def _credential(value: Any) -> Any:
    if not isinstance(value, str):
        if not hasattr(value, "get_token") or not isinstance(value, Hashable):
            raise ValueError('must have get_token and a hash, as those of azure-identity do, or be "default"')
        return value
    text = _text(value)
    if not text or is_sign_in(text):
        return text
    raise ValueError('must be "default", Authorization=AAD, or an object with get_token')


SETTINGS = (
    Setting(
        "connection_string",
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", "AML_APP_INSIGHTS_KEY"),
        "",
        _text,
        "of the Application Insights resource; its key names the telemetry folder",
        secret=True,
    ),
    Setting(
        "exporter",
        ("SCORETRACE_EXPORTER",),
        ("azure_monitor",),
        _exporters,
        "what delivers: azure_monitor, opentelemetry or opencensus (with a connection string); blob_export; none",
    ),
    Setting(
        "storage",
        ("AZURE_STORAGE_CONNECTION_STRING",),
        "",
        _text,
        "the account for payloads and blob_export: a connection string, a URL, or a URL with a SAS",
        secret=True,
    ),
    Setting(
        "credential",
        ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING",),
        "",
        _credential,
        'signs in to both: "default" for DefaultAzureCredential, or an object with get_token',
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
    Setting(
        "capture_stderr",
        ("SCORETRACE_CAPTURE_STDERR",),
        None,
        _stderr,
        "sys.stderr too; where nobody says, only in the scoring server",
    ),
    Setting(
        "capture_requests",
        ("SCORETRACE_CAPTURE_REQUESTS",),
        True,
        _boolean,
        "calls of the scoring server become requests",
    ),
    Setting(
        "log_response",
        ("APP_INSIGHTS_LOG_RESPONSE_ENABLED",),
        True,
        _boolean,
        "the scoring server's answers too: custom dimension Response Value of the request",
    ),
    Setting(
        "instrument",
        ("SCORETRACE_INSTRUMENT",),
        (),
        _names,
        'outgoing calls become dependencies: "auto", or names of OpenTelemetry\'s instrumentations (requests, httpx)',
    ),
    Setting(
        "processors",
        ("SCORETRACE_PROCESSORS",),
        (),
        _processors,
        "functions (or module:function) that take an item and return it, a changed one, or None to drop it",
    ),
    Setting(
        "sampling_percentage",
        ("SCORETRACE_SAMPLING_PERCENTAGE",),
        100,
        _sampling,
        "how much is kept, for all types or each (trace=10,request=50); failures and exceptions always are",
    ),
    Setting(
        "exclude",
        ("SCORETRACE_EXCLUDE",),
        ("scoretrace", "azure", "msal", "opencensus", "opentelemetry", "urllib3"),
        _names,
        "loggers left alone, with all below them, in place of the default: what delivers telemetry must not feed it",
    ),
    Setting(
        "collect_model_data",
        ("AML_MODEL_DC_STORAGE_ENABLED",),
        True,
        _boolean,
        "ModelDataCollector and Collector collect; false makes them do nothing",
    ),
    Setting(
        "model_data_storage",
        ("AML_MODEL_DC_STORAGE",),
        "",
        _text,
        "the account that collected data is delivered to, where it is not that of storage",
        secret=True,
    ),
    Setting(
        "model_data_file",
        ("SCORETRACE_MODEL_DATA_FILE",),
        "data.csv",
        _file_name,
        "the name of the files with collected data; {designation}.csv is what azureml-monitoring wrote",
    ),
    Setting(
        "model_data_boundary",
        ("AML_MODEL_DC_BOUNDARY",),
        "day",
        _boundary,
        "what the column $aml_dc_boundary says, in minutes: day (1440) or hour (60)",
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
    if setting.read is _level and isinstance(value, int):
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
