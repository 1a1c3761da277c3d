# %% [markdown]
# # Monitoring a model
#
# From what a scoring script prints to how often it is called, how long it takes, what fails, and which inputs were behind it.
# Each question is Kusto that runs here and, unchanged, in Azure.

# %%
import contextlib
import io
import json
import random
import tempfile
import time

import matplotlib.pyplot as plt

import scoretrace

home = tempfile.mkdtemp()
telemetry = scoretrace.configure(home=home, service="diabetes")

# %% [markdown]
# A scoring script, as it is written for Azure ML: it prints its input and its output as JSON. Its second version is slower for the
# old, and fails where the age is missing.

# %%
version = "1"


@scoretrace.request
def run(raw_data):
    row = json.loads(raw_data)["data"]
    time.sleep(random.uniform(0.001, 0.003) + (0.006 if version == "2" and row.get("age", 0) > 60 else 0))
    output = 80 + 1.5 * row["age"] + random.gauss(0, 5) if version == "2" else 100 + row.get("age", 45)
    print(json.dumps({"input": row, "output": output, "version": version}))
    return output


# %% [markdown]
# Eight hundred calls, half of them to each version. What they print is kept from this page; to the journal it is the same.

# %%
random.seed(7)
with contextlib.redirect_stdout(io.StringIO()):
    for call in range(800):
        version = "1" if call < 400 else "2"
        row = {"age": random.randint(20, 80), "bmi": round(random.gauss(26, 4), 1)}
        if call % 25 == 0:
            del row["age"]
        with contextlib.suppress(KeyError):  # the caller gets an error; the request that failed is a row
            run(json.dumps({"data": row}))

# %% [markdown]
# ## What did it print?

# %%
scoretrace.query("prints-with-input", source=home, most=5).df()

# %% [markdown]
# ## How often is it called, and how often does it fail?
# A query that ends in `render` can be drawn.

# %%
scoretrace.query(
    """
    requests
    | summarize served = sumif(itemCount, success == true), failed = sumif(itemCount, success == false)
        by bin(timestamp, 250ms)
    | order by timestamp asc
    | render timechart with (title="requests each quarter of a second")
    """,
    source=home,
).chart()

# %% [markdown]
# The same over days, with its parameters, is one of the bundled queries.

# %%
scoretrace.query("failure-rate", source=home, since="1d").df()

# %% [markdown]
# ## How long does it take?
# Percentiles by step; and each version beside the other, told by what was printed.

# %%
scoretrace.query(
    """
    requests
    | summarize percentiles(duration, 50, 95, 99) by bin(timestamp, 250ms)
    | order by timestamp asc
    | render timechart with (title="milliseconds")
    """,
    source=home,
).chart()

# %%
printed = """
    let printed = traces
        | where message == "STDOUT"
        | extend said = parse_json(tostring(customDimensions.Contents))
        | where isnotnull(said.input)
        | project operation_Id, version = tostring(said.version), age = toint(said.input.age), output = todouble(said.output);
"""
scoretrace.query(
    printed
    + """
    requests
    | join kind=inner printed on operation_Id
    | summarize percentiles(duration, 50, 95), requests = count() by version
    | order by version asc
    """,
    source=home,
).df()

# %% [markdown]
# ## What fails, and why?

# %%
scoretrace.query("exceptions-by-problem", source=home).df()

# %%
scoretrace.query(
    "requests | summarize requests = sum(itemCount) by resultCode | render piechart with (title='answers')", source=home
).chart()

# %% [markdown]
# ## Which inputs are slow?
# The requests of the second version, by the age that was printed.

# %%
scoretrace.query(
    printed
    + """
    requests
    | join kind=inner (printed | where version == "2") on operation_Id
    | project age, duration
    | render scatterchart with (title="milliseconds by age")
    """,
    source=home,
).chart()

# %%
scoretrace.query(
    printed
    + """
    requests
    | join kind=inner printed on operation_Id
    | summarize percentile(duration, 95) by decade = bin(age, 10), version
    | where isnotnull(decade)
    | evaluate pivot(version, take_any(percentile_duration_95))
    | order by decade asc
    """,
    source=home,
).df()

# %% [markdown]
# ## One of the slowest, with everything in it

# %%
slowest = scoretrace.query("slowest-requests", source=home).dicts()[0]
slowest

# %%
scoretrace.query("one-operation", source=home, operation=slowest["operation_Id"]).df()

# %% [markdown]
# ## Does the output drift?

# %%
scoretrace.query(
    printed
    + """
    printed
    | summarize count() by bin(output, 10), version
    | order by output asc
    | render columnchart with (title="outputs by version", series=version)
    """,
    source=home,
).chart()

# %%
plt.close("all")
telemetry.shutdown()
