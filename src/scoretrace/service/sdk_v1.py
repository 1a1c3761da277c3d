"""
Switching a web service through SDK v1 (azureml-core), by the service's own `update`.

What each class can switch differs, and SDK v1 says so by a TypeError at best:
an AciWebservice has `collect_model_data` when it is deployed and not when it is
updated, an AksEndpoint has it on its versions, a LocalWebservice has neither.
"""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from scoretrace.errors import ServiceError, ServiceNotFound

_SDK = "azureml.core.webservice"
_UNUSABLE = {"Failed", "Deleting"}
# How what cannot be updated is done instead, by class.
_INSTEAD = {
    "AciWebservice": "deploy it again with AciWebservice.deploy_configuration({wanted}), "
    "by Model.deploy(..., deployment_config=configuration, overwrite=True)",
    "AksEndpoint": "it belongs to a version: service.update_version(version_name, {wanted})",
    "LocalWebservice": "SDK v1 has no switches for it. Where its container has SCORETRACE_HOME on a volume, "
    'scoretrace.update("{name}", {wanted}) with the same home does it',
}


def is_service(service: object) -> bool:
    """Whether it is a web service of SDK v1, which is in use then."""
    sdk = sys.modules.get(_SDK)
    return sdk is not None and isinstance(service, sdk.Webservice)


def update(service: Any, wanted: dict[str, bool]) -> None:
    """
    Have *service* switch what is *wanted*, in one request.

    Raises:
        ServiceError: its class cannot switch that, its state does not allow it, or Azure refuses it.
        ServiceNotFound: it has been deleted.
    """
    kind = type(service).__name__
    taken = inspect.signature(service.update).parameters
    for name in wanted:
        if name not in taken:
            shown = ", ".join(f"{name}={value}" for name, value in wanted.items() if name not in taken)
            instead = _INSTEAD.get(kind, "deploy it again").format(wanted=shown, name=service.name)
            raise ServiceError(f"{kind}.update of SDK v1 cannot switch {name}: {instead}")
    try:
        service.update_deployment_state()
        if service.state in _UNUSABLE:
            raise ServiceError(
                f"{service.name} is {service.state}, so nothing was switched: "
                "service.get_logs() says why; deploy it again and switch it then"
            )
        service.update(**wanted)
    except ServiceError:
        raise
    except Exception as error:  # the SDK, requests and msrest raise what they like
        raise _said(service, error) from error


def _said(service: Any, error: Exception) -> ServiceError:
    text = str(getattr(error, "message", "") or error)
    status = re.search(r"Response Code: (\d+)", text)
    code = status[1] if status else ""
    workspace = service.workspace.name
    if code == "404" or "WebserviceNotFound" in text:
        return ServiceNotFound(f"there is no web service {service.name} in workspace {workspace}")
    if code in {"401", "403"} or "AuthenticationException" in type(error).__name__:
        return ServiceError(
            f"workspace {workspace} does not accept this sign-in for {service.name}; if it is in another tenant: "
            f"Workspace(..., auth=InteractiveLoginAuthentication(tenant_id=...)). {_short(text)}"
        )
    return ServiceError(f"{service.name} was not switched: {_short(text)}")


def _short(text: str) -> str:
    content = re.search(r"Content: (.*)", text, re.DOTALL)
    return " ".join((content[1] if content else text).split())[:400]
