"""
Any Python value as text: what people log is not always what JSON takes.

The rule is that nothing raises and nothing is dropped. A value that has no JSON
form becomes the nearest text: NaN and the infinities their names in quotes
(`toreal("NaN")` reads them back in Kusto), bytes their UTF-8 or else base64
(always base64 inside a container), a lone surrogate the six characters of its
escape, a circular reference a mark, and an object whose `__str__` raises its
type and the error.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

CIRCULAR = "<circular reference>"

_INFINITIES = {math.inf: '"Infinity"', -math.inf: '"-Infinity"'}


def clean(text: str) -> str:
    """
    *text* with each lone surrogate replaced by its escape, so that it has a UTF-8 form.

    >>> clean("ok") + clean(chr(0xD83D))
    'ok\\\\ud83d'
    """
    if type(text) is not str:  # a subclass, which the encoders would not take
        text = str.__str__(text)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def as_number(value: Any) -> float | None:
    """*value* as a measurement can carry it: finite, and a number rather than text or a flag."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 - somebody else's __float__
        return None
    return number if math.isfinite(number) and not isinstance(value, (str, bytes, bool)) else None


def measured(pairs: Iterable[tuple[Any, Any]], dimensions: dict[str, str]) -> dict[str, float]:
    """The measurements among *pairs*; what is none goes to *dimensions*, as text."""
    measurements: dict[str, float] = {}
    for name, value in pairs:
        number = as_number(value)
        if number is None:
            dimensions[as_text(name)] = as_text(value)
        else:
            measurements[as_text(name)] = number
    return measurements


def as_text(value: Any) -> str:
    """
    What stands for *value* in a custom dimension: text as it is, containers as JSON text, nothing for None.

    >>> as_text({"rows": [1, 2.5]}), as_text(None), as_text(b"raw")
    ('{"rows":[1,2.5]}', '', 'raw')
    """
    if type(value) is str:
        return clean(value)
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _bytes(value)
    plain = _plain(value)
    if isinstance(plain, (Mapping, list, tuple, set, frozenset)):
        return as_json(plain)
    return printed(plain)


def as_json(value: Any) -> str:
    """
    *value* as compact, valid JSON text.

    >>> as_json({"score": float("nan"), "rows": {3}})
    '{"score":"NaN","rows":[3]}'
    """
    try:
        data = _fast(value)
    except Exception:  # noqa: BLE001 - the careful way below takes whatever the fast one does not
        return _careful(value)
    # The encoder writes NaN as null. Where a null may be one, another encoder that refuses NaN has the word.
    if b"null" in data:
        try:
            _strict(value)
        except Exception:  # noqa: BLE001 - there is a NaN, or something that this encoder does not take
            return _careful(value)
    return data.decode()


def _hook(value: Any) -> Any:
    plain = _plain(value)
    # A type that turns into itself, as numpy's longdouble does, would go round for ever.
    return printed(value) if type(plain) is type(value) else plain


_strict = json.JSONEncoder(allow_nan=False, default=_hook, check_circular=False).encode
_fast = msgspec.json.Encoder(enc_hook=_hook).encode


def _careful(value: Any) -> str:
    """Walk *value* with a stack of our own: neither depth nor a circle can end it."""
    out: list[str] = []
    inside: dict[int, Any] = {}  # the containers around the current value, kept alive so that an id stays theirs
    todo: list[tuple[str, Any]] = [("value", value)]
    while todo:
        step, current = todo.pop()
        if step == "text":
            out.append(current)
        elif step == "leave":
            del inside[id(current)]
        elif isinstance(current, (Mapping, list, tuple, set, frozenset)):
            if id(current) in inside:
                out.append(f'"{CIRCULAR}"')
                continue
            inside[id(current)] = current
            todo.append(("leave", current))
            todo.extend(reversed(_steps(current)))
        else:
            plain = _plain(current)
            if type(plain) is type(current):
                out.append(_scalar(current))
            else:
                todo.append(("value", plain))
    return "".join(out)


def _steps(container: Any) -> list[tuple[str, Any]]:
    steps: list[tuple[str, Any]] = []
    try:
        if isinstance(container, Mapping):
            for key, value in container.items():
                steps += [("text", f"{',' if steps else '{'}{_quote(as_text(key))}:"), ("value", value)]
            return [*steps, ("text", "}" if steps else "{}")]
        for value in container:
            steps += [("text", "," if steps else "["), ("value", value)]
        return [*steps, ("text", "]" if steps else "[]")]
    except Exception as error:  # noqa: BLE001 - a container that cannot be walked
        return [("text", _quote(_unprintable(container, error)))]


def _scalar(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else _INFINITIES[float(value)]
    try:
        return _fast(value).decode()
    except Exception:  # noqa: BLE001 - a lone surrogate, or an int of more digits than str() agrees to make
        return _quote(printed(value))


def _plain(value: Any) -> Any:
    """One step from a library's object to Python's own types; *value* itself where there is no such step."""
    kind = type(value)
    try:
        if hasattr(kind, "to_dicts"):  # polars
            return value.to_dicts()
        if hasattr(kind, "to_dict") and hasattr(value, "columns"):  # pandas
            if not value.columns.is_unique:  # as records they would overwrite each other
                return {"columns": value.columns.tolist(), "data": value.to_numpy().tolist()}
            return value.to_dict(orient="records")
        if hasattr(kind, "tolist"):  # numpy, and pandas series
            if getattr(getattr(value, "dtype", None), "kind", "") in {"m", "M"}:  # tolist makes ints of nanoseconds
                value = value.astype(str)
            return value.tolist()
        if hasattr(kind, "__dataclass_fields__"):
            return {name: getattr(value, name, None) for name in kind.__dataclass_fields__}
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.asdict(value)
    except Exception as error:  # noqa: BLE001 - somebody else's code
        return _unprintable(value, error)
    return value


def _bytes(value: bytes | bytearray | memoryview) -> str:
    data = bytes(value)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return b64encode(data).decode()


def printed(value: Any) -> str:
    """What `str` makes of *value*, or what kept it from doing so."""
    try:
        return clean(value.isoformat() if hasattr(type(value), "isoformat") else str(value))
    except Exception as error:  # noqa: BLE001 - somebody else's __str__
        if isinstance(value, int):  # more digits than str() agrees to make
            return hex(value)
        return _unprintable(value, error)


def _unprintable(value: Any, error: Exception) -> str:
    return f"<{type(value).__qualname__} that cannot be printed: {type(error).__name__}>"


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()
