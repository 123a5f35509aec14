"""Records judged again: what a replay is, of events of every kind, and what stays."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from support.events import CATEGORIES, NOW, PRODUCTS, any_event
from support.quarantined import record_of
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.observations import ProductObservation, Reason, Rejection, category_observation, product_observation
from tidemark.catalog.rules import DAY_MS, RULES
from tidemark.catalog.words import rule
from tidemark.ingest.patches import FIELDS, Replayable, StillInvalid, patch_of, revalidate
from tidemark.serving.database import Document
from tidemark.serving.quarantine import InvalidRequest
from tidemark.settings.sections import KafkaSettings

USUAL = KafkaSettings()
EVERY_FIELD = {
    **{"asin": "B0PATCHED0", "title": "", "stars": "0", "reviews": "0", "boughtInLastMonth": "0", "price": "0", "listPrice": "0"},
    **{"category_id": "999", "isBestSeller": "False", "date": "2023-01-01", "id": "999", "category_name": "Patched"},
}
LATER = NOW + 5 * DAY_MS


def replay_of(replayable: Replayable, timestamp: int = LATER) -> Event:
    """The event as Kafka holds it."""
    headers = tuple((name, value) for name, value in replayable.message.headers if isinstance(value, bytes))
    return Event(replayable.topic, 7, 123_456, timestamp, replayable.message.key, replayable.message.value, headers)


def validated(event: Event) -> Any:
    return (category_observation if event.topic == CATEGORIES else product_observation)(event)


def rejected(value: bytes | None, *headers: tuple[str, bytes], timestamp: int = NOW) -> Document:
    record = record_of(Event(PRODUCTS, 1, 5, timestamp, None, value, headers))
    assert record is not None
    return record


def product(**fields: Any) -> bytes:
    usual = {**EVERY_FIELD, "asin": "B0T0000001", "title": "Bag", "price": "5.00"}
    return json.dumps({name: value for name, value in (usual | fields).items() if name not in ("id", "category_name")}).encode()


def test_every_field_can_be_patched() -> None:
    assert set(FIELDS) == EVERY_FIELD.keys()


def test_a_replay_keeps_source_version_and_all_valid_fields() -> None:
    """Of events of every kind, as they come, from files, the API and elsewhere."""
    random, seen = Random(31), {"replayable": 0, "patched": 0, "malformed": 0}
    for offset in range(6_000):
        event = any_event(random, offset)
        record = record_of(event)
        if record is None:
            continue
        replayable = revalidate(record, EVERY_FIELD, LATER, USUAL)
        if isinstance(replayable, StillInvalid):
            assert replayable.reason == "malformed"
            seen["malformed"] += 1
            continue
        again = replay_of(replayable)
        observation = validated(again)
        assert not isinstance(observation, Rejection)
        assert (again.source, again.registered_at, again.position) == (event.source, event.registered_at, event.position)
        assert again.header("tide-source") == "replay"
        assert again.header("tide-replay-of")
        key = observation.asin if isinstance(observation, ProductObservation) else str(observation.id)
        assert again.key == key.encode()
        assert isinstance(validated(again._replace(headers=())), type(observation)), "the value alone says all"
        before, after = (json.loads(value or b"", parse_float=str, parse_int=str) for value in (event.value, again.value))
        assert {name: value for name, value in after.items() if name not in replayable.patch} == {
            name: value for name, value in before.items() if name not in replayable.patch
        }
        assert replayable.patch == {name: EVERY_FIELD[name] for name in replayable.patch}
        assert (again.value == event.value) or replayable.patch
        seen["replayable"] += 1
        seen["patched"] += bool(replayable.patch)
    assert min(seen.values()) > 100


def test_a_replay_of_a_replay_keeps_the_first_source() -> None:
    replay = (("tide-source", b"replay"), ("tide-replay-of", b"elsewhere/3/4"), ("tide-registered-at", b"17"))
    replayable = revalidate(rejected(product(price="none"), *replay), {"price": "0"}, LATER, USUAL)
    assert isinstance(replayable, Replayable)
    assert (replay_of(replayable).source, replay_of(replayable).registered_at) == ("elsewhere/3/4", 17)


def test_headers_of_a_replay_refer_to_the_original() -> None:
    of_file = revalidate(rejected(product(price="?"), ("tide-ingestion", b"i"), ("tide-position", b"60")), {"price": "1"}, LATER, USUAL)
    assert isinstance(of_file, Replayable)
    assert dict(of_file.message.headers) == {
        **{"tide-source": b"replay", "tide-format": b"json", "tide-ingestion": b"i", "tide-position": b"60"},
        **{"tide-registered-at": str(NOW).encode(), "tide-replay-of": f"{PRODUCTS}/1/5".encode()},
    }
    of_api = revalidate(rejected(product(price="?"), ("tide-source", b"api")), {"price": "1"}, LATER, USUAL)
    assert isinstance(of_api, Replayable)
    assert dict(of_api.message.headers) == {
        **{"tide-source": b"replay", "tide-format": b"json"},
        **{"tide-registered-at": str(NOW).encode(), "tide-replay-of": f"{PRODUCTS}/1/5".encode()},
    }


def test_a_patch_replaces_only_invalid_fields_and_only_once() -> None:
    patch = {"price": "7", "title": "Box"}
    wrong_price = revalidate(rejected(product(price="n/a")), patch, LATER, USUAL)
    assert isinstance(wrong_price, Replayable)
    assert (json.loads(wrong_price.message.value)["title"], wrong_price.patch) == ("Bag", {"price": "7"})
    both = revalidate(rejected(product(price="n/a", title=5)), patch, LATER, USUAL)
    assert isinstance(both, Replayable)
    assert both.patch == {"title": "Box", "price": "7"}
    another = revalidate(rejected(product(price="n/a", stars="6")), patch, LATER, USUAL)
    assert another == StillInvalid("stars", rule(Reason.STARS), "6", f"{PRODUCTS}/1/5")
    worse = revalidate(rejected(product(price="n/a")), {"price": "-1"}, LATER, USUAL)
    assert worse == StillInvalid("price", rule(Reason.PRICE), "-1", f"{PRODUCTS}/1/5")


def test_numbers_are_kept_digit_for_digit() -> None:
    digits = b'"stars": 4.4500000000000000000000000001, "more": [1e400, 9007199254740993, {"a": -0.0}]'
    value = product(price="n/a").replace(b'"stars": "0"', digits).replace(b'"reviews": "0"', b'"reviews": ' + b"1" * 5_000)
    replayable = revalidate(rejected(value), {"price": "0", "reviews": "3"}, LATER, USUAL)
    assert isinstance(replayable, Replayable)
    for kept in (b"4.4500000000000000000000000001", b"[1e400,9007199254740993,{", b"-0.0"):
        assert kept in replayable.message.value
    stays = revalidate(rejected(value), {"price": "0"}, LATER, USUAL)
    assert isinstance(stays, StillInvalid)
    assert stays.text == "1" * 5_000


def test_a_future_date_becomes_valid_when_that_time_comes() -> None:
    record = rejected(product(date="2023-11-17T22:13:20Z"))  # three days after NOW
    assert isinstance(revalidate(record, {}, NOW + 2 * DAY_MS - 1, USUAL), StillInvalid)
    replayable = revalidate(record, {}, NOW + 2 * DAY_MS, USUAL)
    assert isinstance(replayable, Replayable)
    assert replayable.message.value == record["raw"]
    assert not replayable.is_valid_at(NOW + 2 * DAY_MS - 1), "Kafka's clock is behind"
    assert replayable.is_valid_at(NOW + 2 * DAY_MS)
    # What was valid when it came is so for ever, whatever a clock says.
    past = revalidate(rejected(product(date="2023-11-15T22:13:20Z", price="?")), {"price": "1"}, 0, USUAL)
    assert isinstance(past, Replayable)
    assert past.moment == NOW


@pytest.mark.parametrize("value", [None, b"", b"B0FIELDS01,one too few", b"[]", b"\xff", b" " * RULES.max_bytes])
def test_a_record_without_fields_stays_invalid(value: bytes | None) -> None:
    invalid = revalidate(rejected(value), EVERY_FIELD, LATER, USUAL)
    assert isinstance(invalid, StillInvalid)
    assert invalid.reason == "malformed"
    assert len(invalid.text) <= 100


def test_a_withdrawn_record_stays_invalid() -> None:
    rules = replace(RULES, withdrawn=("i",))
    for value in (product(price="?"), b"B0FIELDS01,one too few"):
        invalid = revalidate(rejected(value, ("tide-ingestion", b"i"), ("tide-position", b"60")), EVERY_FIELD, LATER, USUAL, rules)
        assert isinstance(invalid, StillInvalid)
        assert invalid.reason == "withdrawn"


def test_a_record_that_is_too_long_to_send_stays_invalid(wording: Wording) -> None:
    padded = product(price="?")[:-1] + b" " * (RULES.max_bytes - 2_000) + b"}"
    invalid = revalidate(rejected(padded), {}, LATER, USUAL)
    assert isinstance(invalid, StillInvalid)
    replayable = revalidate(rejected(padded), {"price": "1"}, LATER, USUAL)
    assert isinstance(replayable, Replayable), "written anew it is short"
    wordy = product(price="?", more="x" * (RULES.max_bytes - 2_000))
    invalid = revalidate(rejected(wordy), {"price": "1"}, LATER, USUAL)
    assert isinstance(invalid, StillInvalid)
    assert invalid._replace(rule="") == StillInvalid("price", "", "", f"{PRODUCTS}/1/5")
    wording.check(invalid.rule)


def test_a_record_of_another_topic_stays_invalid(wording: Wording) -> None:
    invalid = revalidate({**rejected(b""), "topic": "former"}, {}, LATER, USUAL)
    assert isinstance(invalid, StillInvalid)
    assert invalid._replace(rule="") == StillInvalid("malformed", "", "former", "former/1/5")
    wording.check(invalid.rule)


WRONG_PATCHES: dict[str, dict[str, str] | list[str]] = {
    "no text": ["price"],
    "another field": ["colour=red"],
    "no field": {"malformed": "x"},
    "a field without a name": {"": "x"},
    "a field without a rule": {"imgUrl": ""},
    "not UTF-8": {"title": "\ud800"},
}


@pytest.mark.parametrize("what", WRONG_PATCHES)
def test_invalid_patches_are_refused(what: str, wording: Wording) -> None:
    with pytest.raises(InvalidRequest) as refused:
        patch_of(WRONG_PATCHES[what])
    wording.check(str(refused.value))


def test_valid_patches_are_accepted() -> None:
    assert patch_of(None) == patch_of([]) == patch_of({}) == {}
    assert patch_of(["price=0", "title=a=b", "stars="]) == {"price": "0", "title": "a=b", "stars": ""}
    assert patch_of({"id": "5"}) == {"id": "5"}
