"""DAG `tidemark_alerts`: looks at how everything runs, and tells people when something begins to be wrong and when it is over.

What is looked at: signs of life of the stream, whether it keeps up, drift, rejected events, missed nights, restarts, and whether the state
can be read at all. Settings `TIDEMARK_ALERT_...` say from where on it is wrong. Who is told: whom these Airflow connections reach, where
they are there. `tidemark_smtp` (SMTP) mails to `TIDEMARK_ALERT_MAIL_TO`; `tidemark_webhook` posts JSON to the URL that is its host. Without
either the log alone tells. Each of them is told once when something begins and once when it is over.

**When to run it.** It runs every two minutes; by hand for a look at once. Pausing it silences all of it.

**If it fails.** Somebody could not be told: the log's last line says who and why. The next look tells what is still so, and nobody twice.
"""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import httpx
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import BaseNotifier, Connection, CronTriggerTimetable, Variable, dag, task
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from tidemark.dags import policy
from tidemark.dags.mongodb import connected
from tidemark.serving import alerting
from tidemark.serving.alerts import Alert, Condition, Message
from tidemark.settings import airflow_names, settings
from tidemark.settings.airflow_names import Dag

ANSWER_SECONDS = 10  # within which a webhook must answer


class WebhookNotifier(BaseNotifier):
    """Posts JSON to the URL of a connection, whose extra are headers."""

    def __init__(self, connection: str, content: dict[str, Any]) -> None:
        super().__init__()
        self._connection, self._content = connection, content

    def notify(self, _context: Any) -> None:
        """Raises httpx.HTTPError where it is not taken."""
        to = Connection.get(self._connection)
        url, login = address(to), (to.login, to.password or "") if to.login else None
        mask_secret(url)  # often all that keeps others from posting there
        httpx.post(url, json=self._content, headers=to.extra_dejson, auth=login, timeout=ANSWER_SECONDS).raise_for_status()


class InVariable:
    """The alert that MongoDB itself cannot be read, kept in an Airflow variable."""

    NAME = "tidemark_alerts"

    def read(self) -> dict[Condition, Alert]:
        kept = Variable.get(self.NAME, default=None)
        return alerting.from_text(kept) if kept else {}

    def write(self, alert: Alert) -> None:
        Variable.set(self.NAME, alerting.to_text(alert))


def address(of: Connection) -> str:
    """A connection's URL: written whole as its host, or what it was made of."""
    host = of.host or ""
    return host if "://" in host else f"{of.conn_type}://{host}{f':{of.port}' if of.port else ''}/{of.schema or ''}"


def mail(message: Message) -> None:
    if not settings().alert_mail_to:
        raise ValueError(f"connection {airflow_names.Connection.SMTP.id} is there, and nobody to write to: set TIDEMARK_ALERT_MAIL_TO")
    text = f"<p>{html.escape(message.text)}</p>"
    smtp = airflow_names.Connection.SMTP.id
    SmtpNotifier(settings().alert_mail_to, subject=message.subject, html_content=text, smtp_conn_id=smtp).notify({})


def webhook(message: Message) -> None:
    alert = message.alert
    content = {"text": f"{message.subject}\n{message.text}", "alert": str(alert.condition), "on": alert.on}
    WebhookNotifier(airflow_names.Connection.WEBHOOK.id, content).notify({})


def is_there(connection: str) -> bool:
    try:
        Connection.get(connection)
    except AirflowNotFoundException:
        return False
    return True


@dag(
    **policy.of(
        "operations",
        retries=1,  # the next look comes anyway
        retry_delay=timedelta(seconds=3),
        execution_timeout=timedelta(minutes=5),
        priority_weight=100,  # it is short, and tells of what keeps others waiting
    ),
    dag_id=Dag.ALERTS.id,
    schedule=CronTriggerTimetable("*/2 * * * *", timezone="UTC"),
    max_active_runs=1,
    doc_md=__doc__,
)
def alerts() -> None:
    @task
    def look() -> None:
        told = {"mail": (airflow_names.Connection.SMTP.id, mail), "webhook": (airflow_names.Connection.WEBHOOK.id, webhook)}
        channels = {name: send for name, (connection, send) in told.items() if is_there(connection)}
        with connected() as database:
            alerting.evaluate_alerts(database, InVariable(), channels, settings())

    look()


alerts()
