"""
Where telemetry and payloads go: what a connection string says.

Both kinds are read here, without any Azure package, so that one that cannot
work is found when it is given and not when the first item is to be sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from scoretrace.errors import MissingExtraError, SettingsError

# Where keys of before connection strings send to: documented default of the Application Insights SDKs.
DEFAULT_ENDPOINT = "https://dc.services.visualstudio.com"
DEFAULT_AUDIENCE = "https://monitor.azure.com/"
# Where `scoretrace serve` listens.
HOST, PORT = "127.0.0.1", 8317
# The account that every Azurite and storage emulator has; its name is documented and no secret.
DEVELOPMENT_URL = "http://127.0.0.1:10000/devstoreaccount1"

KEY = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)  # an instrumentation key
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_QUERY = re.compile(r"\?[^\s'\")>]+")
_WAY_OUT = "copy the whole connection string from the Overview page of the Application Insights resource"
_STORAGE_WAY_OUT = (
    "give the connection string of the account, its URL (https://<account>.blob.core.windows.net), "
    "or the URL with a SAS"
)


class Ingestion(NamedTuple):
    """The resource that telemetry is for: its key, where to send to, and for whom a token must be."""

    i_key: str
    endpoint: str
    audience: str


def ingestion(text: str) -> Ingestion:
    """
    What the connection string of an Application Insights resource says; a bare key (a GUID) is one too.

    >>> ingestion(" instrumentationkey=12345678-1234-1234-1234-123456789ABC ; X=y;").i_key
    '12345678-1234-1234-1234-123456789abc'

    Names may have any letter case, and fields that are not known are passed over.

    Raises:
        SettingsError: it has no key, or an endpoint that is no URL. The message never repeats the string.
    """
    text = text.strip()
    if KEY.fullmatch(text):
        return Ingestion(text.lower(), DEFAULT_ENDPOINT, DEFAULT_AUDIENCE)
    fields, broken = _fields(text)
    key = fields.get("instrumentationkey", "")
    if not key:
        raise SettingsError(f"connection_string has no InstrumentationKey: {_WAY_OUT}")
    if not KEY.fullmatch(key):
        raise SettingsError(f"connection_string has an InstrumentationKey that is not a GUID: {_WAY_OUT}")
    if broken:
        raise SettingsError(f"connection_string has a field without a value, as if it were cut off: {_WAY_OUT}")
    if fields.get("authorization", "ikey").lower() != "ikey":
        raise SettingsError(f"connection_string has an Authorization other than ikey: {_WAY_OUT}")
    endpoint = fields.get("ingestionendpoint")
    if endpoint is None and fields.get("endpointsuffix"):
        location = fields.get("location", "")
        endpoint = f"https://{location and location + '.'}dc.{fields['endpointsuffix']}"
    endpoint = DEFAULT_ENDPOINT if endpoint is None else endpoint
    if not _is_url(endpoint) or "?" in endpoint:
        raise SettingsError(f"connection_string has an IngestionEndpoint that is no URL: {_WAY_OUT}")
    for path in ("/v2.1/track", "/v2/track"):  # what is posted to, and not what a connection string has
        endpoint = endpoint.rstrip("/").removesuffix(path)
    return Ingestion(key.lower(), endpoint.rstrip("/"), fields.get("aadaudience", "") or DEFAULT_AUDIENCE)


def storage_url(text: str, setting: str = "storage") -> str:
    """
    The URL below which blobs lie, without any secret: of the account, or of a container or folder in it.

    *text* is a connection string, or a URL with or without a SAS; *setting* is what messages call it.

    >>> storage_url("AccountName=team;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net")
    'https://team.blob.core.windows.net'
    >>> storage_url("https://team.blob.core.windows.net/models/a?sv=2024&sig=secret")
    'https://team.blob.core.windows.net/models/a'

    Raises:
        SettingsError: it cannot work. The message never repeats it.
    """
    text = text.strip()
    if "://" in text.partition("=")[0]:
        if not _is_url(text):
            raise SettingsError(f"{setting} is no URL of a storage account: {_STORAGE_WAY_OUT}")
        if "?" not in text and urlsplit(text).scheme != "https":
            raise SettingsError(f"{setting} is a URL without a SAS, and with http: a token is only sent over https")
        return text.partition("?")[0].rstrip("/")
    fields, broken = _fields(text)
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        return DEVELOPMENT_URL
    if broken or not fields:
        raise SettingsError(f"{setting} is neither a URL nor a whole connection string: {_STORAGE_WAY_OUT}")
    if not (fields.get("accountkey") or fields.get("sharedaccesssignature")):
        raise SettingsError(f"{setting} has neither an AccountKey nor a SharedAccessSignature: {_STORAGE_WAY_OUT}")
    url = fields.get("blobendpoint")
    if url is None:
        name = fields.get("accountname", "")
        if not _ACCOUNT.fullmatch(name):
            raise SettingsError(f"{setting} has no AccountName, or one that cannot be: {_STORAGE_WAY_OUT}")
        scheme = fields.get("defaultendpointsprotocol", "https")
        url = f"{scheme}://{name}.blob.{fields.get('endpointsuffix', 'core.windows.net')}"
    if not _is_url(url):
        raise SettingsError(f"{setting} has a BlobEndpoint that is no URL: {_STORAGE_WAY_OUT}")
    return url.partition("?")[0].rstrip("/")


def is_loopback(host: str) -> bool:
    """
    Whether *host* is this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("example.org")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    from ipaddress import ip_address  # here, because most processes only log

    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def said(error: BaseException) -> str:
    """
    *error* as a message may say it: what it is, in one line, without the query of any URL, where a SAS would be.

    >>> said(OSError("no route to https://a.example/b?sv=1&sig=secret"))
    'OSError: no route to https://a.example/b'
    """
    status = getattr(error, "status_code", None)
    if status:  # of azure-core, whose text has the whole answer in it
        code = getattr(error, "error_code", None)
        return f"HTTP {status} {getattr(code, 'value', code) or getattr(error, 'reason', None) or ''}".rstrip()
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {_QUERY.sub('', text)[:300]}"


def credential(given: Any) -> Any:
    """The credential that a setting means: the object itself, one of azure-identity, or None."""
    if not isinstance(given, str):
        return given
    if not given:
        return None
    try:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
    except ImportError as error:
        raise MissingExtraError("credential", "azure", package="azure-identity") from error
    client_id = _fields(given)[0].get("clientid")
    return ManagedIdentityCredential(client_id=client_id) if client_id else DefaultAzureCredential()


def is_sign_in(text: str) -> bool:
    """
    Whether *text* asks for a credential of the environment.

    "default", or what Azure's own agents write into their variable:

    >>> is_sign_in("Authorization=AAD; ClientId=7"), is_sign_in("magic")
    (True, False)
    """
    return text.lower() == "default" or _fields(text)[0].get("authorization", "").upper() == "AAD"


def _fields(text: str) -> tuple[Mapping[str, str], bool]:
    """The fields of a connection string by name in lower case, and whether one has no value."""
    pairs = [pair for pair in text.split(";") if pair.strip()]
    # A value may hold "=" itself: a key in base64 ends in it, a SAS is made of them.
    fields = {name.strip().lower(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)}
    return fields, any("=" not in pair for pair in pairs)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        # A name without a dot is somebody's container, which has no certificate; with https it is one that was cut off.
        known = parts.scheme == "http" or "." in host or ":" in host or is_loopback(host)
        whole = bool(host) and known and parts.username is None and not parts.fragment
        return parts.scheme in {"http", "https"} and whole and parts.port != 0 and " " not in text
    except ValueError:
        return False
