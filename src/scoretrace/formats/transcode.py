"""
An export line as an envelope, without an item in between, where that is possible.

Nearly all telemetry of a scoring script is traces with the same few fields, and
delivery shares the interpreter with scoring. A line of that shape goes through
typed structs at a fifth of the cost; any other key or value makes this module
say so, and the line takes the way through `continuous_export` and `breeze`,
which write the same envelope.
"""

from __future__ import annotations

from typing import Literal

import msgspec

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


class _Line(_Strict, frozen=True):
    message: list[_Message]
    internal: _Internal
    context: _Context


class _BaseData(msgspec.Struct, omit_defaults=True, kw_only=True):
    ver: Literal[2]
    message: str
    severityLevel: int | None = None  # noqa: N815
    properties: dict[str, str]


class _Base(msgspec.Struct):
    baseType: str  # noqa: N815
    baseData: _BaseData  # noqa: N815


class _Envelope(msgspec.Struct):
    name: str
    iKey: str  # noqa: N815
    time: str
    tags: dict[str, str]
    data: _Base


_TABLE = BY_KIND["trace"]
_NAME = f"Microsoft.ApplicationInsights.{_TABLE.envelope}"
_LEVELS = {name: level for level, name in enumerate(SEVERITIES)}
# Within the limits of every field whatever is in it, so that nobody needs to count characters.
_USUAL_BYTES, _USUAL_NAME, _USUAL_TAG = 8_192, 64, 512
_TIME = len("2026-11-20T10:00:00.0000000Z")

_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


def trace(line: bytes, i_key: str, sdk_version: str) -> tuple[bytes, str] | None:
    """
    The envelope of a usual trace line, and its time as ISO 8601 text; None where the line is anything else.

    What it returns is within the limits of Application Insights.

    >>> trace(b'{"request":[]}', "", "")
    """
    if len(line) > _USUAL_BYTES:
        return None
    try:
        row = _decode(line)
        (message,) = row.message
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
        level = None if message.severityLevel is None else _LEVELS[message.severityLevel]
        data = _BaseData(ver=2, message=message.raw, severityLevel=level, properties=properties)
        return _encode(_Envelope(_NAME, i_key, time, tags, _Base(_TABLE.base_type, data))), time
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return None
