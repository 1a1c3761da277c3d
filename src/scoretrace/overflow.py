"""
Where the originals go of what is too large for Application Insights.

A payload is put below the home at once, because a call must not wait for a
network. Where storage is configured its address is already the one it will have
there; whatever delivers the row uploads it first.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock, Thread
from urllib.parse import unquote

from scoretrace import forks
from scoretrace.backoff import Backoff
from scoretrace.blobs import AzureBlobs, FolderBlobs, MemoryBlobs
from scoretrace.connections import said
from scoretrace.settings import Settings

_log = logging.getLogger("scoretrace")
_NAMED = re.compile(rb'"(?:payload_uri|dataref)":"([^"\\]+)"')  # in telemetry, in collected data
_AT_ONCE = 4  # uploads
_REFUSALS = frozenset({400, 409, 411, 412, 413, 416})  # HTTP answers that mean one blob, and not the account
_REMEMBERED = 10_000  # names of payloads that are known to be stored


class Overflow:
    """Puts payloads below *folder* (``modeldata/<sub>/<rg>/.../<version>``) of *local*, on their way to *azure*."""

    def __init__(self, local: FolderBlobs | MemoryBlobs, folder: str, azure: AzureBlobs | None = None) -> None:
        self.local = local
        self.folder = folder
        self.azure = azure
        self.counts: Counter[str] = Counter()
        self._stored: OrderedDict[str, None] = OrderedDict()
        self._reason = ""
        self._backoff = Backoff()
        self.after_fork()
        forks.tell(self)

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
        with self._lock:
            missing = [name for name in dict.fromkeys(names) if name not in self._stored]
            if not missing:
                return ""
            if self._backoff.pause:
                return self._reason
            # One goes ahead: where it fails the others would, and each might take its ten seconds.
            self._reason = self._upload(missing[0]) or self._upload_all(missing[1:])
            if self._reason:
                self._backoff.failed()
            else:
                self._backoff.succeeded()
            while len(self._stored) > _REMEMBERED:
                self._stored.popitem(last=False)
            return self._reason

    def hurry(self) -> None:
        """Do not wait for the next attempt."""
        self._backoff.hurry()

    def after_fork(self) -> None:
        """Another thread of the parent's may have held the lock."""
        self._lock = Lock()

    def _upload_all(self, names: list[str]) -> str:
        """Upload several at once, until one cannot be."""
        todo, reasons = deque(names), [""]

        def work() -> None:
            with suppress(IndexError):
                while not any(reasons):
                    reasons.append(self._upload(todo.popleft()))

        # Daemons: the interpreter must not wait at its end for storage that hangs.
        threads = [
            Thread(target=work, name="scoretrace-overflow", daemon=True) for _ in range(min(_AT_ONCE, len(names)) - 1)
        ]
        with suppress(RuntimeError):  # it takes no new ones at its end
            for thread in threads:
                thread.start()
        work()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        return next(filter(None, reasons), "")

    def _upload(self, name: str) -> str:
        azure = self.azure
        if azure is None:
            return ""
        data = None
        # Gone, or never ours: somebody else's dimension of that name.
        with suppress(OSError, ValueError), self.local.open(name) as file:
            data = file.read()
        try:
            if data is not None:
                azure.put(name, data)
            elif azure.size(name) is None:
                self._give_up("missing", f"{name} is neither in {self.local.root} nor in storage")
        except Exception as error:  # noqa: BLE001 - azure-core, requests and credentials raise what they like
            if getattr(error, "status_code", 0) not in _REFUSALS:
                return said(error)
            # Storage answers, and will not take this one: its row goes out, the original stays here.
            self._give_up("refused", f"{name} stays in {self.local.root}: {said(error)}")
        self._stored[name] = None
        return ""

    def _give_up(self, why: str, message: str) -> None:
        """Count an original that will not be in storage, by reason, and say so the first time."""
        self.counts[why] += 1
        if self.counts[why] == 1:
            _log.warning("an original is not stored: %s (further ones are only counted)", message)


def overflow_of(settings: Settings, *, uploads: bool = False) -> Overflow:
    """Where the originals go of what is too large; their addresses are in storage if something uploads them there."""
    uploads = uploads or settings.ingestion is not None or "blob_export" in settings.exporter
    azure = None
    if settings.storage and uploads:
        azure = AzureBlobs(settings.storage, credential=settings.credential)
    return Overflow(FolderBlobs(settings.home), f"modeldata/{settings.model_folder}", azure)


def name_of(address: str) -> str:
    """
    The name below a home of the payload at *address*, which is that name or a URL.

    >>> name_of("https://team.blob.core.windows.net/modeldata/a/overflow/b%20c.json")
    'modeldata/a/overflow/b c.json'
    """
    if "://" not in address:
        return address
    return f"modeldata/{unquote(address.partition('/modeldata/')[2])}"
