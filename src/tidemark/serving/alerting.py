"""Evaluates the state, stores the alerts and sends the notifications.

Delivery is at least once: a notification is recorded after it has been sent. A failed one is retried at the next evaluation, and a
process that dies between sending and recording sends it again.
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

from tidemark.serving import alerts, disks
from tidemark.serving.alerts import Alert, Condition, Message, Sample, Watch
from tidemark.serving.database import Document, brief
from tidemark.serving.lease import VALID_SECONDS, lease, this_process
from tidemark.serving.status import state
from tidemark.settings.airflow_names import AirflowNames
from tidemark.settings.sections import AlertSettings

WATCH = "alerts"  # document of the collection state, and the name of the lease

Send = Callable[[Message], object]

log = logging.getLogger(__name__)


class NotSent(Exception):
    """A notification could not be sent; the next evaluation retries it."""


class Memory(Protocol):
    """Where alerts are stored between evaluations."""

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


def evaluate_alerts(
    database: Database[Document], elsewhere: Memory, channels: Mapping[str, Send], of: AlertSettings, names: AirflowNames
) -> None:
    """Evaluates the state and the disks once. `elsewhere` stores, outside MongoDB, the alert that the state cannot be read. `channels` send
    notifications, by name. `names` are those of the DAGs.

    Raises NotSent after everything else is done, or Busy if another evaluation has held the lease for half a minute.
    """
    now = datetime.now(UTC)
    try:
        seen, full = state(database), disks.measure(database, of.home)
    except (PyMongoError, LookupError) as error:
        unread = f"The state cannot be read: {brief(error)}"
        _require_sent(_settle(elsewhere, {Condition.STATE: unread}, channels, database.name, of, now))
        return
    unsent = _settle(elsewhere, {Condition.STATE: None}, channels, database.name, of, now)
    with lease(database, WATCH, this_process("alerts"), VALID_SECONDS + 5):
        watch = alerts.next_watch(_read_watch(database), seen, now)
        database.state.replace_one({"_id": WATCH}, {"_id": WATCH, **_watch_document(watch)}, upsert=True)
        unsent += _settle(Alerts(database), alerts.found(watch, seen, full, of, names), channels, database.name, of, now)
    _require_sent(unsent)


def to_document(alert: Alert) -> Document:
    return {"_id": str(alert.condition), **{name: value for name, value in asdict(alert).items() if name != "condition"}}


def from_document(document: Document) -> Alert:
    return Alert(Condition(document["_id"]), **{name: value for name, value in document.items() if name != "_id"})


def to_text(alert: Alert) -> str:
    """An alert as text, for stores that keep text only."""
    return json_util.dumps(to_document(alert))


def from_text(text: str) -> dict[Condition, Alert]:
    """The inverse of to_text(), in the form of Memory.read()."""
    alert = from_document(json_util.loads(text, json_options=json_util.JSONOptions(tz_aware=True, tzinfo=UTC)))
    return {alert.condition: alert}


def _settle(
    memory: Memory,
    found: Mapping[Condition, str | None],
    channels: Mapping[str, Send],
    database: str,
    of: AlertSettings,
    now: datetime,
) -> list[str]:
    """Updates the alerts to what was found and sends the notifications that are due. Returns those that failed, with the error."""
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
    for alert, channel in alerts.due_notifications(kept.values(), channels):
        alert = kept[alert.condition]  # other channels may have been notified since
        try:
            channels[channel](alerts.message(alert, database))
        except Exception as error:
            log.warning("could not send alert %s to %s: %s", alert.condition, channel, error)
            unsent.append(f"alert {alert.condition} to {channel} ({error})")
        else:
            log.info("sent to %s: alert %s %s", channel, alert.condition, "has begun" if alert.on else "is resolved")
            kept[alert.condition] = notified = replace(alert, notified={**alert.notified, channel: alert.on})
            memory.write(notified)
    return unsent


def _require_sent(unsent: Iterable[str]) -> None:
    if unsent:
        raise NotSent(f"could not send {'; '.join(unsent)}: the next evaluation retries")


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
