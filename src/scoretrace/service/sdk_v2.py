"""
Switching an online deployment through SDK v2 (azure-ai-ml): `app_insights_enabled` and the `data_collector`.

A deployment that was fetched cannot go back as it is: the SDK expects
`DataAsset` objects where it gave texts, and what it once sent it cannot send
again (azure-ai-ml 1.35). So the data collector is made anew each time.
"""

from __future__ import annotations

import copy
import re
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from scoretrace.errors import MissingExtraError, ServiceError, ServiceNotFound

# As the model monitoring of Azure ML finds them by itself.
# https://learn.microsoft.com/azure/machine-learning/how-to-collect-production-data
COLLECTIONS = ("model_inputs", "model_outputs")
_SETTLED = {"", "Succeeded"}  # nothing is known of a deployment that was not fetched
_SAY_SECONDS = 10.0
_DATA = re.compile(r"/data/([^/]+)/versions/([^/]+)$")
_ID = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<workspace>[^/]+)"
    r"/onlineEndpoints/(?P<endpoint>[^/]+)/deployments/(?P<deployment>[^/]+)/?",
    re.IGNORECASE,
)
Progress = Callable[[str], None]


class Deployment(NamedTuple):
    """An online deployment in Azure: the client of its workspace, its endpoint and its name."""

    ml_client: Any
    endpoint: str
    name: str

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.name}"


def is_deployment(service: object) -> bool:
    """Whether it is a deployment of SDK v2, which is in use then."""
    entities = sys.modules.get("azure.ai.ml.entities")
    return entities is not None and isinstance(service, entities.OnlineDeployment)


def is_client(client: object) -> bool:
    """Whether it is the client of a workspace."""
    sdk = sys.modules.get("azure.ai.ml")
    return sdk is not None and isinstance(client, sdk.MLClient)


def of(resource_id: str) -> Deployment:
    """
    The deployment with a resource id, signed in to by `DefaultAzureCredential`.

    Raises:
        ServiceError: it is no id of an online deployment.
        MissingExtraError: azure-ai-ml is not installed.
    """
    found = _ID.fullmatch(resource_id)
    if not found:
        raise ServiceError(
            f"{resource_id} is no id of an online deployment: /subscriptions/.../resourceGroups/.../providers/"
            "Microsoft.MachineLearningServices/workspaces/.../onlineEndpoints/.../deployments/..."
        )
    try:
        sdk, identity = import_module("azure.ai.ml"), import_module("azure.identity")
    except ImportError as error:
        command = "pip install azure-ai-ml azure-identity"
        raise MissingExtraError("switching an online deployment", command=command) from error
    client = sdk.MLClient(
        identity.DefaultAzureCredential(),
        found["subscription"],
        found["group"],
        found["workspace"],
        show_progress=False,
        enable_telemetry=False,
    )
    return Deployment(client, found["endpoint"], found["deployment"])


def update(deployment: Deployment, wanted: dict[str, bool], *, given: Any = None, progress: Progress) -> None:
    """
    Switch what is *wanted*, and wait until Azure has done it; *progress* hears of it.

    *given* is the deployment as the caller has it, which is changed and sent;
    without it the one in Azure is fetched.

    Raises:
        ServiceNotFound: there is no such deployment.
        ServiceError: its state does not allow it, or Azure refuses it.
    """
    azure = import_module("azure.core.exceptions")
    ours = import_module("azure.ai.ml.exceptions").MlException
    operations = deployment.ml_client.online_deployments
    try:
        found = operations.get(name=deployment.name, endpoint_name=deployment.endpoint) if given is None else given
        state = str(getattr(found.provisioning_state, "value", found.provisioning_state) or "")
        if state not in _SETTLED:
            raise ServiceError(_unsettled(deployment, state))
        if "enable_app_insights" in wanted:
            found.app_insights_enabled = wanted["enable_app_insights"]
        found.data_collector = _collector(found.data_collector, wanted.get("collect_model_data"), deployment.ml_client)
        sent = copy.copy(found)  # the SDK takes apart what it sends
        sent.data_collector = _collector(found.data_collector, None, deployment.ml_client)
        poller = operations.begin_create_or_update(sent)
        _wait(poller, deployment, progress)
        poller.result()
    except azure.ResourceNotFoundError as error:
        raise ServiceNotFound(f"there is no deployment {deployment}: {_short(error)}") from error
    except azure.ClientAuthenticationError as error:
        raise ServiceError(_foreign(deployment, error)) from error
    except azure.HttpResponseError as error:
        if error.status_code in {401, 403}:
            raise ServiceError(_foreign(deployment, error)) from error
        raise ServiceError(f"{deployment} was not switched: {_short(error)}") from error
    except (azure.AzureError, ours) as error:
        raise ServiceError(f"{deployment} was not switched: {_short(error)}") from error


def _collector(before: Any, enabled: bool | None, ml_client: Any) -> Any:
    """A data collector with the collections of *before*, or with the usual ones, all of them as *enabled* says."""
    if before is None and not enabled:
        return None
    entities = sys.modules["azure.ai.ml.entities"]
    collections: dict[str, Any] = dict.fromkeys(COLLECTIONS) if before is None else dict(before.collections)
    made = {
        name: entities.DeploymentCollection(
            enabled=str(getattr(one, "enabled", "true") if enabled is None else enabled).lower(),
            data=_asset(getattr(one, "data", None), ml_client),
            client_id=getattr(one, "client_id", None),
        )
        for name, one in collections.items()
    }
    logging = getattr(before, "request_logging", None)
    return entities.DataCollector(
        made,
        rolling_rate=getattr(before, "rolling_rate", None),
        sampling_rate=getattr(before, "sampling_rate", None),
        request_logging=entities.RequestLogging(capture_headers=logging.capture_headers) if logging else None,
    )


def _asset(data: Any, ml_client: Any) -> Any:
    """What a collection is registered as; of a deployment that was fetched it is the id of a data asset."""
    found = _DATA.search(data) if isinstance(data, str) else None
    if not found:
        return data
    # With its path: the SDK registers it again, and would say its own place instead.
    path = ml_client.data.get(name=found[1], version=found[2]).path
    return sys.modules["azure.ai.ml.entities"].DataAsset(name=found[1], version=found[2], path=path)


def _wait(poller: Any, deployment: Deployment, progress: Progress) -> None:
    begun, said_at, said = time.monotonic(), float("-inf"), ""
    while True:
        poller.wait(0.2)
        is_done, status = poller.done(), str(poller.status())
        now = time.monotonic()
        if is_done or status != said or now - said_at >= _SAY_SECONDS:
            progress(f"{deployment}: {status}, {now - begun:.0f} s")
            said_at, said = now, status
        if is_done:
            return


def _unsettled(deployment: Deployment, state: str) -> str:
    logs = f'ml_client.online_deployments.get_logs("{deployment.name}", "{deployment.endpoint}", 100)'
    if state == "Failed":
        return f"{deployment} is in state Failed, so nothing was switched: {logs} says why; deploy it again first"
    return f"{deployment} is in state {state}, so nothing was switched: wait until that is over"


def _foreign(deployment: Deployment, error: Exception) -> str:
    return (
        f"Azure does not accept this sign-in for {deployment}; if it is in another tenant: "
        "MLClient(InteractiveBrowserCredential(tenant_id=...), ...), or az login --tenant, or AZURE_TENANT_ID. "
        f"{_short(error)}"
    )


def _short(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", "") or error).split())[:400]
