"""
A container of a storage account, read: listed by the page, fetched many blobs at a time.

Lists come from azure-storage-blob. Blobs do not: its client spends a
millisecond of the processor on each, which is more than a small blob takes, so
they are fetched through urllib3 with the same key, signature or token. A
transfer that breaks goes on where it broke; a storage account that is busy says
when to come back, and is believed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from scoretrace import layouts, settings
from scoretrace.backoff import Backoff, retry_after
from scoretrace.blobs import AzureBlobs
from scoretrace.connections import is_loopback, said, storage_url
from scoretrace.errors import SettingsError, SourceError
from scoretrace.sources import Found

_VERSION = "2021-12-02"  # of the service, the first with all that is used here
_SCOPE = "https://storage.azure.com/.default"
_HOURS = 6  # that a signature made here is good for
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_ATTEMPTS = 8  # in a row without a byte
_FIRST_ATTEMPTS = 2  # of whom nothing was heard so far: it may well be a name that there is none of
_RENEWALS = 3  # of a signature that was refused before its time
_CHANGES = 5  # of a blob while it is fetched
_PIECE_BYTES = 256 * 1024
_WAY_OUT = (
    "give a URL with a SAS that may read and list, set AZURE_STORAGE_CONNECTION_STRING to the account's connection "
    "string, or sign in as somebody with the role Storage Blob Data Reader"
)


class Fetched(NamedTuple):
    """What a blob was when it was fetched: its size, what changes when it does, and where the file *begins* in it."""

    size: int
    version: str
    begins: int


class Container:
    """
    The containers of an account as a place of blobs, whose names are ``<container>/<blob>``.

    *url* names the account, a container, or a folder in one, and may bring a
    SAS. *credential* is what else may sign: an object of azure-identity, an
    account key, a SAS, or a connection string; without it, the settings storage
    and credential, and the environment's identity.

    Raises:
        SourceError: that is no address of blobs, or the connection string is another account's.
        MissingExtraError: azure-storage-blob is not installed.
    """

    def __init__(self, url: str, credential: Any = None) -> None:
        self.account, names = _split(url)
        self.start = "/".join(names)
        self.shown = "/".join([self.account, *names])
        try:
            self._blobs = _signing(url, self.account, credential)
        except SettingsError as error:
            raise SourceError(f"{self.shown} cannot be read: {error}") from error
        self._signed_until = 0.0
        self._answers = False
        self._renewals = 0
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def entries(self, prefix: str, *, deep: bool) -> tuple[list[str], list[Found]]:
        """
        See `sources.Lister`.

        Raises:
            SourceError: there is no such container, or it may not be listed.
        """
        if not prefix:
            return [name for name in self._containers() if not name.startswith("$")], []
        container, _, inside = prefix.partition("/")
        client = self._service.get_container_client(container)
        begins = f"{inside}/" if inside else None
        folders: list[str] = []
        found: list[Found] = []
        for entry in self._pages(
            lambda: client.list_blobs(begins) if deep else client.walk_blobs(begins, delimiter="/"), prefix
        ):
            name = f"{container}/{entry.name}"
            if name.endswith("/"):
                folders.append(name.rstrip("/"))
            elif name.endswith(layouts.SUFFIXES):
                found.append(_found(name, entry))
        return folders, found

    def one(self, name: str) -> Found | None:
        """The blob *name*; None where there is none."""
        container, _, inside = name.partition("/")
        client = self._service.get_container_client(container)
        if not inside:
            return None
        entries = self._pages(lambda: client.list_blobs(inside), name)
        return next((_found(name, entry) for entry in entries if entry.name == inside), None)

    def fetch(self, found: Found, path: Path, start: int = 0) -> Fetched:
        """
        Put *found*, from the byte *start* on, into the file *path*; what that has already is behind *start*.

        A blob for appending that grows meanwhile is taken as far as it is then;
        another one that changes is begun anew.

        Raises:
            FileNotFoundError: it is gone.
            SourceError: it may not be read.
            OSError: it cannot be had after many attempts, or changes all the time; or the disk is full.
        """
        version, changes, backoff = found.version, 0, Backoff()
        with _opened(path) as file:
            while True:
                at, signed_until = start + file.tell(), self._signed_until
                error: Exception | None = None
                wait = None
                try:
                    headers = {"Range": f"bytes={at}-"} if at else {}
                    if version:
                        headers["If-Match"] = version
                    with self._get(found.name, headers) as reply:
                        status = reply.status
                        if status == 200 and at:  # all of it, and not what is behind
                            file.truncate(0)
                            start = 0
                        if status in {200, 206}:
                            version = reply.headers.get("ETag", version)  # for what is left, where this breaks
                            for piece in reply.stream(_PIECE_BYTES, decode_content=False):
                                file.write(piece)
                                backoff.succeeded()
                                if self.stopped.is_set():
                                    raise OSError("stopped")
                            return Fetched(start + file.tell(), version, start)
                        if status == 416:  # nothing behind it
                            return Fetched(at, version, start)
                        wait = retry_after(reply.headers)
                except self._errors as problem:
                    error, status = problem, 0
                if status == 404:
                    raise FileNotFoundError(f"{found.name} is gone")
                if status in {401, 403} and not self._refreshed(signed_until):
                    raise SourceError(f"{found.name} may not be read (HTTP {status}): {_WAY_OUT}")
                if status == 412:
                    changes += 1
                    if changes > _CHANGES:
                        raise OSError(f"{found.name} changes all the time")
                    version = ""
                    if not found.appendable:
                        file.truncate(0)
                        file.seek(0)
                        start = 0
                    continue
                if status and status not in _BUSY | {401, 403}:
                    raise OSError(f"{found.name} cannot be had: HTTP {status}")
                backoff.failed(wait)
                if backoff.failures > _ATTEMPTS:
                    raise OSError(f"{found.name} cannot be had: {said(error) if error else f'HTTP {status}'}")
                if self.stopped.wait(backoff.pause):
                    raise OSError("stopped")

    def _containers(self) -> list[str]:
        return [entry.name for entry in self._pages(self._service.list_containers, "")]

    def _pages(self, ask: Any, prefix: str) -> Iterator[Any]:
        """What *ask* lists, page by page, each of which is asked for until it is there."""
        from azure.core.exceptions import AzureError

        backoff, token = Backoff(), None
        while True:
            try:
                pages = ask().by_page(continuation_token=token)
                for page in pages:
                    self._answers = True
                    yield from list(page)
                    token = pages.continuation_token
                    backoff.succeeded()
                return
            except AzureError as error:  # noqa: PERF203 - a page that fails is asked for again
                status = getattr(error, "status_code", None)
                if status is not None and status not in _BUSY:
                    raise SourceError(self._refusal(prefix, status, error)) from error
                response: Any = getattr(error, "response", None)
                backoff.failed(retry_after(response.headers) if response is not None else None)
                if backoff.failures > (_ATTEMPTS if self._answers or response is not None else _FIRST_ATTEMPTS):
                    raise SourceError(f"{self.shown} does not answer: {said(error)}") from error
                time.sleep(backoff.pause)
            except ValueError as error:  # a key that is no base64
                raise SourceError(f"{self.shown} cannot be listed: {said(error)}") from error

    def _refusal(self, prefix: str, status: int, error: Exception) -> str:
        container = prefix.partition("/")[0]
        if status == 404:
            return f"there is no container {container} in {self.account}"
        if status in {401, 403}:
            return f"{self.account}/{container} may not be listed ({said(error)}): {_WAY_OUT}"
        return f"{self.account}/{container} cannot be listed: {said(error)}"

    @property
    def _service(self) -> Any:
        return self._blobs.service

    def _get(self, name: str, headers: dict[str, str]) -> Any:
        with self._lock:
            if time.time() > self._signed_until:
                self._sign()
            query, signed = self._query, self._header
        target = f"{urlsplit(self.account).path}/{quote(name)}{query and '?'}{query}"
        return self._pool.urlopen(
            "GET",
            target,
            headers={"x-ms-version": _VERSION, **signed, **headers},
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
        )

    def _sign(self) -> None:
        """Make what a request is signed with: a SAS, or a token."""
        sas = urlsplit(self._service.url).query
        self._query, self._header, self._signed_until = sas, {}, float("inf")
        credential = self._service.credential
        if sas or credential is None:
            return
        if hasattr(credential, "account_key"):
            from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

            now = datetime.now(timezone.utc)
            self._query = generate_account_sas(
                credential.account_name,
                credential.account_key,
                ResourceTypes(object=True),
                AccountSasPermissions(read=True),
                expiry=now + timedelta(hours=_HOURS),
                start=now - timedelta(minutes=15),  # clocks differ
            )
            self._signed_until = time.time() + _HOURS * 3_000
        else:
            token = credential.get_token(_SCOPE)
            self._header = {"Authorization": f"Bearer {token.token}"}
            self._signed_until = token.expires_on - 300

    def _refreshed(self, refused: float) -> bool:
        """Whether there is, or may be, another signature than the one until *refused*, which was."""
        with self._lock:
            if self._signed_until != refused:  # somebody else saw to it
                return True
            if refused == float("inf") or self._renewals >= _RENEWALS:
                return False
            self._renewals += 1
            self._signed_until = 0.0
            return True

    @cached_property
    def _pool(self) -> Any:
        import urllib3

        options: dict[str, Any] = {"maxsize": 32, "timeout": urllib3.Timeout(connect=10, read=30)}
        parts = urlsplit(self.account)
        proxy = getproxies().get(parts.scheme)
        if proxy and not proxy_bypass(parts.hostname or ""):
            return urllib3.ProxyManager(proxy, **options).connection_from_url(self.account)
        return urllib3.PoolManager(**options).connection_from_url(self.account)

    @cached_property
    def _errors(self) -> tuple[type[Exception], ...]:
        import urllib3
        from azure.core.exceptions import AzureError

        return (urllib3.exceptions.HTTPError, AzureError)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("ab", buffering=0)
    except FileNotFoundError:  # the first of its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)


def _found(name: str, entry: Any) -> Found:
    return Found(
        name,
        int(entry.size),
        _quoted(str(entry.etag)),
        getattr(entry.blob_type, "value", entry.blob_type) == "AppendBlob",
    )


def _quoted(etag: str) -> str:
    return etag if etag.startswith('"') else f'"{etag}"'


def _split(url: str) -> tuple[str, list[str]]:
    """The URL of the account, and the names below it."""
    plain = url.partition("?")[0].rstrip("/")
    parts = urlsplit(plain)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SourceError(
            f"{plain} is no address of blobs: give https://<account>.blob.core.windows.net/<container>, or a folder"
        )
    names = [unquote(part) for part in parts.path.split("/") if part]
    # The emulator's accounts are in the path, everybody else's in the host.
    account = [names.pop(0)] if names and is_loopback(parts.hostname) else []
    return "/".join([f"{parts.scheme}://{parts.netloc}", *account]), names


def _signing(url: str, account: str, credential: Any) -> AzureBlobs:
    sas = url.partition("?")[2]
    if sas:
        return AzureBlobs(f"{account}?{sas}")
    given = settings.resolve({}) if credential is None else None
    if given is not None:
        credential = given.storage if given.storage and _account(given.storage) == account else given.credential
    if not isinstance(credential, str) or not credential or credential == "default":
        if urlsplit(account).scheme == "http":  # a token is only sent over https
            other = f"; the connection string is of {_account(given.storage)}" if given and given.storage else ""
            raise SourceError(f"nothing is known that signs for {url}{other}: {_WAY_OUT}")
        return AzureBlobs(account, credential=credential or "")
    if _is_connection_string(credential):
        if _account(credential) != account:
            raise SourceError(f"the connection string is of {_account(credential)}, and not of {account}")
        return AzureBlobs(credential)
    if "sig=" in credential:
        return AzureBlobs(f"{account}?{credential.lstrip('?')}")
    if given is not None and "=" in credential.rstrip("="):  # how Azure's agents write an identity
        return AzureBlobs(account, credential=credential)
    name = urlsplit(account).path.strip("/") or (urlsplit(account).hostname or "").partition(".")[0]
    return AzureBlobs(f"AccountName={name};AccountKey={credential};BlobEndpoint={account}")


def _is_connection_string(text: str) -> bool:
    fields = text.lower()
    return any(f"{name}=" in fields for name in ("accountkey", "sharedaccesssignature", "usedevelopmentstorage"))


def _account(storage: str) -> str:
    return _split(storage_url(storage))[0]
