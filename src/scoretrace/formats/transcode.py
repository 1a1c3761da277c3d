"""
An export line as an envelope, without an item in between, where that is possible.

Nearly all telemetry of a scoring script is traces and requests with the same
few fields, and delivery shares the interpreter with scoring. A line of that
shape goes through typed structs at a fifth of the cost; any other key or value
makes this module say so, and the line takes the way through `continuous_export`
and `breeze`, which write the same envelope.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scoretrace import ticks
from scoretrace.formats.breeze import ITEM_ID
from scoretrace.schema import BY_KIND, SEVERITIES


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Message(_Strict, frozen=True):
    raw: str
    count: Literal[1]
    severityLevel: str | None = None  # noqa: N815 - the format's names, here and below


class _InternalData(_Strict, frozen=True):
    id: str
    documentVersion: str  # noqa: N815


class _Internal(_Strict, frozen=True):
    data: _InternalData


class _Data(_Strict, frozen=True):
    isSynthetic: bool  # noqa: N815
    samplingRate: float  # noqa: N815
    eventTime: str  # noqa: N815


class _Operation(_Strict, frozen=True):
    id: str = ""
    name: str = ""
    parentId: str = ""  # noqa: N815


class _Device(_Strict, frozen=True):
    roleName: str = ""  # noqa: N815
    roleInstance: str = ""  # noqa: N815


class _Application(_Strict, frozen=True):
    version: str = ""


class _Custom(_Strict, frozen=True):
    dimensions: list[dict[str, str]]
    metrics: list[msgspec.Raw]


class _Context(_Strict, frozen=True):
    data: _Data
    operation: _Operation
    custom: _Custom
    device: _Device = _Device()
    application: _Application = _Application()


class _Duration(msgspec.Struct, frozen=True):  # its minimum, maximum and sum are the same number again
    value: float


class _Request(_Strict, frozen=True):
    id: str
    name: str
    url: str
    success: bool
    responseCode: int | str  # noqa: N815
    durationMetric: _Duration  # noqa: N815
    count: Literal[1]


class _MessageLine(_Strict, frozen=True):
    message: list[_Message]
    internal: _Internal
    context: _Context


class _RequestLine(_Strict, frozen=True):
    request: list[_Request]
    internal: _Internal
    context: _Context


class _MessageData(msgspec.Struct, omit_defaults=True, kw_only=True):
    ver: Literal[2]
    message: str
    severityLevel: int | None = None  # noqa: N815
    properties: dict[str, str]


class _RequestData(msgspec.Struct, kw_only=True):
    ver: Literal[2]
    id: str
    name: str
    url: str
    success: bool
    responseCode: str  # noqa: N815
    duration: str
    properties: dict[str, str]


class _Base(msgspec.Struct):
    baseType: str  # noqa: N815
    baseData: _MessageData | _RequestData  # noqa: N815


class _Envelope(msgspec.Struct):
    name: str
    iKey: str  # noqa: N815
    time: str
    tags: dict[str, str]
    data: _Base


_MESSAGE, _REQUEST = (
    (f"Microsoft.ApplicationInsights.{BY_KIND[kind].envelope}", BY_KIND[kind].base_type)
    for kind in ("trace", "request")
)
_LEVELS = {name: level for level, name in enumerate(SEVERITIES)}
# Within the limits of every field whatever is in it, so that nobody needs to count characters.
_USUAL_BYTES, _USUAL_NAME, _USUAL_TAG = 8_192, 64, 512
_TIME = len("2026-11-20T10:00:00.0000000Z")

_decode_message = msgspec.json.Decoder(_MessageLine).decode
_decode_request = msgspec.json.Decoder(_RequestLine).decode
_encode = msgspec.json.Encoder().encode


def envelope(line: bytes, i_key: str, sdk_version: str) -> tuple[bytes, str] | None:
    """
    The envelope of a usual line, and its time as ISO 8601 text; None where the line is anything else.

    What it returns is within the limits of Application Insights.

    >>> envelope(b'{"event":[]}', "", "")
    """
    if len(line) > _USUAL_BYTES:
        return None
    try:
        if line.startswith(b'{"message"'):
            return _of_message(_decode_message(line), i_key, sdk_version)
        if line.startswith(b'{"request"'):
            return _of_request(_decode_request(line), i_key, sdk_version)
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        pass
    return None


def _of_message(row: _MessageLine, i_key: str, sdk_version: str) -> tuple[bytes, str] | None:
    (message,) = row.message
    common = _common(row, sdk_version)
    if common is None:
        return None
    tags, properties = common
    level = None if message.severityLevel is None else _LEVELS[message.severityLevel]
    data = _MessageData(ver=2, message=message.raw, severityLevel=level, properties=properties)
    return _whole(_MESSAGE, data, tags, row, i_key)


def _of_request(row: _RequestLine, i_key: str, sdk_version: str) -> tuple[bytes, str] | None:
    (request,) = row.request
    common = _common(row, sdk_version)
    if common is None or not (request.id and request.name and request.url and request.responseCode):
        return None
    if max(len(request.id) * 8, len(request.name), len(request.url)) > _USUAL_TAG:
        return None
    tags, properties = common
    data = _RequestData(
        ver=2,
        id=request.id,
        name=request.name,
        url=request.url,
        success=request.success,
        responseCode=str(request.responseCode),
        duration=ticks.to_timespan(round(request.durationMetric.value)),
        properties=properties,
    )
    return _whole(_REQUEST, data, tags, row, i_key)


def _common(row: _MessageLine | _RequestLine, sdk_version: str) -> tuple[dict[str, str], dict[str, str]] | None:
    """Tags and properties; None where there is anything that is not usual."""
    context = row.context
    time = context.data.eventTime
    if (
        context.custom.metrics
        or context.data.samplingRate != 100.0
        or context.data.isSynthetic
        or len(time) != _TIME
        or not time.endswith("Z")
        or time.startswith("0001")  # how an export writes that there is none
    ):
        return None
    operation, device = context.operation, context.device
    tags = {"ai.internal.sdkVersion": sdk_version}
    if context.application.version:
        tags["ai.application.ver"] = context.application.version
    if device.roleName:
        tags["ai.cloud.role"] = device.roleName
    if device.roleInstance:
        tags["ai.cloud.roleInstance"] = device.roleInstance
    if operation.id:
        tags["ai.operation.id"] = operation.id
    if operation.name:
        tags["ai.operation.name"] = operation.name
    if operation.parentId:
        tags["ai.operation.parentId"] = operation.parentId
    properties: dict[str, str] = {}
    for pair in context.custom.dimensions:
        properties.update(pair)
    if len(operation.id) > _USUAL_NAME or max(map(len, tags.values())) > _USUAL_TAG:
        return None
    for name in properties:
        if len(name) > _USUAL_NAME:
            return None
    if row.internal.data.id:
        properties[ITEM_ID] = row.internal.data.id
    return tags, properties


def _whole(
    kind: tuple[str, str],
    data: _MessageData | _RequestData,
    tags: dict[str, str],
    row: _MessageLine | _RequestLine,
    i_key: str,
) -> tuple[bytes, str]:
    name, base_type = kind
    time = row.context.data.eventTime
    return _encode(_Envelope(name, i_key, time, tags, _Base(base_type, data))), time
