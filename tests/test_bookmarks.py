"""Exports that grow, read on where the last reading stopped."""

import gzip
import json

import scoretrace
from exported import blob, message, put
from test_exports import read


def test_reading_goes_on_where_it_stopped(tmp_path):
    """With a bookmark only what is new is read; a line that is not whole yet waits."""
    path = put(tmp_path, blob(), message(1), message(2)[:50])
    mark = tmp_path / "mark.json"

    assert [item.message for item in read(tmp_path, bookmark=mark)[0]] == ["message 1"]
    assert read(tmp_path, bookmark=mark)[1][2:6] == (0, 0, 0, 1)
    path.write_bytes(message(1) + message(2) + message(3))
    assert [item.message for item in read(tmp_path, bookmark=mark)[0]] == ["message 2", "message 3"]
    path.write_bytes(message(4))  # another blob of that name
    assert [item.message for item in read(tmp_path, bookmark=mark)[0]] == ["message 4"]


def test_a_compressed_blob_is_read_once_with_a_bookmark(tmp_path):
    """It does not grow."""
    put(tmp_path, blob(), gzip.compress(b"".join(map(message, range(100)))))
    mark = tmp_path / "mark.json"

    assert [len(read(tmp_path, bookmark=mark)[0]) for _ in range(3)] == [100, 0, 0]


def test_what_was_set_aside_stays_where_reading_goes_on(tmp_path):
    """With the number of its line in the blob."""
    path = put(tmp_path, blob(), message(1), b"oops\n")
    more = {"bookmark": tmp_path / "mark.json", "quarantine": tmp_path / "q"}
    read(tmp_path, **more)
    path.write_bytes(path.read_bytes() + message(2) + b"again\n")

    _, summary = read(tmp_path, **more)

    (file,) = summary.quarantine
    found = [json.loads(text) for text in file.read_text().splitlines()]
    assert [(row["line"], row["text"]) for row in found] == [(2, "oops"), (4, "again")]


def test_items_that_were_not_taken_are_read_again(tmp_path):
    """Whoever stops in the middle of a blob gets the rest the next time."""
    put(tmp_path, blob(), *map(message, range(2_000)))
    mark = tmp_path / "mark.json"
    first = iter(scoretrace.read_export(tmp_path, bookmark=mark))
    taken = [next(first).message for _ in range(1_000)]
    first.close()

    taken += [item.message for item in scoretrace.read_export(tmp_path, bookmark=mark)]

    assert set(taken) == {f"message {number}" for number in range(2_000)}
