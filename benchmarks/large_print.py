"""What a print of 200 KB costs on the caller, stored, cut and pointed at; and without us."""

import builtins
import json
import statistics
import sys
import time


def median(call, times=200):
    samples = []
    for number in range(times):
        start = time.perf_counter_ns()
        call(number)
        samples.append(time.perf_counter_ns() - start)
    return statistics.median(samples) / 1e6


def main(home):
    rows = [[round(index * 0.001 + column, 6) for column in range(10)] for index in range(2_790)]
    texts = [json.dumps({"id": number, "input": rows, "output": [1.5]}) for number in range(200)]
    with open("/dev/null", "w") as sink:
        real, sys.stdout = sys.stdout, sink
        import scoretrace

        bare = median(lambda number: builtins.print(texts[number]))
        with scoretrace.configure(home=home):
            builtins.print(texts[0])
            ours = median(lambda number: builtins.print(texts[number]))
        sys.stdout = real
    print(f"print of {len(texts[0]) / 1000:.0f} KB of JSON: {ours:.2f} ms with its original stored, {bare:.3f} ms bare")


if __name__ == "__main__":
    main(sys.argv[1])
