"""`update`: one call that switches a service, wherever it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from scoretrace.errors import SettingsError
from scoretrace.service import sdk_v1, sdk_v2
from scoretrace.service.configuration import flags
from scoretrace.service.webservice import Webservice

_AZURE = "azure:"


def update(
    service: Any,
    *,
    enable_app_insights: bool | None = None,
    collect_model_data: bool | None = None,
    ml_client: Any = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """
    Switch telemetry and the collection of model data of *service* on or off; ``None`` leaves it as it is.

    Args:
        service: what is switched.

            - A name, or `Webservice`: the service in the home folder. Its processes obey within two seconds.
            - A web service of SDK v1 (``azureml.core.webservice``): by its own ``update``, in one request;
              ``service.wait_for_deployment(True)`` waits for Azure.
            - ``(ml_client, endpoint, deployment)`` of SDK v2 (``azure.ai.ml``): the deployment is fetched, changed
              and sent with everything else as it was, and this waits until that is done.
            - A ``ManagedOnlineDeployment`` or ``KubernetesOnlineDeployment``, with *ml_client*: the same, with the
              deployment as it is here.
            - ``azure:`` and the resource id of an online deployment: the same, with ``DefaultAzureCredential``.
        enable_app_insights: whether telemetry is recorded.
        collect_model_data: whether inputs and predictions are collected. In SDK v2 these are all collections of
            the data collector, or ``model_inputs`` and ``model_outputs`` where it has none.
        ml_client: the client of the workspace of a deployment.
        progress: called with a line now and then while an online deployment is changed; without it they go to stderr.

    Raises:
        SettingsError: nothing is given, a value is neither True nor False, or *service* is none of these.
        ServiceNotFound: there is no such service.
        ServiceError: it cannot be switched: the message says why, and the way out.
        MissingExtraError: an SDK is not installed.
    """
    wanted = flags(enable_app_insights, collect_model_data)
    say = progress or _to_stderr
    if isinstance(service, str) and not service.startswith(_AZURE):
        Webservice(service).update(**wanted)
    elif isinstance(service, Webservice):
        service.update(**wanted)
    elif sdk_v1.is_service(service):
        sdk_v1.update(service, wanted)
    elif isinstance(service, str):
        sdk_v2.update(sdk_v2.of(service.removeprefix(_AZURE)), wanted, progress=say)
    elif isinstance(service, tuple) and len(service) == 3 and sdk_v2.is_client(service[0]):
        sdk_v2.update(sdk_v2.Deployment(*service), wanted, progress=say)
    elif sdk_v2.is_deployment(service):
        if not sdk_v2.is_client(ml_client):
            raise SettingsError(
                f"the deployment {service.name} needs the client of its workspace: ml_client=MLClient(...)"
            )
        deployment = sdk_v2.Deployment(ml_client, service.endpoint_name, service.name)
        sdk_v2.update(deployment, wanted, given=service, progress=say)
    else:
        raise SettingsError(
            f"{type(service).__name__} cannot be updated: give the name of a service, scoretrace.Webservice, "
            "a web service of azureml.core, or (ml_client, endpoint, deployment) of azure.ai.ml"
        )


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
