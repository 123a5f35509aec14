"""The one document that says how everything stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database
from support.recompute import MEASURES
from support.states import publish, stream

from catalog.marks import TideMark, TopicPartition
from serving import ingestions, ledger
from serving.database import Document
from serving.ingestions import Chunk, Ingestion
from serving.ledger import MicroBatch
from serving.status import state

pytestmark = pytest.mark.servers

MOMENT = datetime(2023, 10, 31, 12, 0, 0, 5_000, tzinfo=UTC)
P0 = TopicPartition("products", 0)


def test_the_state_of_an_empty_database(database: Database[Document]) -> None:
    found = state(database)
    assert found["stream"] == {
        **{"alive": False, "generation": 0, "rebuilding": None, "started_at": None, "committed_at": None, "offsets": []},
        "last_micro_batch": None,
        "control": {**dict.fromkeys(("by", "since", "reason", "stopped_at")), "paused": False},
    }
    assert found["log"] == {"offsets": [], "looked_at": None, "lag": None}
    assert (found["quarantine"], found["ingestions"]) == ({}, {"served": 0, "under_way": 0})
    assert (found["freshness"]["publication"], found["summary"]["products"]) == (0, 0)
    assert json.loads(json.dumps(found)) == found


def test_the_whole_state(database: Database[Document]) -> None:
    publish(database, 2, {(1, 5, True): dict.fromkeys(MEASURES, 3)}, mark=TideMark({P0: 2}), at=MOMENT)
    stream(database, {(1, 5, True): dict.fromkeys(MEASURES, -1)})
    generation = ledger.start_generation(database, "rules", {"products": "id"}).generation
    ledger.commit(database, generation, MicroBatch(0, TideMark({P0: 10}), {}, newest_event=MOMENT, progress={"events": 8, "behind": None}))
    ends = [{"topic": "products", "partition": partition, "start": 0, "offset": offset} for partition, offset in ((0, 12), (1, 3))]
    database.state.insert_one({"_id": "log_end", "offsets": ends, "looked_at": datetime.now(UTC)})
    for number, (reason, status) in enumerate((("asin", "open"), ("date", "open"), ("asin", "open"), ("stars", "healed"))):
        record = {"topic": "products", "partition": 0, "offset": number, "timestamp": MOMENT, "raw": None, "source": "api"}
        database.quarantine.insert_one({"_id": str(number), "reason": reason, "status": status, **record})
    for identity in ("a", "b"):
        file = Ingestion(identity, "product", "/in/a.csv", "a.csv", 9, 1, "00", MOMENT)
        ingestions.register(database, file, [Chunk(0, 0, 9, 1, "00")])
    ingestions.finish_chunk(database, "a", 0, 1, TideMark({P0: 10}))
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
    assert found["ingestions"] == {"served": 1, "under_way": 1}


def test_lag_is_null_where_nobody_has_looked_within_a_minute(database: Database[Document]) -> None:
    ends = [{"topic": "products", "partition": 0, "start": 0, "offset": 12}]
    database.state.insert_one({"_id": "log_end", "offsets": ends, "looked_at": datetime.now(UTC) - timedelta(seconds=70)})
    found = state(database)
    assert found["log"]["lag"] is None
    assert found["log"]["offsets"] == ends


def test_a_stream_without_a_heartbeat_is_not_alive(database: Database[Document]) -> None:
    ledger.start_generation(database, "rules", {})
    assert state(database)["stream"]["alive"]
    database.state.update_one({"_id": "ledger"}, {"$set": {"heartbeat": datetime.now(UTC) - timedelta(seconds=40)}})
    assert not state(database)["stream"]["alive"]


def test_a_database_that_is_not_prepared_is_named(database: Database[Document]) -> None:
    with pytest.raises(LookupError, match=r"nothing_here .*python -m serving\.schema"):
        state(database.client.get_database("nothing_here"))
