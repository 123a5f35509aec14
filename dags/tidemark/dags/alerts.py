"""DAG `tidemark_alerts`: checks the health of the pipeline, and notifies people when an alert begins and when it ends.

It checks the heartbeat of the stream, whether the stream keeps up, drift, rejected events, missed nights, restarts, how full the disks
are, and whether the state can be read at all. Settings `TIDEMARK_ALERT_...` are the thresholds. Notifications go through two Airflow
connections, each if it exists: `tidemark_smtp` (SMTP) sends mail to `TIDEMARK_ALERT_MAIL_TO`; `tidemark_webhook` posts JSON to the URL in
its host field. Without either, alerts appear only in the log and on page *Tidemark*. Each channel is notified once when an alert begins
and once when it ends.

**When to run it.** It runs every two minutes. Trigger it for an immediate check. Pausing it silences all alerts.

**If it fails.** A notification could not be sent: the last line of the log says through which channel and why. The next run sends those
that still apply; channels that were reached are not notified again.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from tidemark.dags import policy
from tidemark.dags.mongodb import connected
from tidemark.dags.notifications import VariableMemory, channels
from tidemark.serving import alerting
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag

NAMES = settings().airflow_names


@dag(
    **policy.of(
        "operations",
        retries=1,  # the next run follows in two minutes anyway
        retry_delay=timedelta(seconds=3),
        execution_timeout=timedelta(minutes=5),
        priority_weight=100,  # it is short, and reports what keeps other tasks waiting
    ),
    dag_id=NAMES.of(Dag.ALERTS),
    schedule=CronTriggerTimetable("*/2 * * * *", timezone="UTC"),
    max_active_runs=1,
    doc_md=__doc__,
)
def alerts() -> None:
    @task
    def evaluate() -> None:
        of = settings()
        with connected(of) as database:
            alerting.evaluate_alerts(database, VariableMemory(), channels(of), of, NAMES)

    evaluate()


alerts()
