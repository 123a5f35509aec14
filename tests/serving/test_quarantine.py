"""Records of the quarantine: which are meant, how they are marked, and what a rebuild makes of the marks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from support.names import NAMES
from support.registered import register
from support.wording import Wording

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import quarantine
from tidemark.serving.database import Document
from tidemark.serving.quarantine import InvalidRequest, Replayed, Selection

pytestmark = pytest.mark.servers

MOMENT = datetime(2023, 10, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERVED = TideMark({TopicPartition("products", 0): 100, TopicPartition("categories", 0): 5})


def record_of(identity: str, **fields: Any) -> Document:
    place = {"topic": "products", "partition": 0, "offset": 7, "timestamp": MOMENT, "registered_at": 17, "position": 0}
    return {"_id": identity, **place, "reason": "price", "raw": b"{}", "source": "api", "status": "open", **fields}


def insert(database: Database[Document], identity: str, **fields: Any) -> Document:
    record = record_of(identity, **fields)
    database.quarantine.insert_one(record)
    return record


def selected(database: Database[Document], below: TideMark = SERVED, **by: Any) -> set[str]:
    query = quarantine.selected(database, Selection(**by), below, NAMES)
    found = {one["_id"] for some in quarantine.records(database, query) for one in some}
    assert sum(quarantine.count(database, query).values()) == len(found)
    return found


def test_records_are_selected_by_reason_file_and_time(database: Database[Document]) -> None:
    for name in ("b.csv", "c.csv"):
        register(database, name, f"/in/{name}")
    insert(database, "a", timestamp=MOMENT - HOUR)
    insert(database, "b", reason="stars", source={"ingestion": "b.csv", "position": 5, "file": "b.csv"})
    insert(database, "category", topic="categories", offset=4, reason="id", timestamp=MOMENT + HOUR)
    for status in ("replayed", "discarded", "healed"):
        insert(database, status, status=status)
    insert(database, "withdrawn", reason="withdrawn")
    insert(database, "not served", offset=100)
    insert(database, "of another partition", partition=1, offset=0)
    assert selected(database) == {"a", "b", "category"}
    assert selected(database, TideMark()) == set()
    assert selected(database, reason="price") == {"a"}
    assert selected(database, reason="title") == set()
    assert selected(database, file="b.csv") == selected(database, file="/in/b.csv") == {"b"}
    assert selected(database, file="c.csv") == set()
    assert selected(database, file="api") == {"a", "category"}
    assert selected(database, since=MOMENT) == {"b", "category"}
    assert selected(database, until=MOMENT) == {"a"}
    assert selected(database, since=MOMENT, until=MOMENT + HOUR, reason="stars") == {"b"}


INVALID_SELECTIONS = {
    "a withdrawn ingestion": Selection(reason="withdrawn"),
    "a file that is not there": Selection(file="none.csv"),
    "no time": Selection(since=MOMENT, until=MOMENT),
}


@pytest.mark.parametrize("selection", INVALID_SELECTIONS.values(), ids=INVALID_SELECTIONS)
def test_invalid_selections_are_refused(database: Database[Document], selection: Selection, wording: Wording) -> None:
    with pytest.raises(InvalidRequest) as refused:
        quarantine.selected(database, selection, SERVED, NAMES)
    wording.check(str(refused.value))


def test_records_are_read_in_bounded_lists(database: Database[Document]) -> None:
    for number in range(40):
        insert(database, f"large {number}", raw=b"x" * 1_000_000)
    query = quarantine.selected(database, Selection(), SERVED, NAMES)
    lists = list(quarantine.records(database, query))
    assert max(len(some) for some in lists) == 17
    database.quarantine.delete_many({})
    database.quarantine.insert_many([record_of(str(number)) for number in range(2_500)])
    seen: list[str] = []
    for some in quarantine.records(database, query):
        assert len(some) <= 1_000
        seen += [one["_id"] for one in some]
        quarantine.mark_replayed(database, [Replayed(one["_id"], {}, "products", 0, 9) for one in some], "a run")
    assert sorted(seen) == sorted(str(number) for number in range(2_500)), "each once, marked or not"
    assert selected(database) == set()


def test_records_are_read_in_log_order(database: Database[Document]) -> None:
    order = [("categories", 0, 4), ("products", 0, 9), ("products", 0, 10), ("products", 2, 3), ("products", 10, 1)]
    for topic, partition, offset in reversed(order):
        insert(database, f"{topic}/{partition}/{offset}", topic=topic, partition=partition, offset=offset)
    query = quarantine.selected(database, Selection(), TideMark({TopicPartition(*one[:2]): 11 for one in order}), NAMES)
    (some,) = quarantine.records(database, query)
    assert [(one["topic"], one["partition"], one["offset"]) for one in some] == order


def test_records_without_a_registration_time_are_completed(database: Database[Document]) -> None:
    registered_at = register(database, "i", "/in/a")
    insert(database, "file", source={"ingestion": "i", "position": 5, "file": "a"})
    insert(database, "unknown", source={"ingestion": "?", "position": 6, "file": None})
    insert(database, "api")
    insert(database, "newer", registered_at=3, position=4)
    database.quarantine.update_many({"_id": {"$ne": "newer"}}, {"$unset": {"registered_at": True, "position": True}})
    query = quarantine.selected(database, Selection(), SERVED, NAMES)
    found = {one["_id"]: (one["registered_at"], one["position"]) for some in quarantine.records(database, query) for one in some}
    registered, stored = (int(moment.timestamp() * 1000) for moment in (registered_at, MOMENT))
    assert found == {"file": (registered, 5), "unknown": (stored, 6), "api": (stored, 0), "newer": (3, 4)}


def test_records_are_marked_once(database: Database[Document]) -> None:
    for identity in ("a", "b", "c"):
        insert(database, identity)
    done = [Replayed("a", {"price": "$0"}, "products", 1, 8), Replayed("b", {}, "products", 2, 9)]
    assert quarantine.mark_replayed(database, done, "the $run") == 2
    before = list(database.quarantine.find().sort("_id"))
    mark = before[0]["replayed"]
    assert {name: value for name, value in mark.items() if name != "at"} == {
        **{"by": "the $run", "patch": {"price": "$0"}, "topic": "products", "partition": 1, "offset": 8}
    }
    assert abs(mark["at"] - datetime.now(UTC)) < HOUR
    assert [one["status"] for one in before] == ["replayed", "replayed", "open"]
    assert [quarantine.replay_of(one) for one in before] == [("products", 1, 8), ("products", 2, 9), None]
    assert quarantine.mark_replayed(database, [done[0]._replace(offset=99)], "another") == 0
    assert quarantine.mark_replayed(database, [], "another") == 0
    assert list(database.quarantine.find().sort("_id")) == before
    query = quarantine.selected(database, Selection(), SERVED, NAMES)
    assert quarantine.discard(database, query, "$test rows", "a run") == 1
    assert quarantine.discard(database, query, "again", "another") == 0
    found = database.quarantine.find_one({"_id": "c"}) or {}
    assert (found["status"], found["discarded"]["why"], found["discarded"]["by"]) == ("discarded", "$test rows", "a run")


class TestRestore:
    """Event 7 of partition 0 is the original, event 8 of partition 1 its replay."""

    ORIGINAL, REPLAY = ({"topic": "products", "partition": partition, "offset": offset} for partition, offset in ((0, 7), (1, 8)))

    def restored(self, database: Database[Document], record: Document, *rejected: Document) -> Document:
        events = [{**one, "reason": "price"} for one in rejected]
        quarantine.replace_records(database.quarantine, [({**record, "reason": "$price"}, events)])
        found = database.quarantine.find_one({"_id": record["_id"]})
        assert found is not None
        fields = {**record, "reason": "$price"}
        del fields["status"]
        assert {name: found[name] for name in fields} == fields
        return found

    def test_a_missing_record_is_restored_as_open(self, database: Database[Document]) -> None:
        record = insert(database, "a")
        database.quarantine.delete_many({})
        assert self.restored(database, record, self.ORIGINAL)["status"] == "open"
        withdrawn = {**record, "_id": "w", "status": "discarded"}
        assert self.restored(database, withdrawn, self.ORIGINAL)["status"] == "discarded"

    @pytest.mark.parametrize("status", quarantine.STATUSES)
    def test_a_valid_replay_settles_its_record(self, database: Database[Document], status: str) -> None:
        record = insert(database, "a")
        quarantine.mark_replayed(database, [Replayed("a", {"price": "0"}, "products", 1, 8)], "a run")
        marked = database.quarantine.find_one({}) or {}
        database.quarantine.update_one({}, {"$set": {"status": status}})
        found = self.restored(database, record, self.ORIGINAL)
        assert (found["status"], found["replayed"]) == ("replayed", marked["replayed"])

    @pytest.mark.parametrize("status", quarantine.STATUSES)
    def test_a_rejected_replay_does_not_settle_its_record(self, database: Database[Document], status: str) -> None:
        record = insert(database, "a")
        quarantine.mark_replayed(database, [Replayed("a", {"price": "0"}, "products", 1, 8)], "a run")
        database.quarantine.update_one({}, {"$set": {"status": status}})
        found = self.restored(database, record, self.ORIGINAL, self.REPLAY)
        assert (found["status"], found["replayed"]["patch"]) == ("open", {"price": "0"})

    @pytest.mark.parametrize("status", ["discarded", "healed"])
    def test_a_discarded_record_stays_discarded(self, database: Database[Document], status: str) -> None:
        record = insert(database, "a")
        quarantine.discard(database, {"_id": "a"}, "test rows", "a run")
        database.quarantine.update_one({}, {"$set": {"status": status}})
        found = self.restored(database, record, self.ORIGINAL)
        assert (found["status"], found["discarded"]["why"]) == ("discarded", "test rows")

    def test_a_healed_record_is_reopened(self, database: Database[Document]) -> None:
        record = insert(database, "a", status="healed")
        assert self.restored(database, {**record, "status": "open"}, self.ORIGINAL)["status"] == "open"
