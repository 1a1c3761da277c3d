"""The query API of Azure Monitor on this machine, asked by its real client and by HTTP; and queries in Azure."""

import datetime as dt
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import httpx
import pytest
from azure.core.exceptions import HttpResponseError
from azure.monitor.query import LogsQueryClient, LogsQueryPartialResult, LogsQueryStatus

import scoretrace
from scoretrace import QueryError, SourceError, azure_logs, query_api

RESOURCE = "/subscriptions/s/resourceGroups/g/providers/microsoft.insights/components/c"
WORKSPACE = "00000000-0000-0000-0000-000000000001"


class Token(NamedTuple):
    """As azure-core has it."""

    token: str
    expires_on: int


class Credential:
    """A token that nobody looks at."""

    def get_token(self, *_scopes, **_options):
        return Token("t", int(time.time()) + 3_600)


@pytest.fixture(name="address", scope="module")
def _address(tmp_path_factory):
    """A real `scoretrace serve` over a home with rows."""
    home = tmp_path_factory.mktemp("served")
    with scoretrace.configure(home=home, service="svc", capture_print=False, exporter="none"):
        for number in range(3):
            with scoretrace.request_context("score"):
                scoretrace.log({"number": number})
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "scoretrace", "serve", "--port", str(port), "--home", str(home)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server.stdout.readline()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.fixture(name="client")
def _client(address):
    with LogsQueryClient(Credential(), endpoint=address) as client:
        yield client


def ask(address, query, path="/v1/apps/any/query", **body):
    return httpx.post(address + path, json={"query": query, **body}, timeout=60)


def test_the_real_client_reads_a_resource(client):
    """With types, times and dynamics as it gives them of Azure."""
    answer = client.query_resource(
        RESOURCE,
        "traces | project timestamp, message, customDimensions, n = 2, x = 0.5, span = 90m, yes = true"
        " | order by timestamp asc",
        timespan=dt.timedelta(days=1),
        enforce_https=False,
    )

    assert answer.status == LogsQueryStatus.SUCCESS
    (table,) = answer.tables
    assert table.columns == ["timestamp", "message", "customDimensions", "n", "x", "span", "yes"]
    assert table.columns_types == ["datetime", "string", "dynamic", "long", "real", "timespan", "bool"]
    assert len(table.rows) == 3
    row = table.rows[0]
    assert isinstance(row["timestamp"], dt.datetime)
    assert (row["n"], row["x"], row["span"], row["yes"]) == (2, 0.5, "01:30:00", True)


def test_the_real_client_reads_a_workspace(client):
    """Under the names of a workspace; a timespan in the past has no rows."""
    now = dt.datetime.now(dt.timezone.utc)
    counted = "AppRequests | summarize sum(ItemCount)"
    past = (now - dt.timedelta(days=9), now - dt.timedelta(days=8))

    answers = [
        client.query_workspace(WORKSPACE, counted, timespan=timespan, enforce_https=False)
        for timespan in (None, (now - dt.timedelta(hours=1), dt.timedelta(hours=2)), past)
    ]

    assert [answer.tables[0].rows[0][0] for answer in answers] == [3, 3, 0]


def test_the_real_client_is_told_what_is_wrong(client):
    """With the place, as the service says it."""
    with pytest.raises(HttpResponseError) as caught:
        client.query_workspace(WORKSPACE, "traces | where mesage == 'x'", timespan=None, enforce_https=False)

    assert caught.value.status_code == 400
    assert "did you mean message" in caught.value.response.text()


def test_what_is_rendered_and_statistics_are_given_where_they_are_wanted(client):
    """By the header that the client sends."""
    query = "requests | summarize count() by bin(timestamp, 1h) | render timechart with (title='t')"
    answer = client.query_resource(
        RESOURCE, query, timespan=None, include_visualization=True, include_statistics=True, enforce_https=False
    )

    assert answer.visualization == {"visualization": "timechart", "title": "t"}
    assert answer.statistics["query"]["rowCount"] == 1


@pytest.mark.parametrize(
    "path",
    ["/v1/apps/a/query", f"/v1/workspaces/{WORKSPACE}/query", f"/v1/resources{RESOURCE}/query", f"/v1{RESOURCE}/query"],
)
def test_each_address_of_the_api_answers(address, path):
    """By POST and by GET, in the service's own JSON."""
    expected = {"tables": [{"name": "PrimaryResult", "columns": [{"name": "Count", "type": "long"}], "rows": [[3]]}]}

    assert ask(address, "requests | count", path).json() == expected
    assert httpx.get(address + path, params={"query": "requests | count"}, timeout=60).json() == expected


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"query": "requests |"}, 400, "SyntaxError"),
        ({"query": "nowhere | count"}, 400, "no table nowhere"),
        ({"query": "failures"}, 400, "no table failures"),
        ({"query": ""}, 400, "no query"),
        ({"nothing": 1}, 400, "no query"),
        ({"query": "requests", "timespan": "yesterday"}, 400, "time span"),
        ({"query": "requests", "timespan": "a/b"}, 400, "timespan"),
        ({"query": ".drop table requests"}, 400, "control commands"),
        ([1], 400, "no JSON object"),
    ],
)
def test_a_bad_request_is_told_why(address, body, status, said):
    """As the service nests its errors."""
    answer = httpx.post(f"{address}/v1/apps/a/query", json=body, timeout=60)

    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == "BadArgumentError"
    assert said in str(error["innererror"])


def test_a_timespan_of_the_api_is_any_of_its_forms(address):
    """A duration, two times, or one of each."""
    now = dt.datetime.now(dt.timezone.utc)
    soon, earlier = (now + dt.timedelta(hours=1)).isoformat(), (now - dt.timedelta(hours=1)).isoformat()
    counts = [
        ask(address, "requests | count", timespan=timespan).json()["tables"][0]["rows"][0][0]
        for timespan in ("P1D", f"{earlier}/{soon}", f"{earlier}/PT2H", f"PT2H/{soon}", f"PT1M/{earlier}")
    ]
    assert counts == [3, 3, 3, 3, 0]


def test_odd_values_are_written_as_the_service_writes_them(address):
    """NaN and infinity as words, a dynamic as its JSON text."""
    answer = ask(
        address, "print real(nan), real(+inf), dynamic({'a': 1}), guid(c0ffee00-0000-0000-0000-000000000001), 1d"
    )

    assert answer.json()["tables"][0]["rows"] == [
        ["NaN", "Infinity", '{"a":1}', "c0ffee00-0000-0000-0000-000000000001", "1.00:00:00"]
    ]


def test_an_answer_that_is_too_long_says_that_rows_are_missing(home, monkeypatch):
    """And the real client takes it for a partial one."""
    (home / "telemetry").mkdir(parents=True)
    monkeypatch.setattr(query_api, "_MOST_ROWS", 2)

    status, found = query_api.answer(home, {"query": "range x from 1 to 3 step 1"})

    assert (status, len(found["tables"][0]["rows"])) == (200, 2)
    from azure.monitor.query import LogsQueryError

    partial = LogsQueryPartialResult._from_generated(found, LogsQueryError)
    assert partial.status == LogsQueryStatus.PARTIAL


# Queries in Azure, where the service is this machine's endpoint.


def asked(address, text, source=f"azure:{RESOURCE}", window=(None, None)):
    return azure_logs.query(source, text, window, credential=Credential(), endpoint=address)


def test_a_query_in_azure_gives_the_same_result_as_here(address):
    """Values of Python, types of Kusto, and what is rendered."""
    text = (
        "requests | summarize n = count(), x = avg(duration) / 0, d = take_any(bag_pack('a', 1)), s = max(1d)"
        " by bin(timestamp, 1d) | render timechart"
    )
    result = asked(address, text)

    assert result.columns == ["timestamp", "n", "x", "d", "s"]
    assert result.types == ["datetime", "long", "real", "dynamic", "timespan"]
    ((moment, count, endless, dimensions, span),) = result.rows
    assert moment.tzinfo is not None
    assert (count, endless, span) == (3, float("inf"), dt.timedelta(days=1))
    assert dimensions == {"a": 1}
    assert (result.rendering.kind, result.partial) == ("timechart", "")
    assert result.df().shape == (1, 5)
    assert result.arrow().num_rows == 1


def test_bundled_queries_run_in_azure_in_both_namings(address):
    """Of a resource as they are, of a workspace as their twins."""
    for source in (f"azure:{RESOURCE}", f"azure:{WORKSPACE}"):
        text = next(entry.text for entry in scoretrace.queries() if entry.name == "requests-by-result")
        assert [row["total"] for row in asked(address, text, source).dicts()] == [3]


def test_what_azure_refuses_is_said_as_it_says_it(address):
    """Its innermost message; and a service that is not there is named."""
    with pytest.raises(QueryError, match=r"Azure refuses the query: .*did you mean message"):
        asked(address, "traces | where mesage == 1")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(SourceError, match="cannot be asked"):
        azure_logs.query(
            f"azure:{RESOURCE}", "print 1", (None, None), credential=Credential(), endpoint=nobody, retries=0
        )


@pytest.mark.parametrize("source", ["azure:", "azure:my-insights", "azure:/subscriptions/x"])
def test_a_source_in_azure_that_is_none_is_refused(source):
    """With the form that it has to have."""
    with pytest.raises(SourceError, match="resourceGroups"):
        scoretrace.query("print 1", source=source)


def test_a_link_opens_the_query_in_the_portal():
    """With the parameters in it, packed as the portal takes it."""
    import base64
    import gzip
    from urllib.parse import unquote

    link = scoretrace.portal_link("request-rate", source=f"azure:{RESOURCE}", since="7d")

    assert link.startswith(
        "https://portal.azure.com/#blade/Microsoft_Azure_Monitoring_Logs/LogsBlade/resourceId/%2Fsubscriptions"
    )
    packed = unquote(link.rpartition("/q/")[2])
    assert "let since = 7d;" in gzip.decompress(base64.b64decode(packed)).decode()
    with pytest.raises(SourceError, match="azure:"):
        scoretrace.portal_link("request-rate", source=".scoretrace")
