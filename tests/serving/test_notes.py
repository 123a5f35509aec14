"""What is written down only to be shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pymongo.database import Database
from pymongo.errors import PyMongoError
from support.servers import free_ports

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import notes, offsets
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.notes import Work

pytestmark = pytest.mark.servers


def noted(database: Database[Document]) -> Work:
    """All that has been noted, in whichever minute that was."""
    minutes = list(database.stream_minute.find())
    for one in minutes:
        assert one["minute"] == one["_id"] == one["_id"].replace(second=0, microsecond=0)
        assert abs((datetime.now(UTC) - one["minute"]).total_seconds()) < 600
    return Work(*(sum(one[name] for one in minutes) for name in ("micro_batches", "events", "rejected", "busy_milliseconds")))


def test_work_is_summed_per_minute(database: Database[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MAX_SECONDS", 30)  # of what is given up it is not known whether it counts
    done = Work()
    for more in (Work(1, 500, 3, 700), Work(2, 70_000, 0, 5_000), Work(1, 1, 1, 90)):
        before, done = done, done.plus(more)
        notes.add_work(database, done.since(before))
        assert noted(database) == done
    assert database.stream_minute.count_documents({}) <= 2


def test_work_per_minute_expires(database: Database[Document]) -> None:
    (index,) = (one for one in database.stream_minute.index_information().values() if "expireAfterSeconds" in one)
    assert (index["key"], index["expireAfterSeconds"]) == ([("minute", 1)], notes.KEPT_SECONDS)


def test_noting_does_not_wait_for_an_unreachable_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MAX_SECONDS", 0.2)
    with connect(f"mongodb://127.0.0.1:{free_ports(1)[0]}", within_seconds=600) as client, pytest.raises(PyMongoError):
        notes.add_work(database_of(client, "away"), Work(1, 1, 0, 1))


def test_the_reach_of_the_raw_history_is_noted(database: Database[Document]) -> None:
    for end in (7, 12):
        mark = TideMark({TopicPartition("products", 0): end, TopicPartition("products", 1): 3})
        notes.record_landing(database, mark)
        found = database.state.find_one({"_id": "landed"}) or {}
        assert offsets.from_documents(found["offsets"]) == mark
        assert abs((datetime.now(UTC) - found["landed_at"]).total_seconds()) < 60
