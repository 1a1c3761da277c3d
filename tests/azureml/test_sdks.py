"""
The real SDKs of Azure ML against a server on loopback: what `update` has them send, and what becomes of refusals.

azureml-core and azure-ai-ml have an environment of their own, in which these tests run: see `tests/test_services.py`.
"""

import copy
import sys
from types import SimpleNamespace

import pytest
import trustme
from azure.ai.ml import MLClient
from azure.ai.ml.entities import DataCollector, DeploymentCollection, ManagedOnlineDeployment
from azure.core.credentials import AccessToken
from azureml.core import Workspace, webservice
from azureml.core.authentication import TokenAuthentication
from azureml.core.webservice import LocalWebservice, Webservice
from loopback import Azure, token

import scoretrace
from documents import DOCUMENTS, blocks
from scoretrace import AciWebservice, AksWebservice, MissingExtraError, ServiceError, ServiceNotFound, SettingsError

WORKSPACE = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
DATA = f"{WORKSPACE}/data/mine/versions/3"


@pytest.fixture(name="azure")
def _azure(tmp_path, monkeypatch):
    """Both SDKs, a workspace and a client of it, on loopback."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.chdir(tmp_path)  # in a repository SDK v1 sends what it finds out about it
    monkeypatch.setenv("HOME", str(tmp_path))  # SDK v1 keeps what it discovered there
    server = Azure(authority.issue_cert("127.0.0.1"))
    monkeypatch.setenv("AZUREML_DISCOVERY_SERVICE_ENDPOINT", f"{server.url}/discovery")
    sign_in = TokenAuthentication(lambda _audience: token(), cloud="AzureCloud")
    workspace = Workspace(
        "sub", "rg", "ws", auth=sign_in, _disable_service_check=True, _workspace_id=tmp_path.name, _location="here"
    )
    workspace._discovery_url_internal = f"{server.url}/discovery"
    yield SimpleNamespace(server=server, workspace=workspace, client=_client(server.url))
    server.close()


def _client(url):
    class SignIn:
        def get_token(self, *_, **__):
            return AccessToken(token(), 2**31)

    names = ["azure_portal", "resource_manager", "active_directory", "aml_resource_id", "registry_discovery_endpoint"]
    metadata = {**dict.fromkeys(names, url), "storage_endpoint": "127.0.0.1"}
    return MLClient(
        SignIn(), "sub", "rg", "ws", cloud=url, cloud_metadata=metadata, show_progress=False, enable_telemetry=False
    )


@pytest.fixture(name="said")
def _said():
    return []


def _insights(value):
    return {"op": "replace", "path": "/appInsightsEnabled", "value": value}


def _storage(value):
    return {"op": "replace", "path": "/dataCollection/storageEnabled", "value": value}


@pytest.mark.parametrize(
    ("switches", "sent"),
    [
        ({"enable_app_insights": True, "collect_model_data": True}, [_storage(True), _insights(True)]),
        ({"enable_app_insights": False}, [_insights(False)]),
        ({"collect_model_data": False}, [_storage(False)]),
    ],
)
def test_v1_a_service_on_aks_is_patched_once(azure, switches, sent):
    """With what is given, and nothing else, signed in to as the workspace is."""
    scoretrace.update(Webservice(azure.workspace, "diabetes"), **switches)

    assert azure.server.changes("PATCH") == [sent]
    assert {bearer[:7] for *_, bearer in azure.server.asked if bearer} == {"Bearer "}


def test_v1_a_service_on_aci_has_no_collection_to_switch(azure):
    """It is deployed again for that, and the error says how; nothing is sent."""
    service = Webservice(azure.workspace, "small")
    with pytest.raises(ServiceError, match=r"AciWebservice.deploy_configuration\(collect_model_data=True\).*overwrite"):
        scoretrace.update(service, enable_app_insights=True, collect_model_data=True)
    assert azure.server.changes("PATCH") == []

    scoretrace.update(service, enable_app_insights=True)
    assert azure.server.changes("PATCH") == [[_insights(True)]]
    assert service.enable_app_insights is True


def test_v1_a_local_service_has_no_switches(azure, tmp_path):
    """Its container may share a home, where it has."""
    service = LocalWebservice.__new__(LocalWebservice, azure.workspace, "here")  # without Docker
    service.name = "here"
    with pytest.raises(ServiceError, match=r'scoretrace.update\("here", enable_app_insights=True\)'):
        scoretrace.update(service, enable_app_insights=True)


def test_v1_no_parameters_is_an_error_before_anything_is_asked(azure):
    """As with every other kind of service."""
    service = Webservice(azure.workspace, "diabetes")
    before = len(azure.server.asked)
    with pytest.raises(SettingsError, match="nothing to update"):
        scoretrace.update(service)
    assert len(azure.server.asked) == before


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        ((401, {"code": "InvalidAuthenticationTokenTenant"}), ServiceError, "InteractiveLoginAuthentication.tenant_id"),
        ((403, {"message": "no permission"}), ServiceError, "another tenant"),
        ((404, {"message": "gone"}), ServiceNotFound, "there is no web service diabetes in workspace ws"),
        ((409, {"message": "operation in progress"}), ServiceError, "operation in progress"),
    ],
)
def test_v1_a_refusal_is_said_with_the_way_out(azure, refusal, error, said):
    """Another tenant, no permission, a service that is gone, one that is busy."""
    service = Webservice(azure.workspace, "diabetes")
    azure.server.refuse = refusal
    with pytest.raises(error, match=said):
        scoretrace.update(service, enable_app_insights=True)


@pytest.mark.parametrize("state", ["Failed", "Deleting"])
def test_v1_a_service_in_a_failed_state_is_left_alone(azure, state):
    """It says where to look."""
    service = Webservice(azure.workspace, "diabetes")
    azure.server.services["diabetes"]["state"] = state
    with pytest.raises(ServiceError, match=f"diabetes is {state}.*get_logs"):
        scoretrace.update(service, enable_app_insights=True)
    assert azure.server.changes("PATCH") == []


def test_v1_a_deploy_configuration_is_taken_by_the_sdk(azure):
    """Model.deploy asks it what it asks its own, and sends what that would."""
    for ours, theirs in ((AksWebservice, webservice.AksWebservice), (AciWebservice, webservice.AciWebservice)):
        keywords = {"cpu_cores": 1, "memory_gb": 2, "enable_app_insights": True, "collect_model_data": True}
        made = ours.deploy_configuration(**keywords)
        wanted = theirs.deploy_configuration(**keywords)

        assert made._webservice_type is theirs
        made.validate_configuration()
        payload = made._build_create_payload("diabetes", {"a": 1})
        assert payload == wanted._build_create_payload("diabetes", {"a": 1})
        assert payload["appInsightsEnabled"] is True
        assert payload["dataCollection"]["storageEnabled"] is True
        assert theirs.deploy_configuration(**made).enable_app_insights is True


def test_v1_a_deploy_configuration_says_what_it_holds_now():
    """Changed as a dictionary, or by an attribute as SDK v1 does."""
    made = AksWebservice.deploy_configuration(cpu_cores=1, enable_app_insights=False)
    assert made.cpu_cores == 1
    made["enable_app_insights"] = True
    made.cpu_cores = 4

    payload = made._build_create_payload("diabetes", {})
    assert (payload["appInsightsEnabled"], payload["containerResourceRequirements"]["cpu"]) == (True, 4)
    assert getattr(made, "no_such_attribute", None) is None
    made["cpu_cores"] = -1
    assert not hasattr(made, "no_such_attribute")
    with pytest.raises(SettingsError, match="cpu_cores must be greater than zero"):
        AksWebservice.deploy_configuration(cpu_cores=-1)


def test_v1_a_server_that_is_not_there_is_said(azure):
    """Whatever the SDK raises then."""
    service = Webservice(azure.workspace, "diabetes")
    azure.server.close()
    service._mms_endpoint = service._mms_endpoint.replace("https://", "http://")  # refused at once, not after retries
    with pytest.raises(ServiceError, match="diabetes was not switched"):
        scoretrace.update(service, enable_app_insights=True)


def test_v1_a_keyword_that_the_sdk_does_not_take_is_said_at_once():
    """Where the SDK is in use."""
    with pytest.raises(SettingsError, match=r"AksWebservice.deploy_configuration.*cpu_kores"):
        AksWebservice.deploy_configuration(cpu_kores=1)


def test_v2_a_deployment_is_fetched_changed_and_sent(azure, said):
    """With the collections that model monitoring finds; the rest of it stays as it is."""
    azure.server.steps = ["InProgress", "InProgress", "Succeeded"]
    scoretrace.update(
        (azure.client, "ep", "blue"), enable_app_insights=True, collect_model_data=True, progress=said.append
    )

    (body,) = azure.server.changes("PUT")
    assert body["properties"]["appInsightsEnabled"] is True
    collections = body["properties"]["dataCollector"]["collections"]
    assert {name: one["dataCollectionMode"] for name, one in collections.items()} == {
        "model_inputs": "Enabled",
        "model_outputs": "Enabled",
    }
    assert body["properties"]["instanceType"] == "Standard_DS3_v2"
    assert (body["sku"]["capacity"], body["tags"]) == (2, {"team": "pricing"})
    assert said[-1].startswith("ep/blue: Succeeded")
    assert len(said) >= 2


def test_v2_what_was_configured_stays_as_it_was(azure, said):
    """All of it, byte for byte: what the SDK's entities do not read, and a sampling rate for each collection."""
    deployed = {
        **azure.server.deployments["blue"],
        "modelMountPath": "/var/azureml-model",
        "requestSettings": {"requestTimeout": "PT1.5S", "maxQueueWait": "PT0.5S"},
        "startupProbe": {"period": "PT10S"},
        "dataCollector": {
            "collections": {
                "mine": {"dataCollectionMode": "Enabled", "samplingRate": 1.0, "dataId": DATA},
                "other": {"dataCollectionMode": "Enabled", "samplingRate": 0.1, "dataId": DATA},
            },
            "rollingRate": "Day",
            "requestLogging": {"captureHeaders": ["x-a"]},
        },
    }
    azure.server.deployments["blue"] = copy.deepcopy(deployed)
    deployment = (azure.client, "ep", "blue")
    scoretrace.update(deployment, enable_app_insights=True, progress=said.append)
    scoretrace.update(deployment, collect_model_data=False, progress=said.append)

    deployed["appInsightsEnabled"] = True
    first, second = (without_state(body["properties"]) for body in azure.server.changes("PUT"))
    assert first == without_state(deployed)
    for one in deployed["dataCollector"]["collections"].values():
        one["dataCollectionMode"] = "Disabled"
    assert second == without_state(deployed)
    assert not [path for _, path, *_ in azure.server.asked if "/data/" in path]


def without_state(properties):
    """What Azure says of itself is no setting."""
    return {name: value for name, value in properties.items() if name != "provisioningState"}


@pytest.mark.parametrize("collector", [{"rollingRate": "Hour"}, {"collections": None}, {"collections": {}}])
def test_v2_a_collector_without_collections_gets_the_usual_ones(azure, said, collector):
    """Whatever else it says stays."""
    azure.server.deployments["blue"]["dataCollector"] = dict(collector)
    scoretrace.update((azure.client, "ep", "blue"), collect_model_data=True, progress=said.append)

    sent = azure.server.changes("PUT")[0]["properties"]["dataCollector"]
    assert sorted(sent["collections"]) == ["model_inputs", "model_outputs"]
    assert sent.get("rollingRate") == collector.get("rollingRate")


def test_v2_a_resource_id_is_signed_in_to_by_the_default_credential(azure, monkeypatch, capfd):
    """DefaultAzureCredential, here with the token of a managed identity; what is said goes to stderr."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.server.url}/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    scoretrace.update(f"azure:{WORKSPACE}/onlineEndpoints/ep/deployments/blue", enable_app_insights=True)

    assert azure.server.changes("PUT")[0]["properties"]["appInsightsEnabled"] is True
    assert [path for _, path, *_ in azure.server.asked].count("/identity") >= 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "ep/blue: Succeeded" in said.err


def test_v2_what_is_so_already_is_not_sent(azure, said):
    """An update of a deployment takes minutes."""
    scoretrace.update((azure.client, "ep", "blue"), enable_app_insights=False, progress=said.append)

    assert azure.server.changes("PUT") == []
    assert said == ["ep/blue: nothing to do, it is so already"]


def test_v2_a_data_asset_that_is_gone_is_no_missing_deployment(azure, said):
    """Where a deployment object names one."""
    collection = DeploymentCollection(enabled="true", data="azureml:mine:4")
    deployment = _blue(DataCollector({"model_inputs": collection}))
    with pytest.raises(ServiceError, match=r"Data asset .* was not found") as raised:
        scoretrace.update(deployment, enable_app_insights=True, ml_client=azure.client, progress=said.append)
    assert not isinstance(raised.value, ServiceNotFound)


def _blue(collector):
    return ManagedOnlineDeployment(
        name="blue",
        endpoint_name="ep",
        model=f"{WORKSPACE}/models/m/versions/1",
        instance_type="Standard_DS3_v2",
        instance_count=1,
        data_collector=collector,
    )


def test_v2_off_where_nothing_is_collected_makes_no_collector(azure, said):
    """Nothing to switch off is nothing to send."""
    scoretrace.update((azure.client, "ep", "blue"), collect_model_data=False, progress=said.append)

    assert azure.server.changes("PUT") == []


def test_v2_a_deployment_object_is_changed_and_sent(azure, said):
    """The one that the script has, again and again; it keeps its sampling rate, which the SDK takes away."""
    deployment = _blue(DataCollector({"model_inputs": DeploymentCollection(enabled="true")}, sampling_rate=0.25))
    for is_on in (True, False, True):
        scoretrace.update(
            deployment,
            enable_app_insights=is_on,
            collect_model_data=is_on,
            ml_client=azure.client,
            progress=said.append,
        )
        assert deployment.app_insights_enabled is is_on

    sent = [body["properties"]["dataCollector"]["collections"]["model_inputs"] for body in azure.server.changes("PUT")]
    assert [(one["dataCollectionMode"], one["samplingRate"]) for one in sent] == [
        ("enabled", 0.25),
        ("disabled", 0.25),
        ("enabled", 0.25),
    ]
    with pytest.raises(SettingsError, match="ml_client=MLClient"):
        scoretrace.update(deployment, enable_app_insights=True)


@pytest.mark.parametrize(
    ("state", "said"),
    [("Failed", "get_logs.*says why"), ("Canceled", "get_logs.*says why"), ("Updating", "wait until that is over")],
)
def test_v2_a_deployment_that_is_not_settled_is_left_alone(azure, state, said):
    """A failed one, and one that is being changed."""
    azure.server.deployments["blue"]["provisioningState"] = state
    with pytest.raises(ServiceError, match=f"ep/blue is in state {state}.*{said}"):
        scoretrace.update((azure.client, "ep", "blue"), enable_app_insights=True)
    assert azure.server.changes("PUT") == []


def test_v2_an_update_that_fails_in_azure_is_said(azure, said):
    """With Azure's own words."""
    azure.server.steps = ["InProgress", "Failed"]
    with pytest.raises(ServiceError, match=r"ep/blue was not switched: .*the image could not be built"):
        scoretrace.update((azure.client, "ep", "blue"), enable_app_insights=True, progress=said.append)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (
            (401, {"error": {"code": "InvalidAuthenticationTokenTenant", "message": "wrong tenant"}}),
            "az login --tenant",
        ),
        ((403, {"error": {"code": "AuthorizationFailed", "message": "no permission"}}), "another tenant"),
        ((409, {"error": {"code": "Conflict", "message": "busy"}}), "ep/blue was not switched: .*busy"),
    ],
)
def test_v2_a_refusal_is_said_with_the_way_out(azure, refusal, said):
    """Another tenant, no permission, busy."""
    azure.server.refuse = refusal
    with pytest.raises(ServiceError, match=said):
        scoretrace.update((azure.client, "ep", "blue"), enable_app_insights=True)


def test_v2_a_name_that_is_not_there_is_not_found(azure):
    """Neither made nor changed."""
    with pytest.raises(ServiceNotFound, match="there is no deployment ep/green"):
        scoretrace.update((azure.client, "ep", "green"), enable_app_insights=True)
    assert azure.server.changes("PUT") == []


def test_v2_an_sdk_that_is_half_there_is_said(monkeypatch):
    """azure-ai-ml without azure-identity."""
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(MissingExtraError, match="pip install azure-ai-ml azure-identity"):
        scoretrace.update(f"azure:{WORKSPACE}/onlineEndpoints/e/deployments/d",
                          enable_app_insights=True)  # fmt: skip


@pytest.mark.parametrize(
    ("document", "block"),
    [(document, block) for document in DOCUMENTS for block in blocks(document) if "sdk" in block.words],
    ids=lambda value: getattr(value, "stem", None) or str(getattr(value, "line", "")),
)
def test_what_the_documents_show_with_the_sdks_runs(azure, document, block, monkeypatch):
    """Against the same server, with the workspace, the client and the names that a reader has by then."""
    key = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=http://127.0.0.1:9/"
    monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", key)
    monkeypatch.setenv("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
    namespace = {"workspace": azure.workspace, "ml_client": azure.client, "scoretrace": scoretrace}

    exec(compile(block.code, f"{document.name}:{block.line}", "exec"), namespace)
