"""Deletes what has become old: verifications, days of the history, and the raw bytes of quarantine records that are settled.

No report depends on any of it, and the raw history keeps every event. What is deleted can be computed again, except for verifications.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from math import isinf

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.serving import quarantine
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.history import start_of
from tidemark.settings.sections import BatchSettings


def delete_old(database: Database[Document], of: BatchSettings, now: datetime) -> dict[str, int]:
    """Deletes what is older than the settings allow; returns the numbers by kind. Idempotent, and can be interrupted at any moment."""
    return {
        "verifications": _delete_verifications(database, _before(of.keep_verifications_days, now)),
        "days of the history": _delete_days(database, oldest_day(of, now)),
        "raw bytes in quarantine": _forget_raw(database, _before(of.keep_settled_days, now)),
    }


def oldest_day(of: BatchSettings, now: datetime) -> date | None:
    """The oldest day of the history that is kept; None if all are."""
    moment = _before(of.keep_history_days, now)
    return moment and moment.date()


def _before(days: float, now: datetime) -> datetime | None:
    return None if isinf(days) else now - timedelta(days=days)


def _delete_verifications(database: Database[Document], before: datetime | None) -> int:
    if before is None:
        return 0
    needed = database.publication.distinct("_id")
    return database.verification.delete_many({"at": {"$lt": before}, "_id": {"$nin": needed}}).deleted_count


def _delete_days(database: Database[Document], oldest: date | None) -> int:
    if oldest is None:
        return 0
    old = [one["_id"] for one in database.history_day.find({"_id": {"$lt": start_of(oldest)}}, {"_id": True}).sort("_id")]
    for day in old:

        def delete(session: ClientSession, day: datetime = day) -> None:
            # The label first, as a write of the same day does, so that the two conflict at once.
            database.history_day.delete_one({"_id": day}, session=session)
            database.history.delete_many({"day": day}, session=session)

        in_transaction(database, delete)
    return len(old)


def _forget_raw(database: Database[Document], before: datetime | None) -> int:
    """A record that must be open again, as after a withdrawal is taken back, is written anew from the raw history."""
    if before is None:
        return 0
    settled = {"status": {"$in": [*{*quarantine.STATUSES} - {quarantine.OPEN}]}, "timestamp": {"$lt": before}, "raw": {"$ne": None}}
    return database.quarantine.update_many(settled, {"$set": {"raw": None}}).modified_count
