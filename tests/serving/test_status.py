"""The one document that says how everything stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database
from support.recompute import MEASURES
from support.registered import register
from support.states import publish, serve
from support.wording import Wording

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import ingestions, ledger, notes
from tidemark.serving.database import Document
from tidemark.serving.ledger import MicroBatch
from tidemark.serving.status import state

pytestmark = pytest.mark.servers

MOMENT = datetime(2023, 10, 31, 12, 0, 0, 5_000, tzinfo=UTC)
P0 = TopicPartition("products", 0)


def test_the_state_of_an_empty_database(database: Database[Document]) -> None:
    found = state(database)
    assert found["stream"] == {
        **{"alive": False, "generation": 0, "rebuilding": None, "started_at": None, "committed_at": None, "offsets": []},
        "last_micro_batch": None,
        "control": {**dict.fromkeys(("by", "since", "reason", "stopped_at")), "paused": False, "held": False},
    }
    assert found["log"] == {"offsets": [], "measured_at": None, "lag": None, "topics": [], "durability": None}
    assert (found["quarantine"], found["ingestions"]) == ({}, {"served": 0, "under_way": 0, "newest": []})
    assert (found["partitions"], found["rates"], found["publications"]) == ([], [], [])
    assert found["raw_history"] == {"offsets": [], "landed_at": None}
    assert (found["freshness"]["publication"], found["summary"]["products"]) == (0, 0)
    assert json.loads(json.dumps(found)) == found


def test_the_complete_state(database: Database[Document]) -> None:
    publish(database, 2, mark=TideMark({P0: 2}), at=MOMENT)
    serve(database, {(1, 5, True): dict.fromkeys(MEASURES, 3)})
    serve(database, {(1, 5, True): dict.fromkeys(MEASURES, -1)})
    generation = ledger.start_generation(database, "rules", {"products": "id"}).generation
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 10}), {}, newest_event=MOMENT, progress={"events": 8, "behind": None}))
    ends = [{"topic": "products", "partition": partition, "start": 0, "offset": offset} for partition, offset in ((0, 12), (1, 3))]
    database.state.insert_one({"_id": "log_end", "offsets": ends, "measured_at": datetime.now(UTC)})
    for number, (reason, status) in enumerate((("asin", "open"), ("date", "open"), ("asin", "open"), ("stars", "healed"))):
        record = {"topic": "products", "partition": 0, "offset": number, "timestamp": MOMENT, "raw": None, "source": "api"}
        database.quarantine.insert_one({"_id": str(number), "reason": reason, "status": status, **record})
    for identity in ("a", "b"):
        register(database, identity, "/in/a.csv")
    database.ingestion.update_one({"_id": "a"}, {"$set": {"registered_at": MOMENT}})
    ingestions.finish_chunk(database, "a", 0, 1, TideMark({P0: 10}), 0)
    notes.record_landing(database, TideMark({P0: 7}))
    found = state(database)
    assert json.loads(json.dumps(found)) == found
    assert found["freshness"]["published_at"] == "2023-10-31T12:00:00.005Z"
    assert found["freshness"]["events_behind"] == 5
    assert found["summary"]["products"] == 2
    assert (found["stream"]["alive"], found["stream"]["generation"]) == (True, generation)
    assert found["stream"]["offsets"] == [{"topic": "products", "partition": 0, "offset": 10}]
    assert found["stream"]["last_micro_batch"] == {"events": 8, "behind": None}
    assert found["log"]["offsets"] == ends
    assert found["log"]["lag"] == [
        {"topic": "products", "partition": 0, "events": 2},
        {"topic": "products", "partition": 1, "events": 3},
    ]
    assert found["quarantine"] == {"asin": 2, "date": 1}
    assert (found["ingestions"]["served"], found["ingestions"]["under_way"]) == (1, 1)
    assert [(one["ingestion"], one["served"], one["accepted"]) for one in found["ingestions"]["newest"]] == [
        ("b", False, None),
        ("a", True, 1),
    ]
    columns = ("topic", "partition", "log_start", "published", "landed", "served", "log_end", "behind")
    assert [tuple(one[name] for name in columns) for one in found["partitions"]] == [
        ("products", 0, 0, 2, 7, 10, 12, 2),
        ("products", 1, 0, 0, 0, 0, 3, 3),
    ]
    assert found["raw_history"]["offsets"] == [{"topic": "products", "partition": 0, "offset": 7}]
    assert [(one["publication"], one["is_served"], one["events"]) for one in found["publications"]] == [(2, True, 2)]


def test_the_work_of_the_last_hour_per_minute(database: Database[Document]) -> None:
    this_minute = datetime.now(UTC).replace(second=0, microsecond=0)
    for ago in (90, 50, 2):
        work = {"micro_batches": 2, "events": ago, "rejected": 1, "busy_milliseconds": 300}
        minute = this_minute - timedelta(minutes=ago)
        database.stream_minute.insert_one({"_id": minute, "minute": minute, **work})
    found = state(database)
    assert [one["events"] for one in found["rates"]] == [50, 2]
    minutes = [datetime.fromisoformat(one["minute"]) for one in found["rates"]]
    assert minutes == [this_minute - timedelta(minutes=ago) for ago in (50, 2)]
    assert datetime.fromisoformat(found["at"]) - minutes[-1] < timedelta(minutes=5)


def test_the_newest_ingestions_and_publications_are_listed(database: Database[Document]) -> None:
    for number in range(1, 15):
        publish(database, number, at=MOMENT + timedelta(days=number))
        register(database, f"{number:02}", f"/in/{number}.csv")
        database.ingestion.update_one({"_id": f"{number:02}"}, {"$set": {"registered_at": MOMENT + timedelta(days=number)}})
    found = state(database)
    assert [one["publication"] for one in found["publications"]] == list(range(14, 4, -1))
    assert [one["name"] for one in found["ingestions"]["newest"]] == [f"{number}.csv" for number in range(14, 4, -1)]


def test_lag_is_null_unless_measured_within_a_minute(database: Database[Document]) -> None:
    ends = [{"topic": "products", "partition": 0, "start": 0, "offset": 12}]
    database.state.insert_one({"_id": "log_end", "offsets": ends, "measured_at": datetime.now(UTC) - timedelta(seconds=70)})
    found = state(database)
    assert found["log"]["lag"] is None
    assert found["log"]["offsets"] == ends


def test_durability_is_that_of_the_weakest_topic(database: Database[Document], wording: Wording) -> None:
    database.state.insert_one({"_id": "log_end", "offsets": [], "measured_at": datetime.now(UTC)})

    def durability(*topics: tuple[int, bool]) -> str:
        documents = [{"topic": str(number), "copies": copies, "flushed": flushed} for number, (copies, flushed) in enumerate(topics)]
        database.state.update_one({"_id": "log_end"}, {"$set": {"topics": documents}})
        log = state(database)["log"]
        assert log["topics"] == documents
        return str(log["durability"])

    for topics in (((1, False),), ((1, True),), ((2, False),), ((2, True),)):
        wording.check(durability(*topics), str(topics))
    assert durability((2, True), (1, True)) == durability((1, True))
    assert durability((1, True), (1, False)) == durability((1, False))


def test_a_stream_without_a_heartbeat_is_not_alive(database: Database[Document]) -> None:
    ledger.start_generation(database, "rules", {})
    assert state(database)["stream"]["alive"]
    database.state.update_one({"_id": "ledger"}, {"$set": {"heartbeat": datetime.now(UTC) - timedelta(seconds=40)}})
    assert not state(database)["stream"]["alive"]


def test_an_unprepared_database_is_named(database: Database[Document], wording: Wording) -> None:
    with pytest.raises(LookupError) as refused:
        state(database.client.get_database("nothing_here"))
    wording.check(str(refused.value))
