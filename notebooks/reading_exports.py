# %% [markdown]
# # From a folder of exports to three charts
#
# Telemetry that Azure exported to blob storage, or that a scoring script wrote on this machine, as DataFrames.
# Put your own folder, or the URL of a container, into `SCORETRACE_ARCHIVE`; without it the notebook makes a day of
# a made-up service first.

# %%
import os
import random
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import matplotlib.pyplot as plt

import scoretrace
from scoretrace import ticks
from scoretrace.formats import continuous_export
from scoretrace.item import Request, Trace


# %%
def a_day_of(folder, calls=2_000):
    """A continuous export of one day: requests and what they logged, a blob an hour."""
    chance = random.Random(1)
    first = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    for number in range(calls):
        moment = first + timedelta(seconds=86_400 * min(max(chance.gauss(0.55, 0.2), 0), 0.999))
        version, slow = chance.choice("12"), chance.random() < 0.05
        failed = chance.random() < (0.04 if version == "1" else 0.01)
        common = {
            "timestamp": ticks.from_iso(moment.isoformat()),
            "operation_id": f"{number:032x}",
            "cloud_role_name": "diabetes",
            "custom_dimensions": {"model_version": version},
        }
        milliseconds = chance.lognormvariate(4, 0.4) * (8 if slow else 1)
        request = Request(
            id=f"{number:016x}", item_id=f"r{number}", name="POST /score", success=not failed,
            result_code="500" if failed else "200", duration=round(milliseconds * ticks.MILLISECOND), **common,
        )  # fmt: skip
        said = Trace(
            item_id=f"t{number}",
            message="no such feature" if failed else "scored",
            severity_level=3 if failed else 1,
            **common,
        )
        for kind, item in (("Requests", request), ("Messages", said)):
            blob = Path(folder, "diabetes_" + "0" * 32, kind, f"{moment:%Y-%m-%d}", f"{moment:%H}", "a.blob")
            blob.parent.mkdir(parents=True, exist_ok=True)
            with blob.open("ab") as file:
                file.write(continuous_export.encode(item))


archive = os.environ.get("SCORETRACE_ARCHIVE")
if not archive:
    archive = tempfile.mkdtemp()
    a_day_of(archive)

# %% [markdown]
# What is there, by table: blobs, bytes, and the hours they are of.

# %%
export = scoretrace.read_export(archive, quarantine=tempfile.mkdtemp())
for held in export.held():
    print(f"{held.table or 'several':20} {held.blobs:5} blobs {held.bytes:12,} bytes   {held.first} to {held.last}")

# %% [markdown]
# Requests as a DataFrame. Times keep their 100 ns, and `customDimensions` is JSON.

# %%
requests = export.df("requests").dropna(subset="timestamp").set_index("timestamp").sort_index()
if requests.empty:
    raise SystemExit(f"there are no requests in {archive}: point SCORETRACE_ARCHIVE at an export that has some")
days = (requests.index.max() - requests.index.min()).days
every, width = ("1h", 1 / 28) if days < 14 else ("1D", 0.9) if days < 400 else ("30D", 27)
requests[["name", "resultCode", "success", "duration", "customDimensions"]].head()

# %% [markdown]
# ## How many requests are there, and how many fail?

# %%
hourly = requests.assign(failed=requests["success"] == "False").resample(every)["failed"].agg(["size", "sum"])
figure, axes = plt.subplots(figsize=(9, 3))
axes.bar(hourly.index, hourly["size"], width=width, label="requests")
axes.bar(hourly.index, hourly["sum"], width=width, label="failed")
axes.set_ylabel(f"each {every}")
axes.legend()

# %% [markdown]
# ## How long do they take?

# %%
durations = requests["duration"].resample(every).quantile([0.5, 0.95]).unstack()
figure, axes = plt.subplots(figsize=(9, 3))
axes.plot(durations.index, durations[0.5], label="the middle one")
axes.plot(durations.index, durations[0.95], label="95 of 100 take less")
axes.set_ylabel("ms")
axes.set_ylim(bottom=0)
axes.legend()

# %% [markdown]
# ## Which version of the model fails? The same question is Kusto, here and in Azure.

# %%
versions = scoretrace.query(
    """
    requests
    | summarize failed = countif(success == "False"), total = count() by version = tostring(customDimensions.model_version)
    | extend share = 100.0 * failed / total
    | order by version asc
    """,
    source=archive,
).df()
figure, axes = plt.subplots(figsize=(4, 3))
axes.bar(versions["version"], versions["share"])
axes.set_xlabel("version of the model")
axes.set_ylabel("% failed")

# %% [markdown]
# What could not be read would be said here, and lie in the quarantine with its blob, line and reason.

# %%
print(export.examine("requests"))

# %%
plt.close("all")
export.close()
