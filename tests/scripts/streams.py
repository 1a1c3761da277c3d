# An answer in pieces.
import json

from flask import Response


def init():
    pass


def run(raw_data):
    rows = json.loads(raw_data)["data"]

    def pieces():
        for row in rows:
            print("piece of", len(row))
            yield f"{sum(row)}\n"

    print("begins")
    return Response(pieces(), mimetype="text/event-stream")
