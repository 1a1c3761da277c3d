"""
Where bytes live. Names are paths with forward slashes, as in a blob container.

The home folder is a picture of a storage account, so a name here is
``<container>/<blob>`` and can be copied to Azure as it stands.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from scoretrace import forks
from scoretrace.connections import credential, is_loopback, storage_url
from scoretrace.errors import MissingExtraError


class FolderBlobs:
    """Blobs as files below *root*, which is made when the first is written."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def put(self, name: str, data: bytes) -> None:
        """
        Store *data* under *name*: written beside it first, then moved, so that no reader sees a part.

        Raises:
            OSError: the folder cannot be written; nothing is left behind then.
            ValueError: the name would leave the folder.
        """
        path = self.path(name)
        beside = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
        try:
            try:
                beside.write_bytes(data)
            except FileNotFoundError:  # the first of its day
                path.parent.mkdir(parents=True, exist_ok=True)
                beside.write_bytes(data)
            beside.replace(path)
        except OSError:
            with suppress(OSError):
                beside.unlink()
            raise

    def open(self, name: str) -> BinaryIO:
        """Read *name*; raises FileNotFoundError where there is none."""
        return self.path(name).open("rb")

    def path(self, name: str) -> Path:
        """
        The file of *name*.

        Raises:
            ValueError: the name would leave the folder.
        """
        parts = name.split("/")
        if not name or not all(parts) or ".." in parts or "\\" in name or "\0" in name:
            raise ValueError(f"not a blob name: {name!r}")
        return self.root.joinpath(*parts)


class MemoryBlobs:
    """Blobs in memory, for tests: what `FolderBlobs` is without a folder."""

    def __init__(self) -> None:
        self.root = "memory"
        self._blobs: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Store *data* under *name*."""
        self._blobs[name] = bytes(data)

    def open(self, name: str) -> BinaryIO:
        """Read *name*; raises FileNotFoundError where there is none."""
        if name not in self._blobs:
            raise FileNotFoundError(name)
        return io.BytesIO(self._blobs[name])


# What the service says of a blob of another kind, and of one that takes no more blocks.
_NOT_TO_APPEND = ("InvalidBlobType", "BlockCountExceedsLimit")


class Appendable(NamedTuple):
    """The *size* of a blob, of how many *blocks* it is, and whether it *is_append*, a blob for appending."""

    size: int
    blocks: int
    is_append: bool


class AzureBlobs:
    """
    Blobs of a storage account, or below a container or folder of one.

    *storage* is a connection string, the URL of the account, or a URL with a
    SAS; where it brings no key of its own, *credential* signs (the setting of
    that name), and without one `DefaultAzureCredential` does. The first part of a name is its container,
    unless *storage* names one. Whatever azure-core raises goes through; a call
    takes ten seconds to connect and ten to wait at the most, and is not
    repeated by itself.

    Raises:
        SettingsError: *storage* cannot work.
        MissingExtraError: azure-storage-blob is not installed.
    """

    def __init__(self, storage: str, *, credential: Any = "") -> None:
        self.url = storage_url(storage)
        self._storage = storage.strip()
        self._credential = credential
        parts = urlsplit(self.url)
        path = parts.path.strip("/").split("/") if parts.path.strip("/") else []
        # The emulator's accounts are in the path, everybody else's in the host.
        account = [path.pop(0)] if path and is_loopback(parts.hostname or "") else []
        self._account_url = "/".join([f"{parts.scheme}://{parts.netloc}", *account])
        self._base = [unquote(part) for part in path]
        self._containers: set[str] = set()
        self._client: Any = None
        self._client_of = 0

    def put(self, name: str, data: bytes) -> None:
        """Store *data* under *name*, if there is nothing yet: a blob is what its name says, so it is never changed."""
        blob = self._blob(name, create=True)
        from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

        try:
            blob.upload_blob(data, overwrite=False)
        except ResourceExistsError:
            pass
        except ResourceNotFoundError:
            self._containers.clear()  # somebody removed it; the next attempt makes it anew
            raise

    def open(self, name: str) -> BinaryIO:
        """Read *name*; raises FileNotFoundError where there is none."""
        blob = self._blob(name)
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return io.BytesIO(blob.download_blob().readall())
        except ResourceNotFoundError as error:
            raise FileNotFoundError(f"there is no {self.address(name)}") from error

    def size(self, name: str) -> int | None:
        """How many bytes *name* has; None where there is no such blob."""
        blob = self._blob(name)
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return int(blob.get_blob_properties().size)
        except ResourceNotFoundError:
            return None

    def append(self, name: str, data: bytes, at: int) -> int:
        """
        Append *data* (at most 4 MiB) to the append blob *name*, whose size must be *at*; returns its size then.

        Where it is another size nothing is appended, and that size is returned:
        what was appended before its answer was lost is not appended again.
        Raises FileExistsError where it is another kind of blob, or is full.
        """
        return at + len(data) if self.extend(name, data, at) else self.size(name) or 0

    def extend(self, name: str, data: bytes, at: int) -> bool:
        """
        Append *data* (at most 100 MiB) to the append blob *name* if its size is *at*; says whether it was.

        Many may do so at a time: each append is of one of them. Raises
        FileExistsError where it is another kind of blob, or is full.
        """
        blob = self._blob(name, create=True)
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError

        try:
            if at == 0:
                with suppress(ResourceExistsError, ResourceModifiedError):
                    blob.create_append_blob(match_condition=MatchConditions.IfMissing)
            blob.append_block(data, appendpos_condition=at)
        except HttpResponseError as error:
            if getattr(error, "error_code", "") in _NOT_TO_APPEND:
                raise FileExistsError(f"{self.address(name)} cannot be appended to") from error
            if error.status_code == 404:
                self._containers.clear()  # it may be the container that somebody removed
            elif error.status_code != 412:
                raise
            return False
        return True

    def look(self, name: str) -> Appendable | None:
        """What there is to know of *name* for whoever wants to append to it; None where there is no such blob."""
        blob = self._blob(name)
        from azure.core.exceptions import ResourceNotFoundError

        try:
            found = blob.get_blob_properties()
        except ResourceNotFoundError:
            return None
        is_append = found.blob_type == "AppendBlob"
        return Appendable(int(found.size), found.append_blob_committed_block_count or 0, is_append)

    def read(self, name: str, start: int, count: int) -> bytes:
        """Up to *count* bytes of *name* from *start* on; nothing where there is no such blob, or it ends before."""
        blob = self._blob(name)
        from azure.core.exceptions import HttpResponseError

        if not count:
            return b""
        try:
            return bytes(blob.download_blob(offset=start, length=count).readall())
        except HttpResponseError as error:
            if error.status_code in {404, 416}:
                return b""
            raise

    def address(self, name: str) -> str:
        """The URL of *name*, without any secret."""
        return f"{self.url}/{quote(name)}"

    @property
    def service(self) -> Any:
        """The client of the account, of azure-storage-blob."""
        if self._client_of != os.getpid():  # a forked child must not speak through its parent's connections
            with forks.still():
                self._client, self._client_of = self._connect(), os.getpid()
        return self._client

    def _connect(self) -> Any:
        try:
            from azure.storage.blob import BlobServiceClient
        except ImportError as error:
            raise MissingExtraError("storage in Azure", "azure", package="azure-storage-blob") from error
        options: dict[str, Any] = {"retry_total": 0, "connection_timeout": 10, "read_timeout": 10}
        if "://" not in self._storage.partition("=")[0]:
            return BlobServiceClient.from_connection_string(self._storage, **options)
        _, question, sas = self._storage.partition("?")
        if question:
            return BlobServiceClient(f"{self._account_url}?{sas}", **options)
        signed = credential(self._credential) or credential("default")
        return BlobServiceClient(self._account_url, credential=signed, **options)

    def _blob(self, name: str, *, create: bool = False) -> Any:
        # First of all: it imports what the callers import next, while a fork has to wait.
        service = self.service
        container, *rest = [*self._base, *name.split("/")]
        if create and container not in self._containers:
            self._make(container)
        return service.get_blob_client(container, "/".join(rest))

    def _make(self, container: str) -> None:
        from azure.core.exceptions import HttpResponseError, ResourceExistsError

        try:
            self.service.create_container(container)
        except ResourceExistsError:
            pass
        except HttpResponseError as error:
            if error.status_code != 403:  # a SAS of one container may not make any, and need not
                raise
        self._containers.add(container)
