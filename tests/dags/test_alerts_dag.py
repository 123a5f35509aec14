"""DAG `tidemark_alerts`: its schedule, and runs that write mails and post to a webhook."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from support.environment import setting
from support.listeners import MailServer, Webhook, listening
from support.names import NAMES
from support.places import Place
from support.servers import free_ports
from support.wording import Wording

from tidemark.ingest import connections
from tidemark.serving import ledger
from tidemark.serving.status import state
from tidemark.settings import CHECKOUT, airflow_names
from tidemark.settings.airflow_names import Dag


def test_it_runs_every_two_minutes_one_run_at_a_time(dag_bag: Any) -> None:
    dag = dag_bag.dags[NAMES.of(Dag.ALERTS)]
    assert (type(dag.timetable).__name__, dag.catchup, dag.max_active_runs) == ("CronTriggerTimetable", False, 1)
    assert dag.timetable.expression == "*/2 * * * *"
    others = {task.priority_weight for one in dag_bag.dags.values() for task in one.tasks if one is not dag}
    assert dag.get_task("evaluate").priority_weight > max(others)


class Channels(NamedTuple):
    mail: MailServer
    webhook: Webhook

    def counts(self) -> tuple[int, int]:
        return len(self.mail.mails), len(self.webhook.posts)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Channels]:
    """Airflow's connections tidemark_smtp and tidemark_webhook lead to these."""
    with listening(MailServer()) as mail, listening(Webhook()) as webhook:
        headers = json.dumps({"X-Token": "secret"})
        for name, connection in (
            (NAMES.of(airflow_names.Connection.SMTP), mail.connection),
            (
                NAMES.of(airflow_names.Connection.WEBHOOK),
                json.dumps({"conn_type": "http", "host": f"{webhook.url}/a/hook?b=c", "extra": headers}),
            ),
        ):
            monkeypatch.setitem(os.environ, f"AIRFLOW_CONN_{name.upper()}", connection)
        yield Channels(mail, webhook)


def run_dag(**changed: str) -> str:
    """A run of the DAG in this process; its state."""
    from airflow.dag_processing.dagbag import DagBag

    usual = {
        "alert_heartbeat_minutes": "0",
        "alert_calm_minutes": "0",
        "alert_disk_share": "never",
        "alert_mail_to": "a@shop.example, b@shop.example",
    }
    with setting(**{**usual, **changed}) as of, pytest.MonkeyPatch.context() as patch:
        for name, value in connections.environment(of).items():
            patch.setenv(name, value)
        run = DagBag(str(CHECKOUT / "dags" / "tidemark" / "dags" / "alerts.py")).dags[NAMES.of(Dag.ALERTS)].test()
    return str(run.state)


def set_heartbeat(place: Place, alive: bool = True) -> None:
    beat = datetime.now(UTC) + timedelta(hours=1 if alive else -3.5)
    place.database.state.update_one({"_id": "ledger"}, {"$set": {"heartbeat": beat}})
    place.database.state.update_one({"_id": "log_end"}, {"$set": {"offsets": [], "measured_at": datetime.now(UTC)}}, upsert=True)


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.usefixtures("database")
class TestRuns:
    def test_a_lost_stream_raises_one_alert_and_its_return_resolves_it(self, place: Place, channels: Channels, wording: Wording) -> None:
        ledger.start_generation(place.database, "rules", {})
        set_heartbeat(place)
        assert run_dag() == "success"
        assert channels.counts() == (0, 0)

        set_heartbeat(place, False)
        channels.mail.refuses = True
        assert run_dag() == "failed"
        assert channels.counts() == (0, 1), "every other channel is notified"
        channels.mail.refuses = False
        assert [run_dag(), run_dag()] == ["success", "success"]
        assert channels.counts() == (1, 1)
        (mail,), ((path, post),) = channels.mail.mails, channels.webhook.posts
        assert (mail["To"], mail["From"]) == ("a@shop.example, b@shop.example", "tidemark@shop.example")
        begun = f"{(place.database.alert.find_one({'_id': 'stream'}) or {})['began_at']:%Y-%m-%d %H:%M}"
        wording.check(f"{mail['Subject']}\n{mail.get_body(('html',)).get_content()}", "mail", begun=begun)
        assert path == "/a/hook?b=c"
        assert (post["alert"], post["on"]) == ("stream", True)
        wording.check(post["text"], "post", begun=begun)
        assert channels.webhook.headers[0]["X-Token"] == "secret"
        assert [one["_id"] for one in state(place.database)["alerts"]] == ["stream"]

        set_heartbeat(place)
        channels.webhook.refuses = True
        assert run_dag() == "failed"
        channels.webhook.refuses = False
        assert [run_dag(), run_dag()] == ["success", "success"]
        assert channels.counts() == (2, 2)
        wording.check(channels.mail.mails[1]["Subject"], "over")
        assert channels.webhook.posts[1][1]["on"] is False

    def test_an_unreachable_mongodb_raises_one_alert_and_its_return_resolves_it(
        self, place: Place, channels: Channels, wording: Wording
    ) -> None:
        (port,) = free_ports(1)
        for _ in range(2):
            assert run_dag(mongodb_url=f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=200") == "success"
        assert channels.counts() == (1, 1)
        ((_, post),) = channels.webhook.posts
        assert (post["alert"], post["on"]) == ("state", True)
        subject, text = post["text"].splitlines()
        assert subject == channels.mail.mails[0]["Subject"]
        wording.check(f"{subject}\n{text.partition(': ')[0]}", "begun")
        assert [run_dag(), run_dag()] == ["success", "success"]
        assert channels.counts() == (2, 2)
        wording.check(channels.mail.mails[1]["Subject"], "over")

    def test_without_channels_alerts_are_stored_and_shown(self, place: Place) -> None:
        """No connection of those names: what is wrong is kept and shown all the same."""
        ledger.start_generation(place.database, "rules", {})
        set_heartbeat(place)
        assert run_dag() == "success"
        set_heartbeat(place, False)
        assert run_dag() == "success"
        assert [one["_id"] for one in state(place.database)["alerts"]] == ["stream"]

    def test_mail_without_a_recipient_fails_the_run(self, place: Place, channels: Channels) -> None:
        ledger.start_generation(place.database, "rules", {})
        for alive in (True, False):
            set_heartbeat(place, alive)
            ended = run_dag(alert_mail_to="")
        assert ended == "failed"
        assert channels.counts() == (0, 1)


def test_a_webhook_connection_given_as_uri() -> None:
    from airflow.sdk import Connection

    from tidemark.dags.notifications import address

    for uri in ("https://hooks.example/services/T/B/X", "http://127.0.0.1:8065/hooks/x"):
        assert address(Connection.from_uri(uri, conn_id="x")) == uri
    assert address(Connection(conn_id="x", conn_type="generic", host="https://hooks.example/?a=b")) == "https://hooks.example/?a=b"
