"""What an export line and an ingestion envelope write alike: texts, and the links of an exception chain."""

from __future__ import annotations

from typing import Any

import msgspec

from scoretrace.item import Frame, Thrown

_encode = msgspec.json.Encoder().encode


def text(value: Any) -> str:
    """*value* as a column of text: itself, or the JSON of what should have been text."""
    return value if isinstance(value, str) else _encode(value).decode()


def thrown(row: dict[str, Any]) -> Thrown:
    """A link of a chain from its JSON; ids may be numbers or text."""
    return Thrown(
        id=int(row.get("id") or 0),
        outer_id=int(row.get("outerId") or 0),
        type_name=row.get("typeName") or row.get("type") or "",
        message=row.get("message") or "",
        has_full_stack=bool(row.get("hasFullStack", True)),
        stack=row.get("stack") or "",
        parsed_stack=tuple(msgspec.convert(row.get("parsedStack") or [], list[Frame], strict=False)),
    )
