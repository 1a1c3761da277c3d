"""What the tests of exports share: lines and records in the documented shapes, and where exports put them."""

import json

KEY = "0123456789abcdef0123456789abcdef"
APP = f"team_{KEY}"
RESOURCE = "/SUBSCRIPTIONS/S/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.INSIGHTS/COMPONENTS/TEAM"
DEVICE = {"type": "PC", "screenResolution": {}, "roleName": "score", "roleInstance": "pod-1", "osVersion": "Linux"}
ROOTS = {
    "Messages": "message",
    "Requests": "request",
    "RemoteDependency": "remoteDependency",
    "Rdd": "remoteDependency",
    "Exceptions": "basicException",
    "Event": "event",
    "Metrics": "metric",
    "PageViews": "view",
    "Availability": "availability",
    "PerformanceCounters": "performanceCounter",
    "PageViewPerformance": "clientPerformance",
}


def line(folder, first, *, number=0, time="2026-11-01T10:00:00.1234567Z", dimensions=({"model": "m"},), **context):
    """A line of a continuous export, with the keys that real ones have."""
    row = {
        ROOTS[folder]: first if isinstance(first, list) else [first],
        "internal": {"data": {"id": f"{number:08x}-0000-4000-8000-000000000000", "documentVersion": "1.61"}},
        "context": {
            "device": DEVICE,
            "application": {"version": "1.2"},
            "location": {"continent": "Europe", "country": "Germany", "clientip": "0.0.0.0", "province": ""},
            "data": {"isSynthetic": False, "samplingRate": 100.0, "eventTime": time},
            "user": {"isAuthenticated": False, "anonId": "u", "anonAcquisitionDate": "0001-01-01T00:00:00Z"},
            "operation": {"id": "op", "parentId": "p", "name": "POST /score"},
            "cloud": {},
            "serverDevice": {},
            "custom": {"dimensions": list(dimensions), "metrics": []},
            "session": {"id": "s", "isFirst": True},
            **context,
        },
    }
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def message(number=0, **more):
    """A line of Messages."""
    first = {"raw": f"message {number}", "severityLevel": "Warning", "count": 1}
    return line("Messages", {**first, **more.pop("first", {})}, number=number, **more)


def record(kind="AppTraces", **columns):
    """A record of a diagnostic setting, spaced and ended as those are."""
    row = {
        "time": "2026-11-01T10:00:00.1234567Z",
        "resourceId": RESOURCE,
        "ResourceGUID": "guid",
        "Type": kind,
        "AppRoleName": "score",
        "ClientIP": "0.0.0.0",
        "IKey": KEY,
        "_BilledSize": 700,
        "OperationId": "op",
        "Properties": {"model": "m"},
        **({"Message": "message 0", "SeverityLevel": 2} if kind == "AppTraces" else {}),
        **columns,
        "ItemCount": columns.get("ItemCount", 1),
    }
    text = json.dumps({key: value for key, value in row.items() if value is not None})
    return ("{ " + text[1:] + "\r\n").encode()


def blob(folder="Messages", day="2026-11-01", hour="10", name="a_20261101_100000"):
    """The path of a blob of a continuous export."""
    return f"{APP}/{folder}/{day}/{hour}/{name}.blob"


def pt1h(table="apptraces", day="2026-11-01", hour="10"):
    """The path of a blob of a diagnostic setting."""
    year, month, date = day.split("-")
    return f"insights-logs-{table}/resourceId={RESOURCE}/y={year}/m={month}/d={date}/h={hour}/m=00/PT1H.json"


def pt05m(table="apptraces", minute="05", number=""):
    """The path of a blob of a data export rule."""
    where = "WorkspaceResourceId=/subscriptions/s/resourcegroups/rg/providers/w"
    return f"am-{table}/{where}/y=2026/m=11/d=01/h=10/m={minute}/PT05M{number}.json"


def put(root, name, *lines):
    """Write *lines* to the file *name* below *root*."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path
