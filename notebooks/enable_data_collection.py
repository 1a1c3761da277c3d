# %% [markdown]
# # Enable data collection for a model in production
#
# The notebook of the Azure ML documentation, done on this machine: a model is trained and served by the real scoring server, its
# inputs and predictions are collected from when they are switched on, read back, joined to requests, and drawn. Below each step is
# what differs in Azure.
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

import matplotlib.pyplot as plt
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
# `ModelDataCollector` has the signature of azureml-monitoring, which does not load any more.

# %%
_ = Path("score.py").write_text(
    f"""
import json
import os

import scoretrace
from scoretrace import ModelDataCollector

scoretrace.configure(model="ridge")


def init():
    global model, inputs_dc, prediction_dc
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.json")) as file:
        model = json.load(file)
    inputs_dc = ModelDataCollector("ridge", designation="inputs", feature_names={diabetes.feature_names})
    prediction_dc = ModelDataCollector("ridge", designation="predictions", feature_names=["progression"])


def run(raw_data):
    data = json.loads(raw_data)["data"]
    result = [model["intercept"] + sum(w * x for w, x in zip(model["weights"], row, strict=True)) for row in data]
    inputs_dc.collect(data)
    prediction_dc.collect(result)
    print(json.dumps({{"input": data, "output": result}}))
    return result
"""
)

# %% [markdown]
# In Azure, a script that cannot be touched keeps `from azureml.monitoring import ModelDataCollector`: see `scoretrace.compat`.
#
# ## 3. Deploy it, with collection off

# %%
configuration = scoretrace.AksWebservice.deploy_configuration(enable_app_insights=True, collect_model_data=False)
service = scoretrace.AksWebservice("diabetes", must_exist=False)
service.update(**configuration.switches())
configuration

# %% [markdown]
# In Azure, SDK v1 takes the same configuration in `Model.deploy`. With SDK v2 it is
# `ManagedOnlineDeployment(..., app_insights_enabled=True)`.

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
# It answers, and nothing was collected:

# %%
collected = list(Path(".scoretrace").glob("modeldata/**/*.csv"))
assert not collected
collected

# %% [markdown]
# ## 4. Switch collection on
# The server obeys within two seconds.

# %%
service.update(collect_model_data=True)
time.sleep(2)
service.switches()

# %% [markdown]
# In Azure it is the same call with the SDK's service, or with a deployment of SDK v2, whose collections `model_inputs` and
# `model_outputs` are enabled:
#
#     scoretrace.update(Webservice(workspace, "diabetes"), collect_model_data=True)
#     scoretrace.update((ml_client, "diabetes", "blue"), collect_model_data=True)
#
# A service on ACI is deployed again for that, and the error says so.
#
# ## 5. Score, and see the files
# The people that it is asked about are the older half of those that it was trained on.

# %%
older = diabetes.data[diabetes.data[:, 0] > 0].tolist()
for start in range(0, len(older), 4):
    score(older[start : start + 4])
[str(path) for path in sorted(Path(".scoretrace").glob("modeldata/**/*.csv"))]

# %% [markdown]
# With `storage` (or `AML_MODEL_DC_STORAGE`) the same path is in the container `modeldata` of the storage account.

# %%
print(
    "".join(
        line[:118] + "\n"
        for line in next(Path(".scoretrace").glob("modeldata/**/inputs/**/data.csv")).read_text().splitlines()[:4]
    )
)

# %% [markdown]
# ## 6. Read it back
# Inputs come joined to what was predicted from them, row by row.

# %%
rows = scoretrace.read_model_data(model="ridge").df()
assert len(rows) == len(older)
rows[["age", "bmi", "bp", "progression"]].describe().round(2)

# %% [markdown]
# In Azure: `scoretrace.read_model_data("https://<account>.blob.core.windows.net/modeldata", model="ridge", since="7d")`.
#
# ## 7. A payload that is too large
# The rows of collected data are whole however many there are; the print beside them is diverted, and its row says where to. In Azure
# both are in the storage account, below `modeldata`.

# %%
score(diabetes.data.tolist() * 4)
scoretrace.query("diverted-payloads").df()

# %%
len(scoretrace.read_model_data(model="ridge").df())

# %% [markdown]
# ## 8. Ask about data and requests together
# `modelData` is a table of the queries on this machine; in Azure the files are read first (step 6), and joined on the operation id.

# %%
scoretrace.query(
    """
    requests
    | join kind=inner (modelData | where designation == "predictions") on operation_Id
    | summarize rows = count(), highest = max(todouble(data.progression)) by name, resultCode
    """
).df()

# %% [markdown]
# What goes into the model now, against what it was trained on:

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True)
for axis, name in zip(axes, ["age", "bmi", "bp"], strict=True):
    column = diabetes.feature_names.index(name)
    axis.hist(diabetes.data[:, column], bins=20, density=True, alpha=0.5, label="trained on")
    axis.hist(rows[name], bins=20, density=True, alpha=0.5, label="scored")
    axis.set_title(name)
axes[0].legend()
figure.tight_layout()

# %% [markdown]
# ## 9. Switch it off
# In Azure it is the same call as in step 4, with `False`.

# %%
service.update(collect_model_data=False)
time.sleep(2)
before = len(scoretrace.read_model_data(model="ridge").df())
score(diabetes.data[:2].tolist())
after = len(scoretrace.read_model_data(model="ridge").df())
assert before == after
before, after

# %%
server.terminate()
server.wait()

# %% [markdown]
# In Azure: `service.delete()`, or `ml_client.online_endpoints.begin_delete("diabetes")`.
