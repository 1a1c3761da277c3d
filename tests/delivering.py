"""What the tests of delivery share: which exporters there are, and what to log, read and move."""

import json
import logging
import sys

from ingestion import KEY

SCOPE = KEY.replace("-", "")
OURS = "azure_monitor"
ALL = [OURS, "opentelemetry"]
if sys.version_info < (3, 13):
    ALL.append("opencensus")

log = logging.getLogger("score")


def burst(count, start=0):
    for number in range(start, start + count):
        log.info("%d", number)


def quarantined(home):
    return [
        json.loads(line)
        for path in sorted((home / "state" / "quarantine").glob("*.ndjson"))
        for line in path.read_text().splitlines()
    ]


def numbered(batch):
    return [envelope["data"]["baseData"]["message"] for envelope in batch]


def put_off(home, why="service"):
    """Move the only segment to where rows are that were put off."""
    (segment,) = home.glob("telemetry/*/*/*/*/*.blob")
    held = home / "state" / "held" / f"azure_monitor_{SCOPE}" / f"1-{why}.blob"
    held.parent.mkdir(parents=True)
    segment.rename(held)
    return held
