"""
One table that says where each column sits in each layout.

Four layouts carry the same rows: a classic Application Insights table
(`traces`), its workspace twin (`AppTraces`), a line of a continuous export, and
an ingestion envelope. Whoever encodes, decodes or queries reads this table, so
a column is described in one place only.

Sources: the Application Insights export data model (documentVersion 1.61), the
telemetry envelope schemas (Envelope, MessageData and its siblings, version 2),
and the Azure Monitor Logs table reference.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SEVERITIES = ("Verbose", "Information", "Warning", "Error", "Critical")  # index = severityLevel in the tables


class Column(NamedTuple):
    """
    One column in every layout; an empty string where a layout does not have it.

    *export* and *envelope* are dotted paths; ``root`` in *export* stands for
    the first element of the table's root array, ``data`` in *envelope* for its
    ``data.baseData``, ``tag:`` for a key of its ``tags``. *form* says how the
    value is written there (see `formats`), and *older* where other documents
    of the export have it.
    """

    classic: str
    workspace: str
    type: str
    export: str
    envelope: str
    form: str = "text"
    older: str = ""

    @property
    def field(self) -> str:
        """
        The attribute of an `Item` that holds it.

        >>> Column("operation_ParentId", "ParentId", "string", "", "").field
        'operation_parent_id'
        """
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.classic)
        return words.replace("__", "_").lower().lstrip("_")


class Table(NamedTuple):
    """A telemetry type: its name in each layout, and its columns."""

    kind: str
    classic: str
    workspace: str
    folder: str
    root: str
    envelope: str
    base_type: str
    columns: tuple[Column, ...]
    folder_aliases: tuple[str, ...] = ()

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """The columns every table has, then its own."""
        return (*COMMON, *self.columns)


_IDENTITY = (
    Column("timestamp", "TimeGenerated", "datetime", "context.data.eventTime", "time", "time"),
    Column("itemId", "_ItemId", "string", "internal.data.id", "data.properties.scoretrace_item_id"),
    Column("itemType", "Type", "string", "", "", "constant"),
    Column("appId", "ResourceGUID", "string", "", "", "absent"),
    Column("appName", "_ResourceId", "string", "", "", "path"),
    Column("iKey", "IKey", "string", "", "iKey", "path"),
    Column("_ResourceId", "", "string", "", "", "absent"),
    Column("itemCount", "ItemCount", "int", "root.count", "sampleRate", "count"),
)
CONTEXT = (
    Column("sdkVersion", "SDKVersion", "string", "internal.data.sdkVersion", "tag:ai.internal.sdkVersion"),
    Column("application_Version", "AppVersion", "string", "context.application.version", "tag:ai.application.ver"),
    Column("client_Type", "ClientType", "string", "context.device.type", "tag:ai.device.type"),
    Column("client_Model", "ClientModel", "string", "context.device.deviceModel", "tag:ai.device.model"),
    Column(
        "client_OS",
        "ClientOS",
        "string",
        "context.device.osVersion",
        "tag:ai.device.osVersion",
        older="context.device.os",
    ),
    Column(
        "client_Browser",
        "ClientBrowser",
        "string",
        "context.device.browserVersion",
        "tag:ai.device.browserVersion",
        older="context.device.browser",
    ),
    Column("client_IP", "ClientIP", "string", "context.location.clientip", "tag:ai.location.ip"),
    Column("client_City", "ClientCity", "string", "context.location.city", "tag:ai.location.city"),
    Column(
        "client_StateOrProvince",
        "ClientStateOrProvince",
        "string",
        "context.location.province",
        "tag:ai.location.province",
    ),
    Column(
        "client_CountryOrRegion",
        "ClientCountryOrRegion",
        "string",
        "context.location.country",
        "tag:ai.location.country",
    ),
    Column("cloud_RoleName", "AppRoleName", "string", "context.device.roleName", "tag:ai.cloud.role"),
    Column(
        "cloud_RoleInstance", "AppRoleInstance", "string", "context.device.roleInstance", "tag:ai.cloud.roleInstance"
    ),
    Column("operation_Id", "OperationId", "string", "context.operation.id", "tag:ai.operation.id"),
    Column("operation_Name", "OperationName", "string", "context.operation.name", "tag:ai.operation.name"),
    Column("operation_ParentId", "ParentId", "string", "context.operation.parentId", "tag:ai.operation.parentId"),
    Column(
        "operation_SyntheticSource",
        "SyntheticSource",
        "string",
        "context.data.syntheticSource",
        "tag:ai.operation.syntheticSource",
    ),
    Column("session_Id", "SessionId", "string", "context.session.id", "tag:ai.session.id"),
    Column("user_Id", "UserId", "string", "context.user.anonId", "tag:ai.user.id"),
    Column("user_AuthenticatedId", "UserAuthenticatedId", "string", "context.user.authId", "tag:ai.user.authUserId"),
    Column("user_AccountId", "UserAccountId", "string", "context.user.accountId", "tag:ai.user.accountId"),
)
_CUSTOM = (
    Column("customDimensions", "Properties", "dynamic", "context.custom.dimensions", "data.properties", "dimensions"),
    Column("customMeasurements", "Measurements", "dynamic", "context.custom.metrics", "data.measurements", "metrics"),
)
COMMON = (*_IDENTITY, *CONTEXT, *_CUSTOM)

_SEVERITY = Column("severityLevel", "SeverityLevel", "int", "root.severityLevel", "data.severityLevel", "severity")
_DURATION = Column("duration", "DurationMs", "real", "root.durationMetric", "data.duration", "duration")
_BUCKET = Column("performanceBucket", "PerformanceBucket", "string", "", "", "bucket")


def _text(classic: str, workspace: str, export: str, envelope: str = "", older: str = "") -> Column:
    return Column(
        classic,
        workspace,
        "string",
        f"root.{export}",
        f"data.{envelope or classic}",
        older=older and f"root.{older}",
    )


def _thrown(which: str, column: str) -> tuple[Column, ...]:
    """The four columns that summarise one end of an exception chain; an envelope leaves them to the service."""
    return (
        Column(f"{column}Type", f"{column.capitalize()}Type", "string", f"root.{which}ExceptionType", ""),
        Column(f"{column}Message", f"{column.capitalize()}Message", "string", f"root.{which}ExceptionMessage", ""),
        Column(
            f"{column}Assembly",
            f"{column.capitalize()}Assembly",
            "string",
            f"root.{which}ExceptionThrownAtAssembly",
            "",
        ),
        Column(f"{column}Method", f"{column.capitalize()}Method", "string", f"root.{which}ExceptionThrownAtMethod", ""),
    )


TABLES = (
    Table(
        "trace",
        "traces",
        "AppTraces",
        "Messages",
        "message",
        "Message",
        "MessageData",
        (_text("message", "Message", "raw"), _SEVERITY),
    ),
    Table(
        "request",
        "requests",
        "AppRequests",
        "Requests",
        "request",
        "Request",
        "RequestData",
        (
            _text("id", "Id", "id"),
            _text("source", "Source", "source"),
            _text("name", "Name", "name"),
            _text("url", "Url", "url"),
            Column("success", "Success", "string", "root.success", "data.success", "bool"),
            Column("resultCode", "ResultCode", "string", "root.responseCode", "data.responseCode", "code"),
            _DURATION,
            _BUCKET,
        ),
    ),
    Table(
        "dependency",
        "dependencies",
        "AppDependencies",
        "RemoteDependency",
        "remoteDependency",
        "RemoteDependency",
        "RemoteDependencyData",
        (
            _text("id", "Id", "id"),
            _text("target", "Target", "urlData.host", "target", older="baseName"),
            Column("type", "DependencyType", "string", "root.type", "data.type", older="root.dependencyTypeName"),
            _text("name", "Name", "name"),
            _text("data", "Data", "commandName", "data", older="url"),
            Column("success", "Success", "string", "root.success", "data.success", "bool"),
            Column("resultCode", "ResultCode", "string", "root.resultCode", "data.resultCode", "code"),
            _DURATION,
            _BUCKET,
        ),
        ("Rdd",),
    ),
    Table(
        "exception",
        "exceptions",
        "AppExceptions",
        "Exceptions",
        "basicException",
        "Exception",
        "ExceptionData",
        (
            _text("problemId", "ProblemId", "problemId", older="exceptionGroup"),
            _text("handledAt", "HandledAt", "handledAt"),
            Column("type", "ExceptionType", "string", "root.exceptionType", "", older="root.typeName"),
            Column("message", "Message", "string", "root.message", ""),
            Column("assembly", "Assembly", "string", "root.assembly", "", older="root.failedUserCodeAssembly"),
            Column("method", "Method", "string", "root.method", "", older="root.failedUserCodeMethod"),
            *_thrown("outer", "outer"),
            *_thrown("innermost", "innermost"),
            _SEVERITY,
            Column("details", "Details", "dynamic", "basicException", "data.exceptions", "details"),
        ),
    ),
    Table(
        "event",
        "customEvents",
        "AppEvents",
        "Event",
        "event",
        "Event",
        "EventData",
        (_text("name", "Name", "name"),),
    ),
    Table(
        "metric",
        "customMetrics",
        "AppMetrics",
        "Metrics",
        "metric",
        "Metric",
        "MetricData",
        (
            Column("name", "Name", "string", "", "", "metric:name"),
            Column("value", "", "real", "", "", "metric:value"),
            Column("valueCount", "ItemCount", "int", "", "", "metric:count"),
            Column("valueSum", "Sum", "real", "", "", "metric:sum"),
            Column("valueMin", "Min", "real", "", "", "metric:min"),
            Column("valueMax", "Max", "real", "", "", "metric:max"),
            Column("valueStdDev", "", "real", "", "", "metric:stdDev"),
        ),
    ),
    Table(
        "page_view",
        "pageViews",
        "AppPageViews",
        "PageViews",
        "view",
        "PageView",
        "PageViewData",
        (
            _text("id", "Id", "id"),
            _text("name", "Name", "name"),
            _text("url", "Url", "url"),
            _DURATION,
            _BUCKET,
        ),
    ),
    Table(
        "availability",
        "availabilityResults",
        "AppAvailabilityResults",
        "Availability",
        "availability",
        "Availability",
        "AvailabilityData",
        (
            _text("id", "Id", "testRunId", "id"),
            _text("name", "Name", "testName", "name"),
            _text("location", "Location", "runLocation", "runLocation"),
            Column("success", "Success", "string", "root.result", "data.success", "pass"),
            _text("message", "Message", "message"),
            Column("size", "Size", "real", "root.dataSizeMetric", "data.size", "real"),
            _DURATION,
            _BUCKET,
        ),
    ),
    Table(
        "counter",
        "performanceCounters",
        "AppPerformanceCounters",
        "PerformanceCounters",
        "performanceCounter",
        "PerformanceCounter",
        "PerformanceCounterData",
        (
            # The export has no display name, and the counter's own name is the key of its value.
            Column("name", "Name", "string", "", "", "counter:name"),
            _text("category", "Category", "categoryName", "categoryName"),
            Column("counter", "Counter", "string", "", "data.counterName", "counter:name"),
            _text("instance", "Instance", "instanceName", "instanceName"),
            Column("value", "Value", "real", "", "data.value", "counter:value"),
        ),
    ),
    Table(
        "browser_timing",
        "browserTimings",
        "AppBrowserTimings",
        "PageViewPerformance",
        "clientPerformance",
        "PageViewPerf",
        "PageViewPerfData",
        (
            _text("name", "Name", "name"),
            _text("url", "Url", "url"),
            *(
                Column(
                    f"{classic}Duration",
                    f"{classic.capitalize()}DurationMs",
                    "real",
                    f"root.{export}",
                    f"data.{envelope}",
                    "duration",
                )
                for classic, export, envelope in (
                    ("network", "networkConnection", "networkConnect"),
                    ("send", "sendRequest", "sentRequest"),
                    ("receive", "receiveRequest", "receivedResponse"),
                    ("processing", "clientProcess", "domProcessing"),
                    ("total", "total", "perfTotal"),
                )
            ),
            _BUCKET,
        ),
    ),
)

# Collected model data is no telemetry; in queries here it is a table of its own. The types are DuckDB's.
MODEL_DATA = "modelData"
MODEL_DATA_COLUMNS = {
    "timestamp": "TIMESTAMP",
    "designation": "VARCHAR",
    "model": "VARCHAR",
    "modelVersion": "VARCHAR",
    "service": "VARCHAR",
    "workspace": "VARCHAR",
    "correlationId": "VARCHAR",
    "requestId": "VARCHAR",
    "operation_Id": "VARCHAR",
    "data": "JSON",
}

BY_KIND = {table.kind: table for table in TABLES}
BY_CLASSIC = {table.classic: table for table in TABLES}
BY_WORKSPACE = {table.workspace: table for table in TABLES}
BY_ROOT = {table.root: table for table in TABLES}
BY_BASE_TYPE = {table.base_type: table for table in TABLES}
BY_FOLDER = {folder: table for table in TABLES for folder in (table.folder, *table.folder_aliases)}
