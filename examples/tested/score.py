import json
import logging

import scoretrace

scoretrace.configure(service="prices")
logger = logging.getLogger("prices")


def init():
    logger.info("ready")


@scoretrace.request
def run(raw_data):
    rows = json.loads(raw_data)["data"]
    result = [round(sum(row), 2) for row in rows]
    print(json.dumps({"input": rows, "output": result}))
    if not rows:
        logger.warning("nothing to score")
    return result
