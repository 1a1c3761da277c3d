"""Give back the original of an item that was too large for Application Insights."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from scoretrace import read, settings, sources
from scoretrace.blobs import AzureBlobs, FolderBlobs
from scoretrace.connections import said
from scoretrace.errors import MissingExtraError, PayloadChanged, PayloadNotFound
from scoretrace.overflow import name_of


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
    home = sources.local(source)
    item = read.item(item_id, home)
    if item is None:
        raise PayloadNotFound(f"no item in {home} has the id {item_id}: take it from the column itemId")
    dimensions = item.custom_dimensions
    address, sha256 = dimensions.get("payload_uri", ""), dimensions.get("payload_sha256", "")
    if not address or not sha256:
        raise PayloadNotFound(f"nothing of item {item_id} was diverted: its row in {type(item).__name__} is whole")
    data = _fetch(item_id, address, home)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise PayloadChanged(
            f"the payload of item {item_id} was changed after it was stored: {address} has the SHA-256 {found}, "
            f"its row says {sha256}"
        )
    return data


def _fetch(item_id: str, address: str, home: Path) -> bytes:
    """What lies at *address*: below *home* as long as it is kept there, and else in storage."""
    try:
        with FolderBlobs(home).open(name_of(address)) as file:
            return file.read()
    except (OSError, ValueError) as error:
        given = settings.resolve()
        if not given.storage or "://" not in address:
            raise PayloadNotFound(f"the payload of item {item_id} is not at {address} in {home}: {error}") from error
    try:
        with AzureBlobs(given.storage, credential=given.credential).open(name_of(address)) as file:
            return file.read()
    except MissingExtraError:
        raise
    except Exception as error:  # azure-core, requests and credentials raise what they like
        raise PayloadNotFound(f"the payload of item {item_id} cannot be had from {address}: {said(error)}") from error
