"""From settings to what drains a home: which exporters, with which cursor, through which pipeline."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from functools import partial
from importlib import import_module

import scoretrace
from scoretrace.blobs import AzureBlobs
from scoretrace.connections import Ingestion, credential, said
from scoretrace.errors import MissingExtraError
from scoretrace.exporters.blob_export import BlobDrain
from scoretrace.exporters.drain import Drain
from scoretrace.exporters.items import ItemDrain, Send
from scoretrace.limits import guard
from scoretrace.overflow import Overflow
from scoretrace.setting_values import WAYS
from scoretrace.settings import NO_KEY, Settings

_PROBE_SECONDS = 10.0
SDK_VERSION = f"py{platform.python_version()}:scoretrace{scoretrace.__version__}"

# What each needs, where it needs anything: a package to look for, and the extra that brings it.
_NEEDS = {
    "azure_monitor": ("azure.core", "azure"),
    "opentelemetry": ("azure.monitor.opentelemetry.exporter", "opentelemetry"),
    "opencensus": ("opencensus.ext.azure", "opencensus"),
    "blob_export": ("azure.storage.blob", "azure"),
    "credential": ("azure.identity", "azure"),
}


def drains(settings: Settings, payloads: Overflow, *, gentle: bool, keyless: bool = False) -> list[Drain]:
    """
    What *settings* want drained, and how; nothing where they name no place to deliver to.

    With *keyless* also what was logged without a connection string.

    Raises:
        MissingExtraError: what an exporter needs is not installed.
    """
    found: list[Drain] = []
    check(settings)
    for name in settings.exporter:
        if name == "blob_export":
            connect = partial(AzureBlobs, settings.storage, credential=settings.credential)
            found.append(BlobDrain(settings.home, name, connect=connect, payloads=payloads, gentle=gentle))
        elif settings.ingestion is not None:
            scope = settings.i_key.replace("-", "")
            found.append(
                ItemDrain(
                    settings.home,
                    f"azure_monitor_{scope}",  # one cursor for all three: they deliver to the same place
                    label=name,
                    i_key=settings.i_key,
                    scope=f"{scope},{NO_KEY.replace('-', '')}" if keyless else scope,
                    connect=_way(name, settings, settings.ingestion),
                    fit=lambda item: guard(item, payloads.put),
                    sdk_version=SDK_VERSION,
                    payloads=payloads,
                    gentle=gentle,
                )
            )
    return found


def collected(settings: Settings, *, gentle: bool) -> list[Drain]:
    """
    What delivers collected model data; nothing where there is no storage.

    Raises:
        MissingExtraError: what storage needs is not installed.
    """
    storage = settings.model_data_storage or settings.storage
    if not storage:
        return []
    _need("blob_export", "storage")
    if isinstance(settings.credential, str) and settings.credential:
        _need("credential", "credential")
    connect = partial(AzureBlobs, storage, credential=settings.credential)
    from scoretrace.exporters.collected import CollectedDrain  # most processes collect nothing

    return [CollectedDrain(settings.home, connect=connect, keep_seconds=settings.keep_days * 86_400, gentle=gentle)]


def check(settings: Settings) -> None:
    """
    Find out early whether everything that *settings* want is installed.

    Raises:
        MissingExtraError: something is not.
    """
    for name in settings.exporter:
        if name != "blob_export" and settings.ingestion is None:
            continue
        _need(name)
        if settings.credential and isinstance(settings.credential, str):
            _need("credential", "credential")
        if settings.storage:
            _need("blob_export", "storage")


def probe(settings: Settings) -> str:
    """Send a batch of nothing to the endpoint of *settings*: why it does not take it, or nothing."""
    name = next((name for name in settings.exporter if name in WAYS), "")
    if settings.ingestion is None or not name:
        return ""
    _need(name)
    try:
        return _way(name, settings, settings.ingestion)()([], _PROBE_SECONDS).reason
    except Exception as error:  # noqa: BLE001 - a credential that cannot be had
        return said(error)


def _way(name: str, settings: Settings, target: Ingestion) -> Callable[[], Send]:
    def connect() -> Send:
        way = import_module(f"scoretrace.exporters.{name}")
        sends: Send = way.connect(target, credential=credential(settings.credential))
        return sends

    return connect


def _need(name: str, what: str = "") -> None:
    package, extra = _NEEDS.get(name, ("", ""))
    try:
        there = not package or importlib.util.find_spec(package) is not None
    except ImportError:
        there = False
    if not there:
        raise MissingExtraError(what or f"the exporter {name}", extra)
