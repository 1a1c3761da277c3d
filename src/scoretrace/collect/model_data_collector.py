"""
`ModelDataCollector`: what goes into a model and what comes out, as CSV at the path that Azure ML documents.

A drop-in for the class of azureml-monitoring 0.1.0a21, whose native library no
longer loads. The signature, the correlation columns and the path are its own; a
row is on disk when `collect` returns, instead of in a queue of 200.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from scoretrace import process, ticks
from scoretrace.capture.values import as_text
from scoretrace.collect import correlated, correlation, csv_rows, tabular
from scoretrace.collect.correlated import (
    BOUNDARY,
    CORRELATION_ID,
    HEADERS,
    MODEL_NAME,
    MODEL_VERSION,
    OPERATION_ID,
    REQUEST_ID,
    SERVICE_NAME,
    TIMESTAMP,
    WORKSPACE,
)
from scoretrace.collect.origin import Origin, origin
from scoretrace.collect.sink import Series, Sink, day, sink
from scoretrace.collect.tabular import Table
from scoretrace.collect.tally import Tally
from scoretrace.errors import CollectionError, SettingsError
from scoretrace.setting_values import path_part
from scoretrace.settings import Settings

DESIGNATIONS = ("inputs", "predictions", "labels", "signals", "general")
_RESERVED = (*HEADERS, OPERATION_ID)
_MOST_HEADERS = 1_000
_NAMED = ("signals", "general")  # designations whose file the collection names

_log = logging.getLogger("scoretrace")


class _Bound(NamedTuple):
    """
    A collector for the settings of the moment.

    *folder* is the designation's, *values* are what HEADERS says between
    timestamp and request id, and *line* is how CSV has them.
    """

    sink: Sink
    origin: Origin
    folder: str
    stem: str
    values: tuple[Any, ...]
    line: bytes


class ModelDataCollector:
    """
    Collects rows of *model_name*: its inputs, its predictions, or what else *designation* says.

    They go to ``modeldata/<workspace>/<webservice>/<model>/<version>/<designation>/<yyyy>/<MM>/<dd>/data.csv``
    below the home, where workspace stands for three folders (subscription,
    resource group and name), and to the same path in storage where that is
    configured. The setting `model_data_file` gives the files another name. Rows with other columns
    than the file of the day has begin ``data_1.csv``.

    *feature_names* are the columns of data that has none of its own. *workspace*
    is subscription, resource group and name with slashes between them;
    it, *webservice_name* and *model_version* come from the environment or the
    server's ``model_config_map.json`` where they are not given. *designation* is
    one of inputs, predictions, labels, signals and general; another one is kept,
    as its folder. *collection_name* names the file of signals and general.
    *identifier* is the older name of *designation*.

    An array or list of one dimension is one row, as documented; with
    *per_prediction*, and where one feature is named, it is a row for each of its
    values. *on_error* is
    called with the `CollectionError` of data that is refused, and may raise it;
    without it the first one is a warning and all are counted.

    Raises:
        SettingsError: a name is empty or no text, or *workspace* has not three parts.
    """

    AML_DC_CORRELATION_HEADER = CORRELATION_ID
    AML_DC_SCORING_TIMESTAMP_HEADER = TIMESTAMP
    AML_DC_BOUNDARY_HEADER = BOUNDARY
    AML_WORKSPACE_HEADER = WORKSPACE
    AML_SERVICE_NAME_HEADER = SERVICE_NAME
    AML_MODEL_NAME_HEADER = MODEL_NAME
    AML_MODEL_VERSION_HEADER = MODEL_VERSION
    AML_REQUEST_ID_HEADER = REQUEST_ID

    def __init__(
        self,
        model_name: str,
        designation: str = "default",
        feature_names: Iterable[str] | None = None,
        workspace: str = "default/default/default",
        webservice_name: str = "default",
        model_version: str = "default",
        collection_name: str = "default",
        *,
        identifier: str | None = None,
        per_prediction: bool = False,
        on_error: Callable[[CollectionError], object] | None = None,
    ) -> None:
        if not isinstance(model_name, str) or not model_name.strip():
            raise SettingsError("model_name is no text: it names the model that data is collected for")
        self.model_name = model_name
        self.designation = _designation(designation if identifier is None else identifier)
        if isinstance(feature_names, str):
            raise SettingsError("feature_names is text: give a list of names")
        try:
            self.feature_names = None if feature_names is None else [as_text(name) for name in feature_names]
        except TypeError:
            raise SettingsError(f"feature_names is {feature_names!r:.80}: give a list of names") from None
        self.per_prediction = per_prediction
        self._collection = collection_name
        self._given = {"workspace": workspace, "service": webservice_name, "version": model_version}
        self._headers: dict[tuple[str, ...] | int, bytes] = {}
        self._tally = Tally(f"{self.designation} of {model_name}", on_error)
        self._bound = self._bind()

    def __repr__(self) -> str:
        return f"<ModelDataCollector {self._bound.folder}>"

    def collect(self, input_data: Any, user_correlation_id: str | Mapping[str, Any] = "") -> dict[str, Any] | None:
        """
        Write *input_data* to disk: one row, or as many as it has.

        It is a numpy array, a frame of pandas, polars or pyspark, a list of values
        or of rows, or a dictionary. Inputs and what is predicted from them have the
        same correlation id, a UUID after *user_correlation_id* and a dash; where
        there are several rows each has its number behind it, ``<id>_0``, as Azure
        ML's own monitoring numbers them. What another `collect` returned may stand
        for *user_correlation_id*: its ids are taken then. The request and the operation are the
        current ones.

        Returns the eight correlation headers with the values of this call, or
        None where nothing was collected: collection is switched off, there are no
        rows, or they are refused. Raises nothing but what *on_error* raises.
        """
        try:
            bound = self._bound
            if process.current() is not self._seen:
                bound = self._bound = self._bind()
            if not bound.sink.is_on(bound.origin.service):
                return None
            return self._collect(bound, input_data, user_correlation_id)
        except CollectionError as error:
            refused = error
        except Exception as error:  # noqa: BLE001 - collecting must not break score.py
            refused = CollectionError("error", f"{type(error).__name__}: {as_text(error)}")
        self._end_scoring()
        self._tally.refused(refused)
        return None

    def _end_scoring(self) -> None:
        """What is predicted next is not predicted from the inputs before these, which were not collected."""
        if self.designation == correlation.INPUTS:
            correlation.end(self._bound.origin.folder)

    def add_correlations(self, input_data: Any, correlations: Mapping[str, Any] | None) -> Any:
        """
        *input_data* with the values of *correlations*, which a `collect` returned, behind each row.

        A frame gets eight more columns, a list or an array eight more values; as in
        azureml-monitoring, an array of one dimension comes back as one row. What
        `collect` is then given carries those ids, whatever is current. Data that is
        none of these comes back as it is.
        """
        if not correlations:
            return input_data
        if not isinstance(correlations, Mapping):
            self._tally.refused(
                CollectionError("error", "correlations are no dictionary: give what collect() returned")
            )
            return input_data
        try:
            return correlated.add(input_data, correlations, per_prediction=self._is_column(input_data))
        except Exception as error:  # noqa: BLE001 - as in `collect`
            self._tally.refused(CollectionError("error", f"no correlations could be added: {as_text(error)}"))
            return input_data

    def flush(self, timeout: float | None = 5.0) -> bool:
        """
        Deliver what was collected to storage; says whether nothing waits any more.

        *timeout* is in seconds, None for as long as it takes. Without storage,
        or where `scoretrace export` delivers, there is nothing to wait for but a
        disk that refused rows.
        """
        return self._bound.sink.flush(timeout)

    def stats(self) -> dict[str, Any]:
        """
        What happened since the start of this process.

        ``calls`` of `collect` and ``rows`` they took, and how many calls were
        ``refused``, by reason: media, ragged, feature_names, type, error. For all
        collectors of the process: rows ``buffered`` in memory because the disk
        refuses, rows ``lost`` by reason, ``delivered_bytes``, ``waiting_bytes`` that
        are still to be delivered, and how many rows too large for storage are
        ``not_delivered``.
        """
        return {**self._tally.stats(), **self._bound.sink.stats()}

    def _bind(self) -> _Bound:
        self._seen = process.current()
        target = sink()
        settings = target.settings
        whose = origin(settings, model=self.model_name, **self._given)
        values = (settings.model_data_boundary, whose.workspace, whose.service, whose.model, whose.version)
        folder = f"modeldata/{whose.folder}/{path_part(self.designation)}"
        stem = _stem(settings, self.designation, self.model_name, self._collection)
        return _Bound(target, whose, folder, stem, values, csv_rows.line(values))

    def _collect(self, bound: _Bound, data: Any, user_id: Any) -> dict[str, Any] | None:
        if isinstance(user_id, Mapping):  # what a `collect` returned
            if user_id.get(correlated.CORRELATION_ID):
                data = correlated.add(data, user_id, per_prediction=self._is_column(data))
            user_id = ""
        table = tabular.table(data, per_prediction=self._is_column(data))
        count = len(table.rows)
        if not count or not table.rows[0]:
            self._end_scoring()
            self._tally.collected(0)
            return None
        carried = correlated.take(table)
        if carried is not None:
            table = carried.table
        header = self._header(table)
        rows = csv_rows.lines(table)
        now = ticks.now()
        stamp = ticks.to_iso(now)[:26]
        request_id, operation_id = correlation.place()
        operation = operation_id or None
        if carried is None:
            user_id = user_id if type(user_id) is str else as_text(user_id)
            call_id = correlation.correlation_id(bound.origin.folder, self.designation, user_id)
            values = (call_id, stamp, *bound.values, request_id)
            data = _lines(rows, call_id, stamp.encode() + b"," + bound.line, csv_rows.line((request_id, operation)))
        else:
            own = (None, stamp, *bound.values, request_id)
            filled = [_filled(row, own) for row in carried.correlations]
            values = (csv_rows.call_of(filled[0][0]) if count > 1 else filled[0][0], *filled[0][1:])
            if self.designation == correlation.INPUTS:
                correlation.begin(bound.origin.folder, as_text(values[0]))
            data = b"".join(
                b"%b,%b\n" % (row, csv_rows.line((*one, operation))) for row, one in zip(rows, filled, strict=True)
            )
        series = Series(f"{bound.folder}/{day(now / ticks.SECOND)}", bound.stem, ".csv", header, quoted=True)
        bound.sink.append(series, data, count)
        self._tally.collected(count)
        return dict(zip(HEADERS, values, strict=True))

    def _is_column(self, data: Any) -> bool:
        """
        Whether *data* of one dimension is a column.

        It is where one feature is named, too: what a model predicted for several
        rows would be refused as a row.
        """
        if self.per_prediction or self.feature_names is None or len(self.feature_names) != 1:
            return self.per_prediction
        return correlated.CORRELATION_ID not in getattr(data, "columns", ()) and not correlated.is_row(data)

    def _header(self, table: Table) -> bytes:
        """
        The first line of the file that *table* goes to.

        Raises:
            CollectionError: `feature_names` are not as many as its columns.
        """
        width = len(table.rows[0])
        key = width if table.names is None else tuple(table.names)
        found = self._headers.get(key)
        if found is None:
            names = table.names or self.feature_names or tabular.default_names(width)
            if len(names) != width:
                hint = "; per_prediction=True makes a row of each value" if len(table.rows) == 1 else ""
                raise CollectionError(
                    "feature_names", f"there are {len(names)} feature_names for a row of {width} values{hint}"
                )
            if len(self._headers) >= _MOST_HEADERS:
                self._headers.clear()
            found = self._headers[key] = csv_rows.header((*tabular.unique(names, _RESERVED), *_RESERVED))
        return found


def _designation(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise SettingsError("designation is no text: it names what is collected, inputs or predictions for instance")
    if name == "default":
        return "general"
    if name not in DESIGNATIONS:
        _log.warning(
            "%s is none of the documented designations (%s): it is kept as it is", name, ", ".join(DESIGNATIONS)
        )
    return name


def _stem(settings: Settings, designation: str, model: str, collection: Any) -> str:
    """The name of the files without their ending."""
    pattern = settings.model_data_file.removesuffix(".csv")
    collection = as_text(collection)
    if designation in _NAMED and collection != "default" and "{collection}" not in pattern:
        return path_part(collection)
    names = {"designation": designation, "model": model, "collection": collection}
    return path_part(pattern.format(**{name: path_part(value) for name, value in names.items()}))


def _lines(rows: list[bytes], call_id: str, between: bytes, after: bytes) -> bytes:
    """*rows* with their correlations behind them."""
    quoted = csv_rows.line((call_id,))
    if len(rows) == 1:
        return b"%b,%b,%b,%b\n" % (rows[0], quoted, between, after)
    # The number is inside the quotes, where there are any.
    end = b'"' if quoted.endswith(b'"') else b""
    return csv_rows.joined(rows, b",%b_" % quoted.removesuffix(end), b"%b,%b,%b\n" % (end, between, after))


def _filled(given: list[Any], own: tuple[Any, ...]) -> list[Any]:
    return [instead if value is None else value for value, instead in zip(given, own, strict=True)]
