"""Records replayed and discarded on real servers: what is sent, what is marked, and what happens when it is done again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from support.catalogs import EVERY_KIND_OF_ROW, ingest, read
from support.names import NAMES
from support.places import Place
from support.quarantined import quarantined
from support.servers import free_ports
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.observations import Reason
from tidemark.catalog.rules import RULES
from tidemark.catalog.words import rule
from tidemark.ingest import quarantine_jobs as jobs
from tidemark.ingest import replay
from tidemark.ingest.files import FileKind
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged, UnsafeProducer
from tidemark.ingest.quarantine_jobs import APPROVE, DISCARD, SEND, Sent
from tidemark.rendering.replays import render_replay
from tidemark.serving.database import Document
from tidemark.serving.lease import Busy, lease
from tidemark.serving.publications import OtherRules
from tidemark.serving.quarantine import InvalidRequest
from tidemark.settings import Settings

pytestmark = pytest.mark.servers


@pytest.fixture
def filled(place: Place, tmp_path: Path) -> Place:
    """A file with every kind of row, and some events that came by no file, in quarantine."""
    bad = tmp_path / "bad.csv"
    bad.write_bytes(EVERY_KIND_OF_ROW)
    ingest(place, [read(bad, FileKind.PRODUCT, "2024-01-02")], chunk_bytes=1_000)
    place.send(Event("ingest-product", 0, 0, 0, None, product(number)) for number in range(3))
    place.send([Event("ingest-category", 0, 0, 0, None, b'{"id": "x", "category_name": "Luggage"}')])
    quarantined(place)
    return place


def product(number: int, **fields: Any) -> bytes:
    usual = {"asin": f"B0API{number:05d}", "title": "by API", "stars": 4.50, "reviews": 3, "price": "n/a", "listPrice": 0, "category_id": 7}
    return json.dumps({**usual, "isBestSeller": True, "boughtInLastMonth": 50, "date": "2024-01-01", **fields}).encode()


def send(place: Place, mark: list[Document] | None = None, by: str = "a run", **parameters: Any) -> Sent:
    decision = jobs.preview_run(place.database, {**parameters, "hold": False}, SEND, place.settings)
    assert decision.preview is not None
    configuration = {"bootstrap.servers": place.settings.kafka, **RECOMMENDED}
    mark = mark or decision.preview["mark"]
    return jobs.send(place.database, lambda: Producer(configuration), configuration, parameters, mark, by, place.settings)


def statuses(place: Place) -> dict[str, int]:
    return {one["_id"]: one["n"] for one in place.database.quarantine.aggregate([{"$sortByCount": "$status"}, {"$set": {"n": "$count"}}])}


def replays(place: Place) -> list[Event]:
    return [event for event in place.log() if event.header("tide-source") == "replay"]


def in_one_order(preview: Document) -> Document:
    """A preview in an order that Kafka's partitions do not decide."""
    still_invalid = [
        {**one, "examples": sorted(one["examples"], key=lambda example: str(example["origin"]))} for one in preview["still_invalid"]
    ]
    return {
        **preview,
        "reasons": sorted(preview["reasons"], key=lambda one: str(one["reason"])),
        "still_invalid": sorted(still_invalid, key=lambda one: str(one["reason"])),
    }


def test_a_preview_predicts_the_outcome_and_changes_nothing(filled: Place, wording: Wording) -> None:
    before = filled.ends(), list(filled.database.quarantine.find().sort("_id"))
    decision = jobs.preview_run(filled.database, {"patch": {"price": "0"}}, SEND, filled.settings)
    assert (filled.ends(), list(filled.database.quarantine.find().sort("_id"))) == before
    assert decision.step == APPROVE
    found = json.loads(json.dumps(decision.preview))
    assert (found["records"], found["valid"], found["patched"]) == (len(before[1]), 5, 5)
    assert {one["reason"]: (one["records"], one["valid"]) for one in found["reasons"]}["price"] == (5, 5)
    still_invalid = {one["reason"]: one for one in found["still_invalid"]}
    assert still_invalid["stars"] == {
        **{"reason": "stars", "rule": rule(Reason.STARS), "records": 1},
        "examples": [{"origin": still_invalid["stars"]["examples"][0]["origin"], "text": "5.06"}],
    }
    assert still_invalid["stars"]["examples"][0]["origin"].startswith("bad.csv byte ")
    assert (still_invalid["malformed"]["records"], len(still_invalid["malformed"]["examples"])) == (3, 3)
    assert decision.text == render_replay(found, {"price": "0"})
    wording.check(render_replay(in_one_order(found), {"price": "0"}))
    step = partial(jobs.preview_run, filled.database, of=filled.settings)
    assert step({"reason": "price"}, SEND).step is None, "nothing would be sent"
    assert step({"patch": {"price": "0"}, "hold": False}, SEND).step == SEND
    assert step({"patch": {"price": "0"}, "dry_run": True}, SEND).step is None
    assert step({"reason": "price", "why": "test"}, DISCARD).step == APPROVE
    assert step({"reason": "title", "why": "test"}, DISCARD).step is None


def test_valid_records_are_sent_once_and_marked(filled: Place) -> None:
    records = {one["_id"]: one for one in filled.database.quarantine.find()}
    assert send(filled, by="first", reason="price", patch={"price": "0"}) == Sent(5, 0)
    sent = {event.source: event for event in replays(filled)}
    assert sent.keys() == {one for one, record in records.items() if record["reason"] == "price"}
    assert {json.loads(event.value or b"")["price"] for event in sent.values()} == {"0"}
    for one in filled.database.quarantine.find({"status": "replayed"}):
        event, mark = sent[one["_id"]], one.pop("replayed")
        assert (mark["by"], mark["patch"]) == ("first", {"price": "0"})
        assert (mark["topic"], mark["partition"], mark["offset"]) == (event.topic, event.partition, event.offset)
        assert event.registered_at == one["registered_at"]
        assert {**one, "status": "open"} == records[one["_id"]]
    assert statuses(filled) == {"replayed": 5, "open": len(records) - 5}
    # Again, with the same mark or another, by a patch of any kind: what is replayed is not open any more.
    quarantined(filled)
    assert send(filled, by="second", reason="price", patch={"price": "1"}) == Sent(0, 0)
    assert len(replays(filled)) == 5


def test_an_interruption_between_acknowledgement_and_mark_is_repeatable(filled: Place) -> None:
    """Kafka has all, MongoDB knows of nothing: the same sources come again, with the same content and version but for their offsets."""
    send(filled, patch={"price": "0"})
    filled.database.quarantine.update_many({}, {"$set": {"status": "open"}, "$unset": {"replayed": True}})
    assert send(filled, patch={"price": "0"}).replayed == 5
    first, second = ({event.source: event for event in some} for some in (replays(filled)[::-1], replays(filled)))
    assert len(replays(filled)) == 10
    for source, event in second.items():
        assert first[source]._replace(offset=0, timestamp=0) == event._replace(offset=0, timestamp=0)
    for one in filled.database.quarantine.find({"status": "replayed"}):
        assert one["replayed"]["offset"] == max(event.offset for event in replays(filled) if event.source == one["_id"])


def test_only_records_of_the_preview_are_sent(filled: Place) -> None:
    decision = jobs.preview_run(filled.database, {}, SEND, filled.settings)
    assert decision.preview is not None
    filled.send([Event("ingest-product", 0, 0, 0, None, product(77))])
    quarantined(filled)
    assert send(filled, decision.preview["mark"], patch={"price": "0"}).replayed == 5
    assert send(filled, patch={"price": "0"}).replayed == 1


def test_a_record_that_is_valid_without_a_patch_is_sent_unchanged(filled: Place) -> None:
    """As when the rules have changed: these records were made by others."""
    filled.send([Event("ingest-product", 0, 0, 0, None, value := product(1, price=12.50))])
    (event,) = (one for one in filled.log() if one.value == value)
    place = {"topic": event.topic, "partition": event.partition, "offset": event.offset, "registered_at": event.timestamp, "position": 0}
    record = {"timestamp": datetime.fromtimestamp(event.timestamp / 1000, UTC), "reason": "price", "raw": value, "source": "api"}
    filled.database.quarantine.insert_one({"_id": event.source, **place, **record, "status": "open"})
    quarantined(filled)
    assert send(filled, patch={"price": "0", "id": "5"}).replayed == 7
    assert [one.value for one in replays(filled) if one.source == event.source] == [value]
    mark = filled.database.quarantine.find_one({"_id": event.source}) or {}
    assert mark["replayed"]["patch"] == {}
    (category,) = (one for one in replays(filled) if one.topic == filled.settings.category_topic)
    assert (category.key, json.loads(category.value or b"")) == (b"5", {"id": "5", "category_name": "Luggage"})


def test_validity_is_decided_by_kafkas_timestamp(filled: Place) -> None:
    """By MongoDB's clock a day has come that by Kafka's has not: what is rejected again is not marked, and is sent when that has come."""
    far = product(5, price=1, date=(datetime.now(UTC) + timedelta(hours=30)).isoformat())
    filled.send([Event("ingest-product", 0, 0, 0, None, far)])
    quarantined(filled)
    record = filled.database.quarantine.find_one({"reason": "date"}) or {}
    moved = {"timestamp": record["timestamp"] + timedelta(days=1)}
    filled.database.quarantine.update_one({"_id": record["_id"]}, {"$set": moved})
    decision = jobs.preview_run(filled.database, {"reason": "date"}, SEND, filled.settings)
    assert decision.preview is not None
    assert decision.preview["valid"] == 1
    assert send(filled, reason="date") == Sent(0, 1)
    assert len(replays(filled)) == 1
    assert (filled.database.quarantine.find_one({"_id": record["_id"]}) or {})["status"] == "open"


def test_nothing_is_sent_if_the_stream_uses_other_rules(filled: Place, wording: Wording) -> None:
    filled.database.state.update_one({"_id": "ledger"}, {"$set": {"rules": "former"}})
    for act in (lambda: send(filled, patch={"price": "0"}), lambda: jobs.preview_run(filled.database, {}, SEND, filled.settings)):
        with pytest.raises(OtherRules) as refused:
            act()
        wording.check(str(refused.value), rules=RULES.fingerprint())
    assert replays(filled) == []


def test_unacknowledged_records_are_not_marked(filled: Place) -> None:
    decision = jobs.preview_run(filled.database, {}, SEND, filled.settings)
    assert decision.preview is not None
    elsewhere = {"bootstrap.servers": f"127.0.0.1:{free_ports(1)[0]}", **RECOMMENDED, "log_level": 0}
    impatient, patch = Settings(acknowledge_seconds=1), {"patch": {"price": "0"}}
    with pytest.raises(NotAcknowledged):
        jobs.send(filled.database, lambda: Producer(elsewhere), elsewhere, patch, decision.preview["mark"], "a run", impatient)
    with pytest.raises(UnsafeProducer):
        jobs.send(filled.database, lambda: Producer({}), {**RECOMMENDED, "acks": 1}, patch, [], "a run", impatient)
    assert statuses(filled).keys() == {"open"}


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no such reason": ({"reason": "colour"}, SEND),
    "withdrawn": ({"reason": "withdrawn"}, SEND),
    "no such file": ({"file": "none.csv"}, SEND),
    "no moment": ({"since": "yesterday"}, SEND),
    "no such field": ({"patch": {"colour": "red"}}, SEND),
    "discarded without a reason": ({"why": " "}, DISCARD),
}


@pytest.mark.parametrize("what", INVALID)
def test_invalid_requests_are_refused(place: Place, what: str, wording: Wording) -> None:
    parameters, step = INVALID[what]
    with pytest.raises(InvalidRequest) as refused:
        jobs.preview_run(place.database, parameters, step, place.settings)
    wording.check(str(refused.value))


def test_discarding_sends_no_events(filled: Place) -> None:
    before = filled.ends()
    decision = jobs.preview_run(filled.database, {"reason": "malformed", "why": "test rows"}, DISCARD, filled.settings)
    assert decision.preview is not None
    for expected in (3, 0):
        assert (
            jobs.discard(filled.database, {"reason": "malformed", "why": "test rows"}, decision.preview["mark"], "a run", NAMES) == expected
        )
    assert {one["discarded"]["why"] for one in filled.database.quarantine.find({"status": "discarded"})} == {"test rows"}
    assert statuses(filled)["discarded"] == 3
    assert send(filled, patch={"price": "0"}).replayed == 5
    assert filled.ends() != before
    assert len(replays(filled)) == 5


def test_the_command_line(filled: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    price = ["--reason", "price", "--patch", "price=0"]
    text = jobs.preview_run(filled.database, {"reason": "price", "patch": {"price": "0"}}, SEND, filled.settings).text
    caplog.clear()
    assert replay.main([*price, "--preview"]) == 0
    assert any(text in message for message in caplog.messages)
    assert replays(filled) == []
    assert replay.main(price) == 0
    assert len(replays(filled)) == 5
    assert replay.main(["--reason", "stars", "--file", "bad.csv", "--discard", "not worth it"]) == 0
    assert statuses(filled)["discarded"] == 1
    caplog.clear()
    assert replay.main(["--file", "none.csv"]) == 1
    with pytest.raises(InvalidRequest) as refused:
        jobs.preview_run(filled.database, {"file": "none.csv"}, SEND, filled.settings)
    assert caplog.messages[-1] == str(refused.value)


def test_concurrent_runs_wait_for_each_other(filled: Place, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setattr(jobs, "_LEASE_SECONDS", 0.5)
    with lease(filled.database, "quarantine", "another run", 1):
        held = filled.database.state.find_one({"holder": "another run"}) or {}
        with pytest.raises(Busy) as refused:
            send(filled, patch={"price": "0"})
    wording.check(str(refused.value), since=f"{held['since']:%Y-%m-%d %H:%M}")
    assert replays(filled) == []
    assert send(filled, patch={"price": "0"}).replayed == 5
