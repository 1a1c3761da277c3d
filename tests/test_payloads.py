"""What was too large comes back byte for byte, or not at all."""

import json
import logging

import pytest

import scoretrace
from scoretrace import PayloadChanged, PayloadNotFound, SourceError


@pytest.fixture(name="diverted")
def _diverted(telemetry, items):
    """A print that was too large: what was printed, and its row."""
    printed = json.dumps({"input": list(range(50_000)), "text": "日本語 🙂"}, ensure_ascii=False)
    print("small")
    print(printed)
    return printed, items("trace")[-1]


def test_the_original_comes_back(diverted):
    """Byte for byte."""
    printed, item = diverted

    assert scoretrace.payload(item.item_id) == printed.encode()


def test_the_row_says_what_happened(diverted, home):
    """Where, how large, which hash; and the stand-in is JSON with the keys that it had."""
    printed, item = diverted
    marks = item.custom_dimensions

    assert marks["payload_uri"].startswith("modeldata/default/default/default/svc/default/default/overflow/")
    assert (home / marks["payload_uri"]).read_bytes() == printed.encode()
    assert marks["payload_bytes"] == str(len(printed.encode()))
    assert marks["truncated"] == "true"
    assert json.loads(marks["Contents"])["text"] == "日本語 🙂"


def test_one_that_was_changed_is_refused(diverted, home):
    """Its hash is not the one in the row."""
    _, item = diverted
    path = home / item.custom_dimensions["payload_uri"]
    path.write_bytes(path.read_bytes().replace(b"17", b"71", 1))

    with pytest.raises(PayloadChanged, match="changed after it was stored"):
        scoretrace.payload(item.item_id)


def test_one_that_is_gone_is_named(diverted, home):
    """By its address."""
    _, item = diverted
    (home / item.custom_dimensions["payload_uri"]).unlink()

    with pytest.raises(PayloadNotFound, match=item.custom_dimensions["payload_uri"]):
        scoretrace.payload(item.item_id)


def test_a_row_that_is_whole_has_none(diverted, items):
    """Its row is the original."""
    with pytest.raises(PayloadNotFound, match="whole"):
        scoretrace.payload(items("trace")[0].item_id)


@pytest.mark.parametrize("item_id", ["nope", "", '"', "0" * 1_000])
def test_an_unknown_item_is_named(diverted, item_id):
    """Whatever was given as its id."""
    with pytest.raises(PayloadNotFound):
        scoretrace.payload(item_id)


def test_a_home_that_is_not_there_is_named(tmp_path):
    """Early."""
    with pytest.raises(SourceError, match="nowhere"):
        scoretrace.payload("x", source=tmp_path / "nowhere")


def test_an_address_that_leaves_the_home_is_not_followed(telemetry, home, items):
    """A row is data: it cannot make us read another file."""
    secret = home.parent / "secret"
    secret.write_text("secret")
    logging.getLogger("score").info("m", extra={"payload_uri": "../secret", "payload_sha256": "0" * 64})

    with pytest.raises(PayloadNotFound):
        scoretrace.payload(items("trace")[0].item_id)


def test_the_same_payload_is_stored_once(telemetry, home):
    """Its name is its hash."""
    print("x" * 20_000)
    print("x" * 20_000)

    assert len(list((home / "modeldata").rglob("*.json"))) == 1
    assert telemetry.stats()["diverted"] == 2


def test_names_cannot_leave_their_folder(home):
    """A service called ../../etc stays in modeldata."""
    with scoretrace.configure(home=home, service="../../etc", model="..", workspace="a/../b"):
        print("x" * 20_000)

    paths = [path.relative_to(home).as_posix() for path in home.rglob("*.json")]
    assert [path.split("/")[:7] for path in paths] == [
        ["modeldata", "a", "default", "b", ".._.._etc", "default", "default"]
    ]
