"""Evaluations on a real MongoDB: what is stored between them, which channels are notified, and what happens if that fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import pytest
from pymongo.database import Database
from support.names import NAMES
from support.servers import free_ports
from support.wording import Wording

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import alerting, disks, ledger
from tidemark.serving.alerting import NotSent, Send
from tidemark.serving.alerts import Alert, Condition, Message
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.ledger import MicroBatch
from tidemark.serving.status import state
from tidemark.settings.sections import AlertSettings

pytestmark = pytest.mark.servers

Notifications = list[tuple[str, bool]]


class TextMemory:
    """A memory outside of MongoDB that holds text, as an Airflow variable does."""

    def __init__(self) -> None:
        self.text = ""

    def read(self) -> dict[Condition, Alert]:
        return alerting.from_text(self.text) if self.text else {}

    def write(self, alert: Alert) -> None:
        self.text = alerting.to_text(alert)


class Channel:
    """A channel that keeps its notifications, unless it fails."""

    def __init__(self) -> None:
        self.notifications: Notifications = []
        self.failing = False

    def __call__(self, message: Message) -> None:
        if self.failing:
            raise ConnectionError("nobody answers")
        self.notifications.append((str(message.alert.condition), message.alert.on))


def evaluate(
    database: Database[Document], elsewhere: TextMemory | None = None, calm: float = 0, full: float = inf, **channels: Send
) -> None:
    of = AlertSettings(alert_heartbeat_minutes=0, alert_calm_minutes=calm, alert_disk_share=full)
    alerting.evaluate_alerts(database, elsewhere or TextMemory(), channels, of, NAMES)


def set_heartbeat(database: Database[Document], alive: bool = True) -> None:
    """A stream has given a sign of life now, or long ago."""
    if ledger.read(database).generation == 0:
        generation = ledger.start_generation(database, "rules", {}).generation
        ledger.commit(database, generation, MicroBatch(0, TideMark({TopicPartition("products", 0): 10}), {}))
    beat = datetime.now(UTC) + timedelta(hours=1 if alive else -1)  # in an hour: however slowly this test goes on
    database.state.update_one({"_id": "ledger"}, {"$set": {"heartbeat": beat}})
    ends = {"offsets": [{"topic": "products", "partition": 0, "offset": 10}], "measured_at": datetime.now(UTC)}
    database.state.update_one({"_id": "log_end"}, {"$set": ends}, upsert=True)


def test_each_channel_is_notified_once_at_the_beginning_and_once_at_the_end(database: Database[Document]) -> None:
    mail, webhook = Channel(), Channel()
    for alive in (True, True, False, False, False):
        set_heartbeat(database, alive)
        evaluate(database, mail=mail, webhook=webhook)
    assert mail.notifications == webhook.notifications == [("stream", True)]
    (shown,) = state(database)["alerts"]
    assert (shown["_id"], shown["ended_at"], shown["notified"]) == ("stream", None, {"mail": True, "webhook": True})
    for _ in range(3):
        set_heartbeat(database)
        evaluate(database, mail=mail, webhook=webhook)
    assert mail.notifications == webhook.notifications == [("stream", True), ("stream", False)]
    assert state(database)["alerts"] == []
    set_heartbeat(database, False)
    evaluate(database, mail=mail)
    assert mail.notifications == [("stream", True), ("stream", False), ("stream", True)]


def test_a_failed_notification_is_retried_for_its_channel_only(database: Database[Document], wording: Wording) -> None:
    mail, webhook = Channel(), Channel()
    set_heartbeat(database)
    evaluate(database, mail=mail, webhook=webhook)
    set_heartbeat(database, False)
    mail.failing = True
    for _ in range(2):
        with pytest.raises(NotSent) as unsent:
            evaluate(database, mail=mail, webhook=webhook)
        wording.check(str(unsent.value))
    assert (mail.notifications, webhook.notifications) == ([], [("stream", True)])
    mail.failing = False
    evaluate(database, mail=mail, webhook=webhook)
    evaluate(database, mail=mail, webhook=webhook)
    assert mail.notifications == webhook.notifications == [("stream", True)]


def test_an_alert_ends_only_after_a_calm_period(database: Database[Document]) -> None:
    mail = Channel()
    for alive in (True, False, True, False, True):
        set_heartbeat(database, alive)
        evaluate(database, calm=60, mail=mail)
    assert mail.notifications == [("stream", True)]


def test_an_unreadable_state_raises_an_alert_without_mongodb(database: Database[Document], wording: Wording) -> None:
    (port,) = free_ports(1)
    memory, mail = TextMemory(), Channel()
    with connect(f"mongodb://127.0.0.1:{port}/", within_seconds=0.2) as nobody:
        for _ in range(3):
            evaluate(database_of(nobody, database.name), memory, mail=mail)
    assert mail.notifications == [("state", True)]
    notifications, of, _ = memory.read()[Condition.STATE].text.partition(f"127.0.0.1:{port}")
    assert of
    wording.check(notifications)
    set_heartbeat(database)
    for _ in range(2):
        evaluate(database, memory, mail=mail)
    assert mail.notifications == [("state", True), ("state", False)]


def test_an_unprepared_database_raises_the_state_alert(database: Database[Document]) -> None:
    mail = Channel()
    evaluate(database.client.get_database("nothing_here"), mail=mail)
    assert mail.notifications == [("state", True)]


def test_concurrent_evaluations_notify_once(database: Database[Document]) -> None:
    """The second one begins while the first is notifying, and waits for its end."""
    from concurrent.futures import ThreadPoolExecutor

    set_heartbeat(database)
    evaluate(database)
    set_heartbeat(database, False)
    mail = Channel()
    of = AlertSettings(alert_heartbeat_minutes=0, alert_disk_share=inf)
    with ThreadPoolExecutor() as pool:
        second = None

        def notify(message: Message) -> None:
            nonlocal second
            if second is None:
                second = pool.submit(alerting.evaluate_alerts, database, TextMemory(), {"mail": mail}, of, NAMES)
            mail(message)

        alerting.evaluate_alerts(database, TextMemory(), {"mail": notify}, of, NAMES)
        assert second is not None
        second.result(60)
    assert mail.notifications == [("stream", True)]


def test_disks_are_measured(database: Database[Document], tmp_path: Path) -> None:
    found = disks.measure(database, tmp_path)
    assert len(found) == 2
    assert all(0 < one.share < 1 and one.total > 1 << 30 for one in found)
    assert len(disks.measure(database, tmp_path / "gone")) == 1, "it may be on another machine"
    mail = Channel()
    set_heartbeat(database)
    evaluate(database, full=0, mail=mail)
    evaluate(database, mail=mail)
    assert mail.notifications == [("disk", True), ("disk", False)]


def test_restarts_and_rejections_are_counted_between_evaluations(database: Database[Document], wording: Wording) -> None:
    mail = Channel()
    set_heartbeat(database)
    evaluate(database, mail=mail)
    (first,) = (database.state.find_one({"_id": alerting.WATCH}) or {})["samples"]
    for number in range(25):
        database.quarantine.insert_one(
            {
                **{"_id": str(number), "topic": "t", "partition": 0, "offset": number, "timestamp": datetime.now(UTC)},
                **{"reason": "asin", "status": "open", "raw": None, "source": "api"},
            }
        )
    generation = [ledger.start_generation(database, "rules", {}).generation for _ in range(4)][-1]
    ledger.commit(database, generation, MicroBatch(0, TideMark({TopicPartition("products", 0): 110}), {}))
    set_heartbeat(database)
    evaluate(database, mail=mail)
    assert sorted(mail.notifications) == [("quarantine", True), ("restarts", True)]
    texts = {one["_id"]: one["text"] for one in database.alert.find()}
    wording.check(texts["quarantine"], "quarantine", first_evaluation=f"{first['at']:%Y-%m-%d %H:%M}")
    wording.check(texts["restarts"], "restarts", first_evaluation=f"{first['at']:%Y-%m-%d %H:%M}")
