"""DAG `tidemark_history`: the cube of everything observed before the end of each day, recomputed from the raw history, as the view
`report_history` shows it.

**When to run it.**

- *Every day* at 03:00 UTC, when it has ended: the day, and every day before it on which something was observed that has landed since
  then, or that this has changed. Nights that were missed are made up for; a gap of more than a month without observations stays one.
- *A range of days*: a backfill. Each run computes its own day; in any order, again, several at once. Days before anything was observed
  are empty, a day that has not ended is refused.
- *A long range in one pass*: a run by hand with its first and last day.

**If it fails.** The days stay as they were; the last line of the task's log says why. Clear the task: each can be retried on its own, and
what an older landing has made never replaces what a newer one has. The next night makes up for what was missed.
"""

from __future__ import annotations

from airflow.sdk import CronPartitionTimetable, Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from tidemark.dags import policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.serving import history as days
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.spark import job

DAY = {"type": ["null", "string"], "format": "date"}
PARAMETERS = {
    "first_day": Param(None, title="First day", description_md="Of a range to be computed in one pass. None: the run's own day", **DAY),
    "last_day": Param(None, title="Last day", description_md="Included. None: the first day", **DAY),
    "changed": Param(
        False,
        title="What has changed",
        description_md="The last of these days, and every day before it that something landed since has changed. So it is every night",
        type="boolean",
    ),
}


@dag(
    **policy.of("batch", permanent_errors=[job.JobFailedPermanently, days.NotOver, days.NoDay]),
    dag_id=Dag.HISTORY.id,
    schedule=CronPartitionTimetable("0 3 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    # No start_date: with one, a new installation would begin with yesterday's run, beside its first files.
    max_active_runs=32,  # the pool says how much is done at once
    params=PARAMETERS,
    doc_md=__doc__,
)
def history() -> None:
    @task
    def ask(params: dict, dag_run) -> list[str]:
        changed = params["changed"] or dag_run.run_type == "scheduled"
        with connected() as database:
            # A new installation begins with a scheduled run, which would keep its first night waiting for the one Spark job at a time.
            if changed and days.is_empty(database):
                raise AirflowSkipException("no event has come yet, so there is no history")
        return days.asked(dag_run.partition_key, params["first_day"], params["last_day"], dag_run.start_date, changed=changed)

    @task(pool=Pool.SPARK.id)
    def land() -> None:
        job.run("land")

    @task(pool=Pool.SPARK.id)
    def compute(asked: list[str]) -> dict:
        return job.run("history", *asked)

    asked = ask()
    computed = compute(asked)
    asked >> land() >> computed
    add_dashboard_links(computed, Dashboard.TRENDS)


history()
