"""What SDK v1 and SDK v2 talk to, on loopback: the Model Management Service, and Azure Resource Manager."""

import base64
import copy
import http.server
import json
import ssl
import threading
import time

SCOPE = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
COMMON = {
    "createdTime": "2026-01-01T00:00:00Z",
    "description": "",
    "kvTags": {},
    "properties": {},
    "state": "Healthy",
    "appInsightsEnabled": False,
    "authEnabled": True,
    "scoringUri": "http://127.0.0.1/score",
}
AKS = {
    **COMMON,
    "computeType": "AKS",
    "aadAuthEnabled": False,
    "autoScaler": dict.fromkeys(
        ["autoscaleEnabled", "maxReplicas", "minReplicas", "refreshPeriodInSeconds", "targetUtilization"]
    ),
    "computeName": "aks",
    "containerResourceRequirements": dict.fromkeys(["cpu", "cpuLimit", "memoryInGB", "memoryInGBLimit", "gpu"], 1),
    "dataCollection": {"storageEnabled": False, "eventHubEnabled": False},
    "deploymentStatus": "Healthy",
    "environmentImageRequest": None,
    "isDefault": None,
    "livenessProbeRequirements": dict.fromkeys(
        ["periodSeconds", "initialDelaySeconds", "timeoutSeconds", "successThreshold", "failureThreshold"], 1
    ),
    "maxConcurrentRequestsPerContainer": 1,
    "maxQueueWaitMs": 1,
    "numReplicas": 1,
    "scoringTimeoutMs": 1,
    "trafficPercentile": None,
    "versionType": None,
}
ACI = {
    **COMMON,
    "computeType": "ACI",
    "cname": "",
    "containerResourceRequirements": {"cpu": 1, "memoryInGB": 1},
    "location": "westeurope",
    "publicIp": "",
    "sslCertificate": "",
    "sslEnabled": False,
    "sslKey": "",
}
DEPLOYMENT = {
    "endpointComputeType": "Managed",
    "appInsightsEnabled": False,
    "model": f"{SCOPE}/models/m/versions/1",
    "environmentId": f"{SCOPE}/environments/env/versions/1",
    "instanceType": "Standard_DS3_v2",
    "provisioningState": "Succeeded",
    "scaleSettings": {"scaleType": "Default"},
}


class Azure:
    """
    A server that knows *services* of SDK v1 and *deployments* of SDK v2, and keeps what it was asked.

    *refuse* is the status and the body that changes are answered with; *steps* are the states that an
    operation of SDK v2 goes through.
    """

    def __init__(self, certificate=None):
        self.services = {"diabetes": dict(AKS), "small": dict(ACI)}
        self.deployments = {"blue": dict(DEPLOYMENT)}
        self.versions = {"3"}  # of data assets that are there
        self.asked = []
        self.refuse = None
        self.steps = ["Succeeded"]
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path, _, query = self.path.partition("?")
                content = json.loads(body) if body else None
                outer.asked.append((self.command, path, query, content, self.headers.get("Authorization")))
                status, found, headers = outer.answer(self.command, path, content)
                data = json.dumps(found).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(data)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PATCH = do_POST = do_PUT = answer  # noqa: N815 - as the library names them

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()

    def changes(self, method):
        """The bodies of what it was asked to change."""
        return [content for command, path, _, content, _ in self.asked if command == method and "/data/" not in path]

    def answer(self, method, path, content):
        """Status, body and headers."""
        name = path.rpartition("/")[2]
        if path == "/discovery":
            names = ["api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio"]
            return 200, dict.fromkeys(names, self.url), {}
        if path == "/identity":  # what App Service and Azure ML give a managed identity its tokens by
            given = {"access_token": token(), "expires_on": str(2**31), "resource": "", "token_type": "Bearer"}
            return 200, given, {}
        if method in {"PATCH", "PUT"} and self.refuse and "/data/" not in path:
            return *self.refuse, {}
        if path.endswith("/services/validate"):
            return 200, {}, {}
        if path.endswith("/logs"):
            return 200, {"content": "one\ntwo\n"}, {}
        if "/services/" in path:
            return self._service(method, name, content)
        if "/deployments/" in path:
            return self._deployment(method, name, content)
        if path.endswith("/operation"):
            state = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
            found = {"status": state}
            if state == "Failed":
                found["error"] = {"code": "ImageBuildFailure", "message": "the image could not be built"}
            return 200, found, {"Retry-After": 1}
        if "/onlineEndpoints/" in path:
            properties = {"authMode": "Key", "provisioningState": "Succeeded"}
            return 200, {"id": path, "name": name, "location": "westeurope", "properties": properties}, {}
        if "/data/" in path:
            if method == "GET" and name not in self.versions:
                return 404, {"error": {"code": "UserError", "message": f"Data asset {path} was not found"}}, {}
            self.versions.add(name)
            properties = {"dataType": "uri_folder", "dataUri": "azureml://datastores/mine/paths/collected"}
            return 200, {"id": path, "name": name, "properties": content["properties"] if content else properties}, {}
        if path.endswith("/workspaces/ws"):
            properties = {"workspaceId": "id", "discoveryUrl": f"{self.url}/discovery"}
            return 200, {"id": path, "name": "ws", "location": "westeurope", "properties": properties}, {}
        return 404, {"error": {"code": "ResourceNotFound", "message": f"no {path}"}}, {}

    def _service(self, method, name, content):
        if name not in self.services:
            return 404, {"code": "NotFound", "message": f"no service {name}"}, {}
        for change in content if method == "PATCH" else []:
            if change["path"] == "/appInsightsEnabled":
                self.services[name]["appInsightsEnabled"] = change["value"]
        return 200, {**self.services[name], "name": name}, {}

    def _deployment(self, method, name, content):
        headers = {}
        if method == "PUT":
            kept = copy.deepcopy(content["properties"])
            for one in ((kept.get("dataCollector") or {}).get("collections") or {}).values():
                one["dataCollectionMode"] = one["dataCollectionMode"].capitalize()  # as Azure gives it back
            # What a body does not say is not there any more, but for what the service fills in.
            self.deployments[name] = {
                "scaleSettings": {"scaleType": "Default"},
                **kept,
                "provisioningState": "Succeeded",
            }
            headers = {"Azure-AsyncOperation": f"{self.url}/operation", "Retry-After": 1}
        if name not in self.deployments:
            return 404, {"error": {"code": "ResourceNotFound", "message": f"no deployment {name}"}}, {}
        identity = {"id": f"{SCOPE}/onlineEndpoints/ep/deployments/{name}", "name": name, "location": "westeurope"}
        sku = {"name": "Default", "capacity": 2}
        found = {**identity, "tags": {"team": "pricing"}, "sku": sku, "properties": self.deployments[name]}
        return (201 if method == "PUT" else 200), found, headers


def token():
    """A bearer token of nobody, as the SDKs expect one."""
    parts = ({"alg": "none"}, {"exp": int(time.time()) + 3600, "oid": "o", "tid": "t"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."
