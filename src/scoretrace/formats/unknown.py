"""Keys of a row that no column is read from, so that what a reader passes over is known by name."""

from __future__ import annotations

from functools import cache

from scoretrace.errors import FormatError
from scoretrace.formats import diagnostics, reading
from scoretrace.schema import BY_ROOT, BY_WORKSPACE, Table

# Documented, of no use in a table: what it says is in another column, or nowhere in Azure's tables either.
_CONTEXT = {
    *("isSynthetic", "samplingRate", "screenResolution", "continent", "isAuthenticated", "isFirst", "point", "locale"),
    *("anonAcquisitionDate", "authAcquisitionDate", "accountAcquisitionDate", "acquisitionDate", "userAgent"),
    "network",
    *("dimensions", "metrics", "id", "language", "localPort", "cloud", "serverDevice", "documentVersion", "accountId"),
}  # fmt: skip
_ROOT = {
    *("count", "loggerName", "parameters", "urlData", "httpMethod", "hasDetailedData", "async", "clientIpAddress"),
    *("id", "typeName", "failedUserCodeMethod", "failedUserCodeAssembly", "exceptionGroup", "hasFullStack", "outerId"),
    *(
        "parsedStack",
        "stack",
        "testTimestamp",
        "availabilityMetric",
        "message",
        "dependencyTypeName",
        "baseName",
        "url",
    ),
    *("durationMetric", "referrerUrl", "durationMetricFirst", "success", "dependencyKind"),
}
_RECORD = {
    *("time", "resourceId", "_BilledSize", "Type", "PerformanceBucket", "ReferencedItemId", "ReferencedType"),
    *("TenantId", "SourceSystem", "_ItemId", "_IsBillable", "_SubscriptionId", "_ResourceId", "category", "records"),
    *("_TimeReceived", "_Internal_WorkspaceResourceId", "MG", "ManagementGroupName"),
}


def keys(line: bytes) -> list[str]:
    """
    The paths in *line* that nothing is read from; none where it is no row.

    >>> keys(b'{"message":[{"raw":"m","mood":1}],"weather":{}}')
    ['weather', 'message.mood']
    """
    try:
        row = reading.json_object(line)
    except FormatError:
        return []
    table = BY_WORKSPACE.get(str(row.get("Type")))
    if table is not None:
        return [key for key in row if key not in _of_record(table)]
    table = next((BY_ROOT[key] for key in row if key in BY_ROOT), None)
    if table is None:
        return []
    in_root, in_context = _known(table)
    found = [key for key in row if key not in {table.root, "context", "internal"}]
    root = row[table.root]
    if isinstance(root, list) and root and isinstance(root[0], dict) and table.kind != "counter":
        found += [f"{table.root}.{key}" for key in root[0] if key not in in_root]
    for place in ("context", "internal"):
        parts = row.get(place)
        for part, values in parts.items() if isinstance(parts, dict) else ():
            if isinstance(values, dict):
                found += [f"{place}.{part}.{key}" for key in values if key not in in_context]
    return found


@cache
def _known(table: Table) -> tuple[frozenset[str], frozenset[str]]:
    """Keys that are read, or documented: of the root, and of the parts of the context."""
    paths = [path for column in table.all_columns for path in (column.export, column.older)]
    steps = frozenset(step for path in paths for step in path.split("."))
    return steps | _ROOT, steps | _CONTEXT


@cache
def _of_record(table: Table) -> frozenset[str]:
    return frozenset(key for column in table.all_columns for key in diagnostics.keys(column)) | _RECORD
