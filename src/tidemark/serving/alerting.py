"""A look at the state, and what follows: alerts are kept, and whoever is to be told is told.

An alert counts as told once sending has succeeded. So it is told at least once: what could not be sent is sent at the next look, and
who is ended between sending and writing that down sends it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from bson import json_util
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.serving import alerts
from tidemark.serving.alerts import Alert, Condition, Message, Sample, Watch
from tidemark.serving.database import Document, brief
from tidemark.serving.lease import VALID_SECONDS, lease, this_process
from tidemark.serving.status import state
from tidemark.settings import Settings

WATCH = "alerts"  # document of the collection state, and the name of the lease

Send = Callable[[Message], object]

log = logging.getLogger(__name__)


class NotSent(Exception):
    """Somebody could not be told; the next look tries again."""


class Memory(Protocol):
    """Where alerts are kept between looks."""

    def read(self) -> dict[Condition, Alert]: ...

    def write(self, alert: Alert) -> None: ...


class Alerts:
    """The alerts in MongoDB."""

    def __init__(self, database: Database[Document]) -> None:
        self._collection = database.alert

    def read(self) -> dict[Condition, Alert]:
        return {alert.condition: alert for alert in map(from_document, self._collection.find())}

    def write(self, alert: Alert) -> None:
        document = to_document(alert)
        self._collection.replace_one({"_id": document["_id"]}, document, upsert=True)


def evaluate_alerts(database: Database[Document], elsewhere: Memory, channels: Mapping[str, Send], of: Settings) -> None:
    """One look. `elsewhere` keeps, outside of MongoDB, the alert that the state cannot be read; `channels` are who is told, by name.

    Raises NotSent, or Busy where somebody else has been looking for half a minute; everything else has been done by then.
    """
    now = datetime.now(UTC)
    try:
        seen = state(database)
    except (PyMongoError, LookupError) as error:
        unread = f"The state cannot be read: {brief(error)}"
        _require_sent(_settle(elsewhere, {Condition.STATE: unread}, channels, of, now))
        return
    unsent = _settle(elsewhere, {Condition.STATE: None}, channels, of, now)
    with lease(database, WATCH, this_process("alerts"), VALID_SECONDS + 5):
        watch = alerts.looked(_read_watch(database), seen, now)
        database.state.replace_one({"_id": WATCH}, {"_id": WATCH, **_watch_document(watch)}, upsert=True)
        unsent += _settle(Alerts(database), alerts.found(watch, seen, of), channels, of, now)
    _require_sent(unsent)


def to_document(alert: Alert) -> Document:
    return {"_id": str(alert.condition), **{name: value for name, value in asdict(alert).items() if name != "condition"}}


def from_document(document: Document) -> Alert:
    return Alert(Condition(document["_id"]), **{name: value for name, value in document.items() if name != "_id"})


def to_text(alert: Alert) -> str:
    """For a place that keeps text only."""
    return json_util.dumps(to_document(alert))


def from_text(text: str) -> dict[Condition, Alert]:
    """What to_text() has made a text of, as Memory.read() returns it."""
    alert = from_document(json_util.loads(text, json_options=json_util.JSONOptions(tz_aware=True, tzinfo=UTC)))
    return {alert.condition: alert}


def _settle(memory: Memory, found: Mapping[Condition, str | None], channels: Mapping[str, Send], of: Settings, now: datetime) -> list[str]:
    """Brings the alerts to what has been found, and tells who is to be told. Returns what could not be sent, and why."""
    kept, calm, unsent = memory.read(), timedelta(minutes=of.alert_calm_minutes), []
    for condition, wrong in found.items():
        before = kept.get(condition)
        alert = alerts.settled(before, condition, wrong, now, calm)
        if alert is None:
            continue
        if alert.on:
            log.warning("alert %s: %s", condition, alert.text)
        if alert != before:
            memory.write(alert)
            kept[condition] = alert
    for alert, channel in alerts.untold(kept.values(), channels):
        alert = kept[alert.condition]  # told to others, perhaps
        try:
            channels[channel](alerts.message(alert, of.database))
        except Exception as error:
            log.warning("%s could not be told of alert %s: %s", channel, alert.condition, error)
            unsent.append(f"{channel} of alert {alert.condition} ({error})")
        else:
            log.info("%s has been told that alert %s %s", channel, alert.condition, "has begun" if alert.on else "is over")
            kept[alert.condition] = told = replace(alert, told={**alert.told, channel: alert.on})
            memory.write(told)
    return unsent


def _require_sent(unsent: Iterable[str]) -> None:
    if unsent:
        raise NotSent(f"could not tell {'; '.join(unsent)}: the next look tries again")


def _read_watch(database: Database[Document]) -> Watch | None:
    found = database.state.find_one({"_id": WATCH}, {"_id": False})
    return None if found is None else Watch(**{**found, "samples": tuple(Sample(**one) for one in found["samples"])})


def _watch_document(watch: Watch) -> dict[str, Any]:
    return {
        "first_at": watch.first_at,
        "since": watch.since,
        "behind_since": watch.behind_since,
        "samples": [one._asdict() for one in watch.samples],
    }
