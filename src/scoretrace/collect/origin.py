"""
Whose data it is: workspace, web service, model and version, and the folder that they give.

An argument wins over the environment, that over the model configuration file
that Azure ML puts into a service's container (``model_config_map.json``), and
all of them over "default".
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from scoretrace.setting_values import path_part
from scoretrace.settings import Settings, resolve

_DEFAULT = "default"
_WORKSPACE = "default/default/default"
_APP_ROOT = "/var/azureml-app"


class Origin(NamedTuple):
    """*workspace* is subscription/resource group/name, in lower case; *folder* is below ``modeldata``."""

    workspace: str
    service: str
    model: str
    version: str
    folder: str


def origin(
    settings: Settings,
    *,
    model: str,
    workspace: str = _WORKSPACE,
    service: str = _DEFAULT,
    version: str = _DEFAULT,
) -> Origin:
    """
    Where data of *model* belongs; arguments that are the documented defaults count as not given.

    Raises:
        SettingsError: a name is no text, empty, or too long; or the workspace has not three parts.
    """
    configured = _configuration()
    info = _of_model(configured, model)
    given = resolve(
        {
            "workspace": _given(workspace, _WORKSPACE)
            or _given(settings.workspace, _WORKSPACE)
            or _account(configured),
            "service": _given(service, _DEFAULT) or settings.service,
            "model": _shortened(model),
            "model_version": _given(version, _DEFAULT) or _given(settings.model_version, _DEFAULT) or info.version,
        },
        {},
    )
    found = Origin(given.workspace.lower(), given.service, given.model, given.model_version, given.model_folder)
    if info.path:  # the service says itself where
        parts = info.path.replace("{webservice_name}", found.service).split("/")
        found = found._replace(folder="/".join(path_part(part) for part in parts if part.strip()))
    return found


class _Info(NamedTuple):
    version: str | None = None
    path: str = ""


def _given(value: Any, default: str) -> Any:
    """None where *value* is what stands for not given."""
    if isinstance(value, int) and not isinstance(value, bool):  # a version, most likely
        value = str(value)
    return None if value == default else _shortened(value)


def _shortened(value: Any) -> Any:
    """A name of any length that is of use for a folder; see `setting_values.path_part`."""
    return value.strip().replace("\0", "_")[:250] if isinstance(value, str) else value


def _configuration() -> dict[str, Any]:
    path = Path(os.environ.get("AML_APP_ROOT") or _APP_ROOT, "model_config_map.json")
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    return {}


def _of_model(configured: dict[str, Any], model: Any) -> _Info:
    """The highest version of *model* that the configuration knows, and where it wants its data."""
    with suppress(AttributeError, KeyError, TypeError):
        versions = configured["modelsInfo"][model]
        highest = max(versions, key=lambda name: (int(name) if name.isdigit() else -1, name), default=None)
        if highest is not None:
            path = versions[highest].get("dataCollectorStoragePath") or ""
            return _Info(highest, path if isinstance(path, str) else "")
    return _Info()


def _account(configured: dict[str, Any]) -> str | None:
    with suppress(KeyError, TypeError, AttributeError):
        account = configured["accountContext"]
        return "/".join(account[name].lower() for name in ("subscriptionId", "resourceGroupName", "accountName"))
    return None
