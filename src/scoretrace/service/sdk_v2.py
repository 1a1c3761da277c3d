"""
Switching an online deployment through SDK v2 (azure-ai-ml): `app_insights_enabled` and the `data_collector`.

A deployment that is in Azure is fetched, changed and sent as the service has
it. The SDK's own entities would lose on the way what they do not read: the
mount path of a model, parts of a second, a sampling rate for each collection
(azure-ai-ml 1.35). A deployment that a script has is sent as an entity, because
that is what it is.
"""

from __future__ import annotations

import copy
import re
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from scoretrace.errors import MissingExtraError, ServiceError, ServiceNotFound

# As the model monitoring of Azure ML finds them by itself.
# https://learn.microsoft.com/azure/machine-learning/how-to-collect-production-data
COLLECTIONS = ("model_inputs", "model_outputs")
_PATH = "azureml://datastores/workspaceblobstore/paths/modelDataCollector"  # where the SDK puts them too
_SETTLED = {"", "Succeeded"}  # nothing is known of a deployment that was not fetched
_ENDED = {"Failed", "Canceled"}
_SAY_SECONDS, _POLL_SECONDS = 10.0, 5.0
_DATA = re.compile(r"(?:/data/|azureml:)(?P<name>[^/:]+)(?:/versions/|:)(?P<version>[^/:]+)")
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


def update(deployment: Deployment, wanted: Mapping[str, bool], *, given: Any = None, progress: Progress) -> None:
    """
    Switch what is *wanted*, and wait until Azure has done it; *progress* hears of it.

    *given* is the deployment as the caller has it, which is changed and sent;
    without it the one in Azure is fetched, and sent only if something changes.

    Raises:
        ServiceNotFound: there is no such deployment.
        ServiceError: its state does not allow it, or Azure refuses it.
    """
    azure = import_module("azure.core.exceptions")
    ours = import_module("azure.ai.ml.exceptions").MlException
    try:
        poller = _fetched(deployment, wanted) if given is None else _given(deployment, wanted, given)
        if poller is None:
            progress(f"{deployment}: nothing to do, it is so already")
            return
        _wait(poller, deployment, progress)
        poller.result()
    except azure.ClientAuthenticationError as error:
        raise ServiceError(_foreign(deployment, error)) from error
    except azure.HttpResponseError as error:
        if error.status_code in {401, 403}:
            raise ServiceError(_foreign(deployment, error)) from error
        raise ServiceError(f"{deployment} was not switched: {_short(error)}") from error
    except (azure.AzureError, ours) as error:
        raise ServiceError(f"{deployment} was not switched: {_short(error)}") from error


def _fetched(deployment: Deployment, wanted: Mapping[str, bool]) -> Any:
    """Change the deployment as the service has it; what waits for that, or None where nothing changes."""
    client = deployment.ml_client
    rest = client.online_deployments._online_deployment  # noqa: SLF001 - the entities around it lose settings
    where = {
        "resource_group_name": client.resource_group_name,
        "workspace_name": client.workspace_name,
        "endpoint_name": deployment.endpoint,
        "deployment_name": deployment.name,
    }
    try:
        found = rest.get(**where)
    except import_module("azure.core.exceptions").ResourceNotFoundError as error:
        raise ServiceNotFound(f"there is no deployment {deployment}: {_short(error)}") from error
    properties = found.properties
    _check_state(deployment, properties.provisioning_state)
    changed = False
    insights = wanted.get("enable_app_insights")
    if insights is not None and bool(properties.app_insights_enabled) != insights:
        properties.app_insights_enabled, changed = insights, True
    collect = wanted.get("collect_model_data")
    if collect is not None:
        mode = "Enabled" if collect else "Disabled"
        collector = properties.data_collector
        if collector is not None and collector.collections:
            for one in collector.collections.values():
                if str(one.data_collection_mode).rpartition(".")[2].lower() != mode.lower():
                    one.data_collection_mode, changed = mode, True
        elif collect:
            made = {name: {"dataCollectionMode": mode, "dataId": _register(deployment, name)} for name in COLLECTIONS}
            if collector is None:
                properties.data_collector = {"collections": made}
            else:
                collector.collections = made
            changed = True
    return rest.begin_create_or_update(**where, body=found, polling_interval=_POLL_SECONDS) if changed else None


def _register(deployment: Deployment, collection: str) -> str:
    """Register the data of a collection, as the SDK does for a new deployment; its id."""
    entities = import_module("azure.ai.ml.entities")
    data = deployment.ml_client.data
    name, version = f"{deployment.endpoint}-{deployment.name}-{collection}", "1"
    path = f"{_PATH}/{deployment.endpoint}/{deployment.name}/{collection}"
    try:
        made = data.get(name=name, version=version)
    except import_module("azure.core.exceptions").ResourceNotFoundError:
        made = data.create_or_update(entities.Data(name=name, version=version, path=path, type="uri_folder"))
    return str(made.id)


def _given(deployment: Deployment, wanted: Mapping[str, bool], entity: Any) -> Any:
    """Change the deployment that the caller has, and send it; what waits for that."""
    _check_state(deployment, entity.provisioning_state)
    if "enable_app_insights" in wanted:
        entity.app_insights_enabled = wanted["enable_app_insights"]
    entity.data_collector = _collector(entity.data_collector, wanted.get("collect_model_data"), deployment.ml_client)
    sent = copy.copy(entity)  # the SDK takes apart what it sends
    sent.data_collector = _collector(entity.data_collector, None, deployment.ml_client)
    return deployment.ml_client.online_deployments.begin_create_or_update(sent)


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
    """What a collection is registered as. A text is the id of a data asset, with which the SDK could do nothing."""
    found = _DATA.search(data) if isinstance(data, str) else None
    if not found:
        return data
    # With its path: the SDK registers it again, and would say its own place instead.
    path = ml_client.data.get(name=found["name"], version=found["version"]).path
    return sys.modules["azure.ai.ml.entities"].DataAsset(name=found["name"], version=found["version"], path=path)


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


def _check_state(deployment: Deployment, found: Any) -> None:
    state = str(getattr(found, "value", found) or "")
    if state in _SETTLED:
        return
    way_out = "wait until that is over"
    if state in _ENDED:
        logs = f'ml_client.online_deployments.get_logs("{deployment.name}", "{deployment.endpoint}", 100)'
        way_out = f"{logs} says why; deploy it again first"
    raise ServiceError(f"{deployment} is in state {state}, so nothing was switched: {way_out}")


def _foreign(deployment: Deployment, error: Exception) -> str:
    return (
        f"Azure does not accept this sign-in for {deployment}; if it is in another tenant: az login --tenant, or "
        f"MLClient(InteractiveBrowserCredential(tenant_id=...), ...). {_short(error)}"
    )


def _short(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", "") or error).split())[:400]
