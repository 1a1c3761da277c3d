"""
Anything that scripts hand to a collector as rows: arrays, frames, lists, dictionaries.

No library is imported for it: what came from one can only be there if the
script imported it. Speech, images and video are not collected, as the
documentation of azureml-monitoring says; they are refused, and counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from scoretrace.capture.values import as_text
from scoretrace.errors import CollectionError

_EXACT = 7  # decimal exponents up to which rounding by a power of ten is exact
_FEW = 64  # values up to which one at a time is quicker than vectors
_NUMBERS = frozenset({int, float})
_PARTS = "iufb"  # kinds of numpy's numbers and booleans
_MEDIA = frozenset({"PIL", "imageio", "torchaudio", "cv2", "av"})


class Table(NamedTuple):
    """
    *rows* of Python values, all of one length, under *names*, which is None where the data has none.

    *is_numeric* where all values are int, float or None.
    """

    names: list[str] | None
    rows: list[list[Any]]
    is_numeric: bool = False


def table(data: Any, *, per_prediction: bool = False) -> Table:
    """
    *data* as rows.

    An array or list of one dimension is one row, as documented, or with
    *per_prediction* a column: a row for each of its values.

    Raises:
        CollectionError: it is media, or nothing that has rows.
    """
    if isinstance(data, (list, tuple)):
        return _list(data, per_prediction=per_prediction)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(data, (numpy.ndarray, numpy.generic)):
        return _array(data, numpy, per_prediction=per_prediction)
    if isinstance(data, Mapping):
        return _mapping(data)
    if isinstance(data, (str, int, float)):
        return Table(None, [[data]])
    package = type(data).__module__.partition(".")[0]
    refuse_media(data, dimensions=3)
    frame = _frame(data, package, per_prediction=per_prediction)
    if frame is not None:
        return frame
    if numpy is not None and hasattr(data, "__array__"):
        try:
            array = numpy.asarray(data)
        except Exception as error:
            raise CollectionError("type", f"{_kind(data)} gives no array: {as_text(error)}") from error
        return _array(array, numpy, per_prediction=per_prediction)
    raise CollectionError(
        "type", f"{_kind(data)} is not collected: give an array, a frame, a list of rows or a dictionary"
    )


def refuse_media(value: Any, *, dimensions: int = 2) -> None:
    """
    Refuse speech, images and video: bytes, objects of their libraries, arrays of that many *dimensions*.

    Raises:
        CollectionError: *value* is such.
    """
    is_bytes = isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "getbuffer")
    if is_bytes or type(value).__module__.partition(".")[0] in _MEDIA or getattr(value, "ndim", 0) >= dimensions:
        raise CollectionError("media", f"{_kind(value)} is not collected: speech, images and video are no rows")


def _frame(data: Any, package: str, *, per_prediction: bool) -> Table | None:
    """Frames and series, told by where their class is from and what they have."""
    if package == "pyspark" and hasattr(data, "toPandas"):
        data, package = data.toPandas(), "pandas"
    if package == "polars":
        if hasattr(data, "collect"):
            data = data.collect()
        if hasattr(data, "columns"):
            return Table(list(data.columns), [list(row) for row in data.rows()])
        return _list(data.to_list(), per_prediction=per_prediction)
    if package == "pandas" and hasattr(data, "columns"):
        return _pandas(data)
    if package == "pandas" and hasattr(data, "index") and hasattr(data, "tolist"):
        labels = list(data.index)
        if labels and not per_prediction and all(isinstance(label, str) for label in labels):  # a row of a frame
            return Table(labels, [data.tolist()])
        return _list(data.tolist(), per_prediction=per_prediction)
    if package == "pandas" and hasattr(data, "tolist"):  # an array of its own, which numpy would make doubles of
        return _list(data.tolist(), per_prediction=per_prediction)
    if hasattr(data, "column_names") and hasattr(data, "to_pydict"):  # pyarrow
        return _mapping(data.to_pydict())
    if package == "scipy" and hasattr(data, "toarray"):
        return table(data.toarray(), per_prediction=per_prediction)
    return None


def _pandas(frame: Any) -> Table:
    names = [_label(label) for label in frame.columns]
    kinds = {(dtype.kind, dtype.itemsize) for dtype in frame.dtypes if hasattr(dtype, "itemsize")}
    numpy = sys.modules["numpy"]
    if len(kinds) == 1 and all(isinstance(dtype, numpy.dtype) and dtype.kind in _PARTS for dtype in frame.dtypes):
        return _array(frame.to_numpy(), numpy, per_prediction=False)._replace(names=names)
    columns = [_column(frame.iloc[:, at], numpy) for at in range(len(names))]
    return Table(names, [list(row) for row in zip(*columns, strict=True)])


def _column(series: Any, numpy: Any) -> list[Any]:
    is_short = isinstance(series.dtype, numpy.dtype) and series.dtype.kind == "f" and series.dtype.itemsize < 8
    values: list[Any] = (_shortest(series.to_numpy(), numpy) if is_short else series).tolist()
    return values


def _label(label: Any) -> str:
    return "_".join(map(as_text, label)) if isinstance(label, tuple) else as_text(label)


def _array(array: Any, numpy: Any, *, per_prediction: bool) -> Table:
    if array.ndim > 2:
        raise CollectionError("media", f"an array of {array.ndim} dimensions is not collected: it looks like images")
    if array.dtype.names:
        rows = [list(row) for row in numpy.atleast_1d(array).reshape(-1).tolist()]
        return Table(list(array.dtype.names), rows)
    if array.dtype.kind == "V":
        raise CollectionError("media", "an array of bytes is not collected: speech, images and video are no rows")
    if array.ndim < 2:
        array = array.reshape(-1, 1) if per_prediction else array.reshape(1, -1)
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize != 8:
        array = _shortest(array, numpy)
    elif kind == "M":
        array = _times(array, numpy)
    elif kind == "m":
        array = array.astype("timedelta64[us]")
    return Table(None, array.tolist(), is_numeric=kind in _PARTS and kind != "b")


def _times(array: Any, numpy: Any) -> Any:
    """Times that Python has too; as text where they are finer than its microseconds, or beyond its years."""
    coarse = array.astype("datetime64[us]").astype(object)
    is_same = (array.astype("datetime64[us]").astype(array.dtype) == array) | numpy.isnat(array)
    if is_same.all() and not any(isinstance(value, int) for value in coarse.flat):
        return coarse
    return numpy.where(numpy.isnat(array), None, numpy.datetime_as_string(array).astype(object))


def _shortest(array: Any, numpy: Any) -> Any:
    """
    The doubles whose shortest text is the shortest that gives a half or single back.

    0.1 as a single is 0.10000000149011612 as a double, which nobody has written.
    """
    if array.dtype.itemsize > 8:
        return array.astype("f8")
    if array.size <= _FEW:
        values = [float(str(value)) for value in array.reshape(-1)]
        return numpy.array(values, "f8").reshape(array.shape)
    wide = array.astype("f8")
    found, left = wide.copy(), numpy.ones(array.shape, bool)
    with numpy.errstate(all="ignore"):
        exponent = numpy.floor(numpy.log10(numpy.abs(wide)))
        for digits in range(3, 10):  # nine give any single back
            scale = 10.0 ** (digits - 1 - exponent)
            rounded = numpy.rint(wide * scale) / scale
            same = left & (rounded.astype(array.dtype) == array)
            found[same] = rounded[same]
            left &= ~same
            if not left.any():
                break
        # Powers of ten are exact up to 22 only.
        for at in numpy.flatnonzero((numpy.abs(exponent) > _EXACT) & numpy.isfinite(wide)):
            found.flat[at] = float(str(array.flat[at]))
    return found


def _list(values: Sequence[Any], *, per_prediction: bool) -> Table:
    if values and all(isinstance(value, Mapping) for value in values):
        names = list(dict.fromkeys(name for value in values for name in value))
        return Table([_label(name) for name in names], [[value.get(name) for name in names] for value in values])
    if values and all(is_row(value) for value in values):
        rows = [value if isinstance(value, list) else _row(value) for value in values]
        lengths = sorted(set(map(len, rows)))
        if len(lengths) > 1:
            raise CollectionError("ragged", f"rows of {lengths[0]} and of {lengths[-1]} values cannot be one table")
        return Table(None, rows, is_numeric=all(map(_are_numbers, rows)))
    if _are_numbers(values):
        return Table(None, [[value] for value in values] if per_prediction else [list(values)], is_numeric=True)
    if per_prediction:
        return Table(None, [[_plain(value)] for value in values])
    return Table(None, [[_plain(value) for value in values]] if values else [])


def _are_numbers(values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= _NUMBERS and bool(values)


def default_names(width: int) -> list[str]:
    """Names for columns of which nobody said any."""
    return [f"column{number}" for number in range(width)]


def unique(names: Iterable[str], reserved: Iterable[str] = (), *, fold: bool = False) -> list[str]:
    """
    *names* with numbers behind those that were there before: a column must have a name of its own.

    With *fold* one that differs in letter case alone is none of its own.

    >>> unique(["a", "b", "a", ""])
    ['a', 'b', 'a_1', 'column3']
    """
    taken, found = set(reserved), []
    same = str.casefold if fold else str
    for at, name in enumerate(names):
        unique_name = base = name or f"column{at}"
        number = 0
        while same(unique_name) in taken:
            number += 1
            unique_name = f"{base}_{number}"
        taken.add(same(unique_name))
        found.append(unique_name)
    return found


def _times_of(value: Any) -> Any:
    numpy = sys.modules["numpy"]
    return _times(numpy.asarray(value).reshape(1), numpy).tolist()[0]


def is_row(value: Any) -> bool:
    """Whether *value*, in a list, is a row rather than a cell."""
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1


def _row(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else list(value.tolist())


def _plain(value: Any) -> Any:
    """What numpy and its friends have for a number as Python has it."""
    refuse_media(value)
    if not hasattr(value, "tolist"):
        return value
    dtype: Any = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") == "M":
        return _times(value, sys.modules["numpy"]).tolist() if value.ndim else _times_of(value)
    is_short = getattr(dtype, "kind", "") == "f" and dtype.itemsize < 8 and not getattr(value, "ndim", 0)
    return float(str(value)) if is_short else value.tolist()


def _mapping(data: Mapping[Any, Any]) -> Table:
    """A column for each key: one row of values, or as many as all of them have."""
    names = [_label(name) for name in data]
    columns = [_plain(value) for value in data.values()]
    if columns and all(isinstance(column, (list, tuple)) for column in columns):
        if len(set(map(len, columns))) > 1:
            raise CollectionError("ragged", "columns of different lengths cannot be one table")
        return Table(names, [list(row) for row in zip_longest(*columns)])
    return Table(names, [columns] if names else [])


def _kind(data: Any) -> str:
    kind = type(data)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
