# %% [markdown]
# # From a print to a row
#
# What a scoring script prints becomes a row of Application Insights, on this machine.

# %%
import contextlib
import io
import json
import tempfile

import scoretrace

home = tempfile.mkdtemp()
telemetry = scoretrace.configure(home=home, service="notebook")


# %% [markdown]
# A scoring function, and three calls: a usual one, one that prints far too much, and one that fails.


# %%
@scoretrace.request
def run(raw_data):
    data = json.loads(raw_data)["data"]
    result = [sum(row) for row in data]
    print(json.dumps({"input": data, "output": result}))
    return result


run('{"data": [[1, 2, 3]]}')
with contextlib.redirect_stdout(io.StringIO()):  # 300 KB, kept from this page; to the journal it is the same
    run(json.dumps({"data": [[0.5] * 10] * 5_000}))
try:
    run('{"rows": []}')
except KeyError as error:
    print("as it would fail without us:", repr(error))

# %% [markdown]
# The requests, with true durations and result codes.

# %%
scoretrace.query("requests | project timestamp, name, duration, resultCode, success", source=home).df()

# %% [markdown]
# What was printed: the text is in the custom dimension `Contents`, as JSON that Kusto can take apart.

# %%
scoretrace.query(
    """
    traces
    | extend printed = parse_json(tostring(customDimensions.Contents))
    | where isnotnull(printed.input)
    | project timestamp, output = tostring(printed.output), cut = tostring(customDimensions.truncated), operation_Id
    """,
    source=home,
).df()

# %% [markdown]
# The large print was cut to a stand-in that is still valid JSON. Its original comes back byte for byte.

# %%
(row,) = scoretrace.query("diverted-payloads", source=home).dicts()
original = scoretrace.payload(row["itemId"], source=home)
print(len(original), "bytes,", len(json.loads(original)["input"]), "rows")

# %%
telemetry.shutdown()
