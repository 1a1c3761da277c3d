"""Give back the original of an item that was too large for Application Insights."""

from __future__ import annotations

import hashlib
import os

from scoretrace import read
from scoretrace.blobs import FolderBlobs
from scoretrace.errors import PayloadChanged, PayloadNotFound


def payload(item_id: str, *, source: str | os.PathLike[str] | None = None) -> bytes:
    """
    The original of a diverted item, byte for byte.

    *item_id* is the column `itemId` of the row; *source* the home folder, if it
    is not the one of the settings. For a row where one text was cut that is the
    text in UTF-8; else the whole item as a line of the continuous export (see
    the row's ``payload_field``).

    Raises:
        PayloadNotFound: no item has this id, or its payload was not diverted, or the blob is gone.
        PayloadChanged: the blob's SHA-256 is not the one the row states.
        SourceError: there is no such home folder.
    """
    home = read.home_of(source)
    item = read.item(item_id, home)
    if item is None:
        raise PayloadNotFound(f"no item in {home} has the id {item_id}: take it from the column itemId")
    dimensions = item.custom_dimensions
    address, sha256 = dimensions.get("payload_uri", ""), dimensions.get("payload_sha256", "")
    if not address or not sha256:
        raise PayloadNotFound(f"nothing of item {item_id} was diverted: its row in {type(item).__name__} is whole")
    try:
        with FolderBlobs(home).open(address) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise PayloadNotFound(f"the payload of item {item_id} is not at {address} in {home}: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise PayloadChanged(
            f"the payload of item {item_id} was changed after it was stored: {address} has the SHA-256 {found}, "
            f"its row says {sha256}"
        )
    return data
