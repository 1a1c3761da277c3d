"""
Where the originals go of what is too large for Application Insights.

A payload is put below the home at once, because a call must not wait for a
network. Where storage is configured its address is already the one it will have
there; whatever delivers the row uploads it first.
"""

from __future__ import annotations

import re
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from scoretrace.blobs import AzureBlobs, FolderBlobs
from scoretrace.connections import said
from scoretrace.settings import Settings

_NAMED = re.compile(rb'"payload_uri":"([^"\\]+)"')
_AT_ONCE = 4  # uploads
_WAIT_SECONDS, _WAIT_SECONDS_MOST = 0.5, 60.0  # after the first and the later failures
_REMEMBERED = 10_000  # names of payloads that are known to be stored


class Overflow:
    """Puts payloads below *folder* (``modeldata/<sub>/<rg>/.../<version>``) of *home*, on their way to *azure*."""

    def __init__(self, home: Path, folder: str, azure: AzureBlobs | None = None) -> None:
        self.local = FolderBlobs(home)
        self.folder = folder
        self.azure = azure
        self.counts: Counter[str] = Counter()
        self._stored: OrderedDict[str, None] = OrderedDict()
        self._reason = ""
        self._wait = 0.0
        self._retry_at = float("-inf")

    def put(self, sha256: str, data: bytes) -> str:
        """Store *data* on this machine, and return the address that its row carries. Raises OSError."""
        name = f"{self.folder}/overflow/{time.strftime('%Y/%m/%d', time.gmtime())}/{sha256}.json"
        self.local.put(name, data)
        return name if self.azure is None else self.azure.address(name)

    def named_in(self, text: bytes) -> list[str]:
        """The payloads that rows in *text* point at and that have to be in storage first."""
        if self.azure is None:
            return []
        # Also those of rows that were written before there was storage: readers find them below it by their path.
        prefixes = (f"{self.azure.url}/modeldata/", "modeldata/")
        found = (address.decode("utf-8", "replace") for address in _NAMED.findall(text))
        return [name_of(address) for address in found if address.startswith(prefixes)]

    def store(self, names: Iterable[str]) -> str:
        """
        Upload payloads that are not there yet; returns why that cannot be now, or nothing. Never raises.

        After a failure it is not tried again for a while, longer each time, so
        that storage that does not answer holds up nothing else.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self._stored]
        if not missing:
            return ""
        if time.monotonic() < self._retry_at:
            return self._reason
        # One goes ahead: where it fails, the others would, and each might take its ten seconds.
        self._reason = self._upload(missing[0]) or self._upload_all(missing[1:])
        if self._reason:
            self._wait = min(max(self._wait * 2, _WAIT_SECONDS), _WAIT_SECONDS_MOST)
            self._retry_at = time.monotonic() + self._wait
        else:
            self._wait = 0.0
        while len(self._stored) > _REMEMBERED:
            self._stored.popitem(last=False)
        return self._reason

    def hurry(self) -> None:
        """Do not wait for the next attempt."""
        self._retry_at = float("-inf")

    def _upload_all(self, names: list[str]) -> str:
        if not names:
            return ""
        from concurrent.futures import ThreadPoolExecutor  # here, because most processes only log

        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                reasons = list(pool.map(self._upload, names))
        except RuntimeError:  # the interpreter ends, and takes no new threads
            reasons = [self._upload(name) for name in names]
        return next(filter(None, reasons), "")

    def _upload(self, name: str) -> str:
        azure = self.azure
        if azure is None:
            return ""
        try:
            try:
                with self.local.open(name) as file:
                    data = file.read()
            except FileNotFoundError:
                if azure.size(name) is None:  # nobody has it any more; its row can still be read
                    self.counts["payloads_missing"] += 1
            else:
                azure.put(name, data)
                self.counts["payloads_stored"] += 1
        except Exception as error:  # noqa: BLE001 - azure-core, requests and credentials raise what they like
            return said(error)
        self._stored[name] = None
        return ""


def overflow_of(settings: Settings) -> Overflow:
    """Where the originals go of what is too large; their addresses are in storage if something uploads them there."""
    uploads = settings.ingestion is not None or "blob_export" in settings.exporter
    azure = None
    if settings.storage and uploads:
        azure = AzureBlobs(settings.storage, credential=settings.credential)
    return Overflow(settings.home, f"modeldata/{settings.model_folder}", azure)


def name_of(address: str) -> str:
    """
    The name below a home of the payload at *address*, which is that name or a URL.

    >>> name_of("https://team.blob.core.windows.net/modeldata/a/overflow/b%20c.json")
    'modeldata/a/overflow/b c.json'
    """
    if "://" not in address:
        return address
    return f"modeldata/{unquote(address.partition('/modeldata/')[2])}"
