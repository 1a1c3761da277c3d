"""
`Collector`: rows as CloudEvents in JSON lines, as the data collector of Azure ML's endpoints lands them.

A drop-in for the class of azureml-ai-monitoring 1.0.0, which hands rows to a
container beside the script and loses them where that is busy, slow or absent.
The lines are those that Azure ML documents (how-to-collect-production-data) and
that its model monitoring reads: ``<root>/<yyyy>/<MM>/<dd>/<HH>/<id>.jsonl``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

import scoretrace
from scoretrace import process
from scoretrace.blobs import AzureBlobs, FolderBlobs
from scoretrace.capture.values import as_json, as_text, clean
from scoretrace.collect import correlation, tabular
from scoretrace.collect.sink import Series, Sink, day, sink
from scoretrace.collect.tabular import Table
from scoretrace.collect.tally import Tally
from scoretrace.errors import CollectionError, MissingExtraError, SettingsError
from scoretrace.setting_values import path_part
from scoretrace.settings import Settings

ROOT = "modeldata/modelDataCollector"
LARGEST = 4 * 1024**2  # bytes of data in a line; more is by reference, as the documentation says
_YEAR_5138 = 100_000_000_000  # in seconds; a larger number is in milliseconds
_PLAIN = (str, int, float, bool, type(None))


class CorrelationContext:
    """What joins the rows of several collections; see `BasicCorrelationContext`."""

    def get_id(self) -> str:
        """The correlation id."""
        return ""

    def get_timestamp(self) -> int:
        """When it was, in seconds since 1970."""
        return int(time.time())

    def get_headers(self) -> dict[str, str]:
        """What else is to be written with the rows."""
        return {}

    def __str__(self) -> str:
        return self.get_id()


class BasicCorrelationContext(CorrelationContext):
    """
    The context of a scoring: hand it to each collector that collects for it.

    *id* is a random UUID if it is not given, *timestamp* now, in seconds since
    1970. *headers* become further attributes of the event.
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - its name in azureml-ai-monitoring
        timestamp: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.id = id or str(uuid.uuid4())
        self.timestamp = timestamp or int(time.time())
        self.headers = dict(headers or {})

    def get_id(self) -> str:
        """The correlation id."""
        return self.id

    def get_timestamp(self) -> int:
        """When it was, in seconds since 1970."""
        return self.timestamp

    def get_headers(self) -> dict[str, str]:
        """What else is to be written with the rows."""
        return self.headers


class _Bound(NamedTuple):
    """A collector for the settings of the moment: *head* and *tail* of an event are the same each time."""

    sink: Sink
    folder: str
    source: str
    instance: str
    version: str
    azure: AzureBlobs | None


class Collector:
    """
    Collects frames under *name*, ``model_inputs`` and ``model_outputs`` for Azure ML's model monitoring.

    They go to ``modeldata/modelDataCollector/<endpoint>/<deployment>/<name>/<yyyy>/<MM>/<dd>/<HH>/<instance>.jsonl``
    below the home, and to the same path in storage where that is configured.
    *endpoint* is the setting `service` where it is not given, and *deployment*
    "default". *on_error* is called with the `CollectionError` of data that is refused, and
    may raise it; without it, nothing is ever raised into `run`.

    Raises:
        SettingsError: *name* is empty or no text.
    """

    def __init__(
        self,
        *,
        name: str,
        on_error: Callable[[CollectionError], object] | None = None,
        endpoint: str | None = None,
        deployment: str = "default",
    ) -> None:
        if not isinstance(name, str) or not name.strip():
            raise SettingsError("name is no text: it names what is collected, model_inputs for instance")
        self.name = name
        self._endpoint = endpoint
        self._deployment = deployment
        self._tally = Tally(f"collection {name}", on_error)
        self._bound = self._bind()

    def __repr__(self) -> str:
        return f"<Collector {self._bound.folder}>"

    def collect(self, data: Any, correlation_context: CorrelationContext | None = None) -> CorrelationContext:
        """
        Write *data* to disk, as one event: a frame of pandas or polars, or what else `ModelDataCollector` takes.

        Returns the context, a new one where none is given, for other
        collections of the same scoring. More than 4 MB of JSON are a file beside
        the line, which names it in ``dataref``.
        """
        context = correlation_context or BasicCorrelationContext()
        if not hasattr(context, "get_id"):  # its id, most likely
            context = BasicCorrelationContext(as_text(context))
        try:
            bound = self._bound
            if process.current() is not self._seen:
                bound = self._bound = self._bind()
            if bound.sink.is_on(bound.sink.settings.service):
                self._collect(bound, data, context)
        except CollectionError as error:
            self._tally.refused(error)
        except Exception as error:  # noqa: BLE001 - collecting must not break score.py
            self._tally.refused(CollectionError("error", f"{type(error).__name__}: {as_text(error)}"))
        return context

    def flush(self, timeout: float | None = 5.0) -> bool:
        """Deliver what was collected; see `ModelDataCollector.flush`."""
        return self._bound.sink.flush(timeout)

    def stats(self) -> dict[str, Any]:
        """What happened since the start of this process; see `ModelDataCollector.stats`."""
        return {**self._tally.stats(), **self._bound.sink.stats()}

    def _bind(self) -> _Bound:
        self._seen = process.current()
        target = sink()
        settings = target.settings
        endpoint = as_text(self._endpoint or settings.service)
        deployment = as_text(self._deployment)
        subscription, group, workspace = settings.workspace.split("/")
        source = (
            f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
            f"/workspaces/{workspace}/onlineEndpoints/{endpoint}/deployments/{deployment}"
        )
        folder = "/".join((ROOT, path_part(endpoint), path_part(deployment), path_part(self.name)))
        return _Bound(
            target, folder, source, path_part(settings.instance), settings.model_version, _delivered_to(settings)
        )

    def _collect(self, bound: _Bound, data: Any, context: CorrelationContext) -> None:
        table = tabular.table(data)
        if not table.rows:
            self._tally.collected(0)
            return
        now = time.time()
        folder = f"{bound.folder}/{day(now)}/{time.strftime('%H', time.gmtime(now))}"
        event_id = str(uuid.uuid4())
        body = _rows(table)
        request_id, operation_id = correlation.place()
        context_id = clean(as_text(context.get_id()))
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": event_id,
            "source": bound.source,
            "type": f"azureml.inference.{self.name}",
            "datacontenttype": "application/json",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_seconds(context.get_timestamp()))),
        }
        if len(body) > LARGEST:
            # The monitoring knows a reference by this name, and takes a line without data for one that has none.
            event |= {"dataref": self._put(bound, f"{folder}/{event_id}.json", body), "datainblob": "true"}
        else:
            event["data"] = msgspec.Raw(body)
        event |= {
            "correlationid": context_id,
            "xrequestid": context_id if request_id == correlation.NO_ID else request_id,
            "modelversion": bound.version,
            "collectdatatype": "pandas.core.frame.DataFrame",
            "agent": f"scoretrace/{scoretrace.__version__}",
            "contentrange": f"bytes 0-{len(body) - 1}/{len(body)}",
        }
        if operation_id:
            event["operationid"] = operation_id
        for name, value in context.get_headers().items():
            event.setdefault(as_text(name).lower(), as_text(value))
        line = msgspec.json.encode(event) + b"\n"
        bound.sink.append(Series(folder, bound.instance, ".jsonl"), line, len(table.rows))
        self._tally.collected(len(table.rows))

    def _put(self, bound: _Bound, name: str, body: bytes) -> str:
        """Store what is too large for a line beside it; returns its address: in storage where it goes there."""
        FolderBlobs(bound.sink.settings.home).put(name, body)
        return name if bound.azure is None else bound.azure.address(name)


def _seconds(when: Any) -> float:
    """*when* in seconds since 1970, also where it is a datetime or in milliseconds; now where it is neither."""
    try:
        seconds = float(when.timestamp() if hasattr(when, "timestamp") else when)
        seconds = seconds / 1000 if seconds > _YEAR_5138 else seconds
        time.gmtime(seconds)
    except (TypeError, ValueError, OverflowError, OSError):
        return time.time()
    return seconds


def _delivered_to(settings: Settings) -> AzureBlobs | None:
    storage = settings.model_data_storage or settings.storage
    if storage:
        with suppress(MissingExtraError):
            return AzureBlobs(storage, credential=settings.credential)
    return None


def _rows(table: Table) -> bytes:
    """The rows as a JSON array of objects; what is not there is null."""
    names = tabular.unique(table.names or tabular.default_names(len(table.rows[0])))
    rows = table.rows if table.is_numeric else [[_value(value) for value in row] for row in table.rows]
    return msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows])


def _value(value: Any) -> Any:
    """*value* as JSON has it; times are ISO 8601."""
    if type(value) is str:
        return clean(value)
    if type(value) in _PLAIN:
        return value
    tabular.refuse_media(value)
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    if isinstance(value, (list, dict, tuple, set, frozenset)) or hasattr(value, "tolist"):
        return msgspec.Raw(as_json(value).encode())
    return as_text(value)
