"""Connection strings: what is accepted, and what is refused when it is given, without repeating a secret."""

import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoretrace
from scoretrace.connections import DEFAULT_ENDPOINT, ingestion, said, storage_url
from scoretrace.settings import SETTINGS, resolve

GUID = "12345678-90ab-cdef-1234-567890abcdef"
HOST = "https://westeurope-5.in.applicationinsights.azure.com"
SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (GUID, DEFAULT_ENDPOINT),
        (f"InstrumentationKey={GUID}", DEFAULT_ENDPOINT),
        (f"InstrumentationKey={GUID};IngestionEndpoint={HOST}/", HOST),
        (f"  INSTRUMENTATIONKEY = {GUID.upper()} ; ingestionendpoint= {HOST} ;;", HOST),
        (f"InstrumentationKey={GUID};IngestionEndpoint={HOST}/;LiveEndpoint=https://x/;ApplicationId=7;New=1", HOST),
        (f"InstrumentationKey={GUID};EndpointSuffix=ai.contoso.com", "https://dc.ai.contoso.com"),
        (f"InstrumentationKey={GUID};EndpointSuffix=ai.contoso.com;Location=eu", "https://eu.dc.ai.contoso.com"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=http://127.0.0.1:8317/", "http://127.0.0.1:8317"),
        (f"InstrumentationKey={GUID};IngestionEndpoint={HOST}/v2.1/track", HOST),
    ],
)
def test_a_connection_string_names_key_and_endpoint(text, endpoint):
    """Spaces, slashes, letter case and unknown fields do not matter."""
    found = ingestion(text)

    assert (found.i_key, found.endpoint) == (GUID, endpoint)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (f"IngestionEndpoint={HOST}", "InstrumentationKey"),
        ("InstrumentationKey=", "InstrumentationKey"),
        (f"InstrumentationKey={GUID[:-1]}", "InstrumentationKey"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=htt", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=https://", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=westeurope.in.azure.com", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=ftp://a.b", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=https://a:port/", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};Ingestion", "cut off"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=https://weste", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=https://a.b/?c=d", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};IngestionEndpoint=https://me:secret@a.b/", "IngestionEndpoint"),
        (f"InstrumentationKey={GUID};Authorization=magic", "Authorization"),
        ("nonsense", "InstrumentationKey"),
    ],
)
def test_one_that_cannot_work_is_refused_when_it_is_given(text, field):
    """By configure and by the handler; the message names the field and the way out, and not the key."""
    for start in (scoretrace.configure, scoretrace.TelemetryHandler):
        with pytest.raises(scoretrace.SettingsError, match=field) as caught:
            start(connection_string=text)
        assert "Overview page" in str(caught.value)
        assert GUID[:8] not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1"),
        (f"AccountName=team;AccountKey={SECRET}==", "https://team.blob.core.windows.net"),
        (
            f"DefaultEndpointsProtocol=https;AccountName=team;AccountKey={SECRET};EndpointSuffix=core.chinacloudapi.cn",
            "https://team.blob.core.chinacloudapi.cn",
        ),
        (f"BlobEndpoint=https://a.b/;SharedAccessSignature=sv=1&sig={SECRET}", "https://a.b"),
        ("https://team.blob.core.windows.net/", "https://team.blob.core.windows.net"),
        (f"https://team.blob.core.windows.net/mine/sub?sv=1&sig={SECRET}", "https://team.blob.core.windows.net/mine/sub"),
    ],
)  # fmt: skip
def test_storage_has_a_url_without_secrets(text, url):
    """It is what rows carry."""
    assert storage_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "https://",
        "ftp://a.b/",
        f"https://me:{SECRET}@a.b/",
        "http://team.blob.core.windows.net/",
        f"AccountName=team;AccountKey={SECRET};Endpo",
        f"AccountKey={SECRET}",
        "AccountName=team",
        f"AccountName=No Such Name;AccountKey={SECRET}",
        f"BlobEndpoint=no url;SharedAccessSignature=sig={SECRET}",
    ],
)
def test_storage_that_cannot_work_is_refused_when_it_is_given(text):
    """Without repeating its key."""
    with pytest.raises(scoretrace.SettingsError, match="storage") as caught:
        scoretrace.configure(storage=text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"exporter": "zipkin"}, "exporter is 'zipkin'"),
        ({"exporter": "azure_monitor,opentelemetry"}, "must name one of"),
        ({"exporter": "blob_export"}, "needs storage"),
        ({"exporter": "opentelemetry"}, "needs connection_string"),
        ({"credential": 7}, "credential: it must have get_token"),
        ({"credential": "magic"}, "credential: it must be"),
        ({"credential": type("Unhashable", (), {"get_token": 1, "__hash__": None})()}, "credential: it must have"),
    ],
)
def test_an_exporter_that_cannot_work_is_refused_when_it_is_given(given, said):
    """With what it needs."""
    with pytest.raises(scoretrace.SettingsError, match=said):
        scoretrace.configure(**given)


def test_opencensus_is_refused_where_it_cannot_work(monkeypatch):
    """On Python 3.13 and newer each log call would raise."""
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(scoretrace.SettingsError, match=r"Python 3\.13 and newer.*use azure_monitor"):
        scoretrace.configure(exporter="opencensus", connection_string=GUID)


@pytest.mark.parametrize(
    ("hidden", "given", "extra"),
    [
        ("azure.monitor.opentelemetry.exporter", {"exporter": "opentelemetry"}, "opentelemetry"),
        ("opencensus.ext.azure", {"exporter": "opencensus"}, "opencensus"),
    ],
)
def test_a_missing_extra_is_said_when_it_is_asked_for(tmp_path, hidden, given, extra):
    """With the command that installs it."""
    if extra == "opencensus" and sys.version_info >= (3, 13):
        pytest.skip("it is refused for another reason there")
    code = f"""
import importlib.util, scoretrace
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == {hidden!r} else real(name, package)
scoretrace.configure(connection_string={GUID!r}, **{given!r})
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert ended.returncode == 1
    assert f"pip install 'scoretrace[{extra}]'" in ended.stderr


def test_the_default_without_its_extra_stays_local(tmp_path):
    """A script must not fail because its environment has a connection string."""
    code = f"""
import importlib.util, logging, scoretrace
importlib.util.find_spec = lambda name, package=None: None
telemetry = scoretrace.configure(connection_string={GUID!r}, storage="https://team.blob.core.windows.net")
logging.getLogger("score").info("kept")
assert not telemetry.flush(1)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "pip install 'scoretrace[azure]'" in ended.stderr
    assert "stays on disk" in ended.stderr


def test_no_secret_is_in_a_repr():
    """Of what a debugger or a traceback might show."""
    given = {
        "connection_string": f"InstrumentationKey={GUID}",
        "storage": f"AccountName=team;AccountKey={SECRET}",
        "model_data_storage": f"AccountName=other;AccountKey={SECRET}",
        "credential": "default",
    }
    shown = repr(resolve(given, {}))

    assert SECRET not in shown
    assert GUID not in shown
    assert {setting.name for setting in SETTINGS if setting.secret} == set(given)


@given(secret=st.text("abcdefABCDEF0123456789%+/=", min_size=8))
def test_what_is_said_of_an_error_has_no_query_in_it(secret):
    """Where a SAS would be."""
    error = OSError(f"Max retries exceeded with url: https://a.b/c?sv=1&sig={secret} (Caused by X)")

    assert secret not in said(error)
    assert "(Caused by X)" in said(error)


def test_a_credential_signs_each_request(home, endpoint):
    """A token for Azure Monitor, or for the audience that the connection string names."""
    scopes = []

    class Credential:
        def get_token(self, *names, **_):
            from azure.core.credentials import AccessToken

            scopes.extend(names)
            return AccessToken("the-token", 4_102_444_800)

    for audience in ("", ";AADAudience=https://monitor.azure.us/"):
        text = endpoint.connection_string + audience
        with scoretrace.configure(home=home, connection_string=text, credential=Credential()) as telemetry:
            logging.getLogger("score").info("signed")
            assert telemetry.flush(30)

    assert [headers["Authorization"] for _, headers, _ in endpoint.requests] == ["Bearer the-token"] * 2
    assert scopes == ["https://monitor.azure.com//.default", "https://monitor.azure.us//.default"]


def test_a_credential_that_fails_is_said_and_loses_nothing(home, endpoint, caplog):
    """It may work again later."""

    class Credential:
        broken = True

        def get_token(self, *_, **__):
            from azure.core.credentials import AccessToken

            if self.broken:
                raise RuntimeError("no identity here")
            return AccessToken("the-token", 4_102_444_800)

    credential = Credential()
    with scoretrace.configure(
        home=home, connection_string=endpoint.connection_string, credential=credential
    ) as telemetry:
        logging.getLogger("score").info("signed")
        assert not telemetry.flush(0.5)
        assert "no identity here" in caplog.text
        credential.broken = False
        assert telemetry.flush(30)
    assert len(endpoint.envelopes) == 1
