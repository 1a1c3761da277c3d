# %% [markdown]
# # Enable Application Insights for a service in production
#
# The notebook of the Azure ML documentation, done on this machine: a model is trained and served by the real scoring server,
# telemetry is switched on while it runs, looked at, and switched off again. Below each step is what differs in Azure.
#
# It needs no Azure, but `pip install 'scoretrace[azure,cli,query,demo]' azureml-inference-server-http notebook`. This page is the
# `.ipynb`; the `.py` beside it is its source, and runs by itself too.

# %%
import atexit
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

import scoretrace

os.chdir(tempfile.mkdtemp())  # everything below is written there
os.environ["SCORETRACE_HOME"] = ".scoretrace"

# %% [markdown]
# ## 1. Train a model

# %%
diabetes = load_diabetes()
model = Ridge(alpha=0.03).fit(diabetes.data, diabetes.target)
# As JSON, so that the scoring server needs no scikit-learn.
Path("model.json").write_text(json.dumps({"weights": model.coef_.tolist(), "intercept": float(model.intercept_)}))
f"R2 {model.score(diabetes.data, diabetes.target):.2f} on {len(diabetes.data)} rows"

# %% [markdown]
# In Azure: `Model.register(workspace, "model.json", "ridge")`, or `Model(path="model.json")` in a deployment of SDK v2.
#
# ## 2. Write the scoring script
# It prints its input and its output, as the documentation shows. Two lines of it are about scoretrace.

# %%
_ = Path("score.py").write_text(
    """
import json
import os

import scoretrace

scoretrace.configure()


def init():
    global model
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.json")) as file:
        model = json.load(file)
    print("model loaded")


def run(raw_data):
    data = json.loads(raw_data)["data"]
    result = [model["intercept"] + sum(w * x for w, x in zip(model["weights"], row, strict=True)) for row in data]
    print(json.dumps({"input": data, "output": result}))
    return result
"""
)

# %% [markdown]
# ## 3. Deploy it, with telemetry off
# A deploy configuration is plain data. On this machine it sets the switches of the service, before its first start.

# %%
configuration = scoretrace.AksWebservice.deploy_configuration(enable_app_insights=False)
service = scoretrace.AksWebservice("diabetes", must_exist=False)
service.update(**configuration.switches())
configuration

# %% [markdown]
# In Azure, SDK v1 takes the same configuration:
#
#     service = Model.deploy(workspace, "diabetes", [model], inference_config, configuration, deployment_target=aks)
#
# Here the scoring server of the images runs the script.

# %%
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
# `azmlinfsrv --entry_script score.py` is the same, but listens to the whole network.
launch = "from azureml_inference_server_http import amlserver as s; s.DEFAULT_HOST = '127.0.0.1'; s.run()"
server = subprocess.Popen(
    [os.environ.get("SERVER_PYTHON", sys.executable), "-c", launch, "--entry_script", "score.py", "--port", str(port)],
    env={**os.environ, "AZUREML_MODEL_DIR": ".", "SERVICE_NAME": "diabetes"},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
atexit.register(server.terminate)  # also where a cell fails


def call(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def is_up():
    try:
        return call("GET", "/")[0] == 200
    except OSError:
        return False


while not is_up():
    assert server.poll() is None, "the scoring server did not start: pip install azureml-inference-server-http"
    time.sleep(0.1)


def score(rows):
    return call("POST", "/score", json.dumps({"data": rows}))


score(diabetes.data[:2].tolist())

# %% [markdown]
# It answers, and nothing was recorded:

# %%
time.sleep(1)
recorded = list(Path(".scoretrace").glob("telemetry/**/*.blob"))
assert not recorded
recorded

# %% [markdown]
# ## 4. Switch telemetry on
# The server obeys within two seconds; it is not started again.

# %%
service.update(enable_app_insights=True)
time.sleep(2)
service.switches()

# %% [markdown]
# In Azure it is the same call with the SDK's service, or with a deployment of SDK v2:
#
#     scoretrace.update(Webservice(workspace, "diabetes"), enable_app_insights=True)
#     scoretrace.update((ml_client, "diabetes", "blue"), enable_app_insights=True)
#
# ## 5. Score, and look at the rows

# %%
for start in range(0, 400, 2):
    score(diabetes.data[start : start + 2].tolist())
score([[1, 2, 3]])  # three features instead of ten: this request fails
scoretrace.query("requests-by-result").df()

# %%
printed = scoretrace.query(
    "traces | where message == 'STDOUT' | limit 5 | project timestamp, printed = customDimensions.Contents"
).df()
assert printed["printed"].str.contains("input").all()
printed

# %% [markdown]
# What failed, and why:

# %%
scoretrace.query("failures").df()

# %% [markdown]
# The newest lines, as `service.get_logs()` gives them in Azure:

# %%
print("\n".join(line[:110] for line in service.get_logs(40).splitlines() if line.startswith("20")))

# %% [markdown]
# ## 6. A print that is too large
# Application Insights cuts a message at 32,768 characters and refuses an item over 64 KB. Here the row keeps a valid stand-in that
# says where the whole original is.

# %%
score(diabetes.data.tolist() * 4)
large = scoretrace.query("diverted-payloads").dicts()[0]
large

# %% [markdown]
# In Azure the original is in blob storage, where `storage` (or `AZURE_STORAGE_CONNECTION_STRING`) names an account; `payload_uri` of the
# row is its address.

# %%
original = json.loads(scoretrace.payload(large["itemId"]))
assert len(original["input"]) == len(original["output"]) == 4 * len(diabetes.data)
f"{len(original['input']):,} rows in, {len(original['output']):,} out, {large['bytes']:,} bytes"

# %% [markdown]
# ## 7. Ask, and draw
# These queries run unchanged in the portal; `scoretrace query failures --open --source azure:...` opens one there.

# %%
scoretrace.query("response-times").df()

# %%
scoretrace.query(
    """
    requests
    | summarize served = sumif(itemCount, success == true), failed = sumif(itemCount, success == false)
        by bin(timestamp, 100ms)
    | order by timestamp asc
    | render timechart with (title="requests in each tenth of a second")
    """
).chart()

# %% [markdown]
# In Azure: `scoretrace.query("response-times", source="azure:/subscriptions/.../components/my-insights")`.
#
# ## 8. Switch it off
# What was recorded stays; nothing is added. In Azure it is the same call as in step 4, with `False`.

# %%
service.update(enable_app_insights=False)
time.sleep(2)
before = scoretrace.query("requests | summarize sum(itemCount)").rows
score(diabetes.data[:2].tolist())
time.sleep(0.5)
after = scoretrace.query("requests | summarize sum(itemCount)").rows
assert before == after
before, after

# %%
server.terminate()
server.wait()

# %% [markdown]
# In Azure: `service.delete()`, or `ml_client.online_endpoints.begin_delete("diabetes")`.
