"""What maintenance deletes because of its age, and what it leaves."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from math import inf

import pytest
from pymongo.database import Database
from support.states import publish

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark
from tidemark.serving import history, retention
from tidemark.serving.database import Document
from tidemark.settings import Settings

pytestmark = pytest.mark.servers

NOW = datetime(2024, 6, 30, 5, tzinfo=UTC)
DAY = timedelta(days=1)
KEPT = Settings(keep_history_days=10, keep_verifications_days=20, keep_settled_days=30)


def test_days_of_the_history_go_with_their_cells(database: Database[Document]) -> None:
    cells = {Cell(1, None, False): (1,) * len(MEASURES)}
    for day in (date(2024, 6, 1), date(2024, 6, 19), date(2024, 6, 20), date(2024, 6, 29)):
        history.put(database, day, TideMark(), "rules", cells)
    assert retention.delete_old(database, KEPT, NOW)["days of the history"] == 2
    kept = {date(2024, 6, 20), date(2024, 6, 29)}
    assert history.labels(database).keys() == kept
    assert {one["day"].date() for one in database.history.find()} == kept
    assert retention.oldest_day(KEPT, NOW) == min(kept)


def test_verifications_of_publications_stay(database: Database[Document]) -> None:
    publish(database, 3)
    database.verification.insert_many([{"_id": number, "at": NOW - number * 10 * DAY, "drift": 0} for number in range(1, 5)])
    assert retention.delete_old(database, KEPT, NOW)["verifications"] == 1
    assert database.verification.distinct("_id") == [1, 2, 3]


def test_the_raw_bytes_of_settled_records_go_and_the_records_stay(database: Database[Document]) -> None:
    place = {"topic": "products", "partition": 0, "offset": 7, "reason": "price", "raw": b"{}", "source": "api"}
    database.quarantine.insert_many(
        {**place, "_id": f"{status} {days}", "status": status, "timestamp": NOW - days * DAY}
        for status in ("open", "replayed", "discarded", "healed")
        for days in (29, 31)
    )
    assert retention.delete_old(database, KEPT, NOW)["raw bytes in quarantine"] == 3
    assert set(database.quarantine.distinct("_id", {"raw": None})) == {"replayed 31", "discarded 31", "healed 31"}
    assert database.quarantine.count_documents({}) == 8


def test_nothing_is_deleted_twice_or_without_a_limit(database: Database[Document]) -> None:
    history.put(database, date(2004, 6, 1), TideMark(), "rules", {})
    database.verification.insert_one({"_id": 1, "at": NOW - 9_999 * DAY, "drift": 0})
    never = Settings(keep_history_days=inf, keep_verifications_days=inf, keep_settled_days=inf)
    assert set(retention.delete_old(database, never, NOW).values()) == {0}
    assert retention.oldest_day(never, NOW) is None
    assert list(retention.delete_old(database, KEPT, NOW).values()) == [1, 1, 0]
    assert list(retention.delete_old(database, KEPT, NOW).values()) == [0, 0, 0]
