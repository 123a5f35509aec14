"""How alerts reach people: by mail and by webhook, through Airflow connections.

No DAG itself (.airflowignore names it).
"""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import BaseNotifier, Connection, Variable
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from tidemark.serving import alerting
from tidemark.serving.alerts import Alert, Condition, Message
from tidemark.settings import Settings, airflow_names

ANSWER_SECONDS = 10  # timeout of a webhook


class WebhookNotifier(BaseNotifier):
    """Posts JSON to the URL of a connection; the connection's extra fields are sent as headers."""

    def __init__(self, connection: str, content: dict[str, Any]) -> None:
        super().__init__()
        self._connection, self._content = connection, content

    def notify(self, _context: Any) -> None:
        """Raises httpx.HTTPError if the webhook does not accept it."""
        to = Connection.get(self._connection)
        url, login = address(to), (to.login, to.password or "") if to.login else None
        mask_secret(url)  # the URL is often the only secret
        httpx.post(url, json=self._content, headers=to.extra_dejson, auth=login, timeout=ANSWER_SECONDS).raise_for_status()


class VariableMemory:
    """Stores the alert that MongoDB cannot be read in an Airflow variable."""

    NAME = "tidemark_alerts"

    def read(self) -> dict[Condition, Alert]:
        kept = Variable.get(self.NAME, default=None)
        return alerting.from_text(kept) if kept else {}

    def write(self, alert: Alert) -> None:
        Variable.set(self.NAME, alerting.to_text(alert))


def address(of: Connection) -> str:
    """A connection's URL: its host field if that contains a whole URL, otherwise assembled from its fields."""
    host = of.host or ""
    return host if "://" in host else f"{of.conn_type}://{host}{f':{of.port}' if of.port else ''}/{of.schema or ''}"


def mail(connection: str, recipients: str, message: Message) -> None:
    if not recipients:
        raise ValueError(f"connection {connection} exists, but there is no recipient: set TIDEMARK_ALERT_MAIL_TO")
    text = f"<p>{html.escape(message.text)}</p>"
    SmtpNotifier(recipients, subject=message.subject, html_content=text, smtp_conn_id=connection).notify({})


def webhook(connection: str, message: Message) -> None:
    alert = message.alert
    content = {"text": f"{message.subject}\n{message.text}", "alert": str(alert.condition), "on": alert.on}
    WebhookNotifier(connection, content).notify({})


def connection_exists(connection: str) -> bool:
    try:
        Connection.get(connection)
    except AirflowNotFoundException:
        return False
    return True


def channels(of: Settings) -> dict[str, Callable[[Message], None]]:
    """The channels whose connections exist, by name."""
    smtp, hook = of.airflow_names.of(airflow_names.Connection.SMTP), of.airflow_names.of(airflow_names.Connection.WEBHOOK)
    known = {"mail": (smtp, partial(mail, smtp, of.alert_mail_to)), "webhook": (hook, partial(webhook, hook))}
    return {name: send for name, (connection, send) in known.items() if connection_exists(connection)}
