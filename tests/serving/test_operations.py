"""The views of how all of it runs, of states made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from support.registered import register
from support.states import publish

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import ingestions, ledger, notes
from tidemark.serving.database import Document
from tidemark.serving.ingestions import Chunk
from tidemark.serving.ledger import MicroBatch

pytestmark = pytest.mark.servers

MOMENT = datetime(2023, 10, 31, 12, tzinfo=UTC)
P0, P1 = TopicPartition("products", 0), TopicPartition("products", 1)

FRESHNESS = {
    *("publication", "mark", "published_at", "newest_observation", "newest_event", "heartbeat", "seconds_since_heartbeat"),
    *("events_behind", "measured_at", "drift", "quarantined", "rules"),
}


def freshness(database: Database[Document]) -> Document:
    (found,) = database.report_freshness.find()
    assert found.keys() == FRESHNESS
    return found


def test_freshness_of_an_empty_database(database: Database[Document]) -> None:
    assert freshness(database) == {**dict.fromkeys(FRESHNESS), "publication": 0, "mark": [], "quarantined": 0}


def test_freshness(database: Database[Document]) -> None:
    mark = TideMark({P0: 3})
    publish(database, 4, mark=mark, at=MOMENT)
    generation = ledger.start_generation(database, "these rules", {"products": "id"}).generation
    times = {"newest_event": MOMENT, "newest_observation": MOMENT - timedelta(days=1)}
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 10, P1: 5}), {}, **times))
    for at, drift in ((MOMENT, 5), (MOMENT + timedelta(days=1), 2), (MOMENT - timedelta(days=1), 7)):
        database.verification.insert_one({"at": at, "drift": drift})
    for number, status in enumerate(("open", "open", "replayed", "discarded", "healed")):
        record = {
            "topic": "products",
            "partition": 0,
            "offset": number,
            "timestamp": MOMENT,
            "reason": "asin",
            "raw": None,
            "source": "api",
        }
        database.quarantine.insert_one({"_id": str(number), "status": status, **record})
    found = freshness(database)
    assert found["publication"] == 4
    assert found["mark"] == [{"topic": "products", "partition": 0, "offset": 3}]
    assert (found["published_at"], found["newest_event"], found["newest_observation"]) == (MOMENT, MOMENT, MOMENT - timedelta(days=1))
    assert (found["drift"], found["quarantined"], found["rules"]) == (2, 2, "these rules")
    assert found["heartbeat"] == (database.state.find_one({"_id": "ledger"}) or {})["heartbeat"]
    assert 0 <= found["seconds_since_heartbeat"] < 30
    database.state.update_one({"_id": "ledger"}, {"$set": {"heartbeat": datetime.now(UTC) - timedelta(seconds=1000)}})
    assert 999 < freshness(database)["seconds_since_heartbeat"] < 1030


def test_lag_is_null_unless_measured_within_a_minute(database: Database[Document]) -> None:
    generation = ledger.start_generation(database, "rules", {}).generation
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 10, P1: 5}), {}))
    ends = [
        {"topic": "products", "partition": 0, "start": 0, "offset": 12},  # 2 behind
        {"topic": "products", "partition": 1, "start": 0, "offset": 4},  # looked at before the stream went on
        {"topic": "products", "partition": 2, "start": 0, "offset": 7},  # a new partition
        {"topic": "others", "partition": 0, "start": 0, "offset": 1},
    ]
    for seconds, behind in ((0, 10), (50, 10), (70, None)):
        measured_at = (datetime.now(UTC) - timedelta(seconds=seconds)).replace(microsecond=0)
        database.state.replace_one({"_id": "log_end"}, {"offsets": ends, "measured_at": measured_at}, upsert=True)
        found = freshness(database)
        assert (found["events_behind"], found["measured_at"]) == (behind, measured_at if behind is not None else None)


def test_an_ingestion_is_served_once_the_stream_reaches_all_its_end_offsets(database: Database[Document]) -> None:
    plan = [Chunk(0, 0, 50, 4, "00"), Chunk(1, 50, 90, 3, "01")]
    registered_at = register(database, "i", "/in/a.csv", *plan, observed_at=MOMENT)
    generation = ledger.start_generation(database, "rules", {}).generation

    def progress() -> dict[str, Any]:
        (found,) = database.ingestion_progress.find()
        return found

    assert progress() == {
        **{"_id": "i", "kind": "product", "file": "/in/a.csv", "name": "a.csv", "bytes": 90, "rows": 7},
        **{
            "observed_at": MOMENT,
            "registered_at": registered_at,
            "chunks": 2,
            "done": 0,
            "acknowledged": 0,
            "served": False,
            "withdrawn": None,
        },
    }
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 4}), {}))
    ingestions.finish_chunk(database, "i", 0, 4, TideMark({P0: 4}), 0)
    assert (progress()["done"], progress()["acknowledged"], progress()["served"]) == (1, 4, False)
    ingestions.finish_chunk(database, "i", 1, 3, TideMark({P0: 5, P1: 2}), 0)
    assert (progress()["done"], progress()["acknowledged"], progress()["served"]) == (2, 7, False)
    ledger.commit(database, generation, MicroBatch(1, TideMark({P0: 9}), {}))
    assert not progress()["served"]
    ledger.commit(database, generation, MicroBatch(2, TideMark({P0: 9, P1: 2}), {}))
    assert progress()["served"]


def test_rows_of_a_file_are_counted_once_all_are_served(database: Database[Document]) -> None:
    generation = ledger.start_generation(database, "rules", {}).generation
    for name, ends in (("served", 5), ("under way", 9), ("corrected", 5)):
        register(database, name, f"/in/{name}", Chunk(0, 0, 90, 4, "00"))
        ingestions.finish_chunk(database, name, 0, 4, TideMark({P0: ends}), 0)
        for position in range(3 if name != "corrected" else 0):
            quarantine(database, f"{name} {position}", "stars", {"ingestion": name, "position": position, "file": name})
    quarantine(database, "another", "asin", "api")
    # What is corrected, by a replay or by other rules, is accepted; what is discarded was rejected all the same.
    for number, status in enumerate(("replayed", "healed", "discarded")):
        quarantine(database, status, "stars", {"ingestion": "corrected", "position": number, "file": "corrected"})
        database.quarantine.update_one({"_id": status}, {"$set": {"status": status}})
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 5}), {}))
    found = {one["name"]: one for one in database.report_ingestion.find()}
    counts = {name: (one["file_rows"], one["sent"], one["accepted"], one["rejected"]) for name, one in found.items()}
    assert counts == {"served": (4, 4, 1, 3), "under way": (4, 4, None, None), "corrected": (4, 4, 3, 1)}


def test_rejections_name_their_origin(database: Database[Document]) -> None:
    quarantine(database, "a", "stars", {"ingestion": "i", "position": 17, "file": "a.csv"})
    quarantine(database, "b", "asin", "api")
    found = {one["id"]: (one["reason"], one["file"], one["ingestion"], one["position"]) for one in database.report_quarantine.find()}
    assert found == {"a": ("stars", "a.csv", "i", 17), "b": ("asin", "by the API", None, None)}


def test_offsets_of_each_layer_by_partition(database: Database[Document]) -> None:
    assert list(database.report_partition.find()) == []
    publish(database, 1, mark=TideMark({P0: 3}), at=MOMENT)
    generation = ledger.start_generation(database, "rules", {}).generation
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 10, P1: 5}), {}))
    notes.record_landing(database, TideMark({P0: 7}))
    ends = [{"topic": of.topic, "partition": of.partition, "start": 2, "offset": end} for of, end in ((P0, 12), (P1, 4))]
    database.state.replace_one({"_id": "log_end"}, {"offsets": ends, "measured_at": MOMENT}, upsert=True)
    columns = ("log_start", "published", "landed", "served", "log_end", "behind")
    found = {one["partition"]: tuple(one[name] for name in columns) for one in database.report_partition.find()}
    assert found == {0: (2, 3, 7, 10, 12, 2), 1: (2, 0, 0, 5, 4, 0)}


def test_publications_with_their_verification(database: Database[Document]) -> None:
    publish(database, 1, mark=TideMark({P0: 3}), at=MOMENT)
    publish(database, 2, mark=TideMark({P0: 7, P1: 4}), at=MOMENT)
    database.publication.insert_one({"_id": 3, "mark": [], "published_at": None, "rules": "r"})  # a draft
    database.verification.insert_one({"_id": 2, "at": MOMENT, "drift": 5})
    columns = ("events", "mark", "is_served", "drift")
    found = {
        one["publication"]: tuple(one[name] for name in columns) for one in database.report_publication.find({"publication": {"$gt": 0}})
    }
    assert found == {1: (3, "products/0:3", False, None), 2: (11, "products/0:7, products/1:4", True, 5)}


def test_differences_of_the_newest_verification(database: Database[Document]) -> None:
    products = [{"what": "B1", "how": "b"}, {"what": "B2", "how": "c"}]
    named = {"cell": [{"what": "category 1", "how": "a"}], "product": products, "category": []}
    database.verification.insert_one({"_id": 2, "at": MOMENT - timedelta(days=1), "drift": 1, "named": {"cell": products}})
    database.verification.insert_one({"_id": 1, "at": MOMENT, "drift": 3, "named": named})
    found = [(one["publication"], one["kind"], one["what"], one["how"]) for one in database.report_drift.find()]
    assert found == [(1, "cell", "category 1", "a"), (1, "product", "B1", "b"), (1, "product", "B2", "c")]


def test_missing_days_are_listed_as_not_computed(database: Database[Document]) -> None:
    assert list(database.report_day.find()) == []
    first = MOMENT.replace(hour=0)
    for number in (0, 1, 3):
        label = {"mark": [], "rules": "r", "digest": "d", "computed_at": MOMENT}
        database.history_day.insert_one({"_id": first + timedelta(days=number), **label})
    found = {one["day"]: (one["is_computed"], one["computed_at"]) for one in database.report_day.find()}
    computed = (True, MOMENT)
    assert found == dict(
        zip([first + timedelta(days=number) for number in range(4)], [computed, computed, (False, None), computed], strict=True)
    )


def quarantine(database: Database[Document], identity: str, reason: str, source: str | Document) -> None:
    place = {"topic": "products", "partition": 0, "offset": 0, "timestamp": MOMENT}
    database.quarantine.insert_one({"_id": identity, "status": "open", "reason": reason, "raw": None, "source": source, **place})
