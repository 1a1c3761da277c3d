"""200,000 calls in a tight loop from four threads, counted on disk; and how fast a query reads them back."""

import logging
import sys
import threading
import time

CALLS, THREADS = 200_000, 4


def main(home):
    import scoretrace

    log = logging.getLogger("burst")
    with scoretrace.configure(home=home, capture_print=False):

        def work():
            for number in range(CALLS // THREADS):
                log.info("scored %d rows", number)

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - start
    rows = scoretrace.query("traces | count", source=home).rows[0][0]
    rate = CALLS / taken
    print(f"{CALLS:,} calls from {THREADS} threads: {rows:,} rows, {rate:,.0f} calls/s, {1e6 / rate:.1f} us each")
    for query in (
        'traces | where customDimensions contains "input" | limit 10',
        "traces | summarize count() by bin(timestamp, 1s), severityLevel",
    ):
        start = time.perf_counter()
        scoretrace.query(query, source=home)
        print(f"{(time.perf_counter() - start) * 1000:.0f} ms over these rows: {query}")


if __name__ == "__main__":
    main(sys.argv[1])
