"""DAG `tidemark_history`: recomputes the cube of each day, with everything observed before its end, from the raw history, for the view
`report_history`.

**When to run it.**

- *Every day* at 03:00 UTC: computes the day that has ended, and every earlier day that has changed because of events landed since the
  previous run. Missed nights are caught up; gaps of more than a month without observations are left out.
- *A range of days*: a backfill. Each run computes its own day. Runs may be in any order, repeated and concurrent. Days before the first
  observation are empty; a day that has not ended is refused.
- *A long range in one pass*: a run by hand with a first and a last day.

**If it fails.** The days stay as they were; the last line of the task's log says why. Clear the task: each task can be retried on its own,
and the result of an older landing never replaces that of a newer one. The next night catches up.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import CronPartitionTimetable, Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from tidemark.dags import batch_job, policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.serving import history as days
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool

NAMES = settings().airflow_names
DAY: dict[str, Any] = {"type": ["null", "string"], "format": "date"}
PARAMETERS = {
    "first_day": Param(None, title="First day", description_md="Start of a range to compute in one pass. Empty: the run's own day", **DAY),
    "last_day": Param(None, title="Last day", description_md="End of the range, inclusive. Empty: the first day", **DAY),
    "changed": Param(
        False,
        title="Changed days only",
        description_md="Compute the last day, and every earlier day that has changed since it was computed, as scheduled runs do",
        type="boolean",
    ),
}


@dag(
    **policy.of("batch", permanent_errors=[batch_job.JobFailedPermanently, days.DayNotEnded, days.InvalidDays]),
    dag_id=NAMES.of(Dag.HISTORY),
    schedule=CronPartitionTimetable("0 3 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    # No start_date: a new installation would start yesterday's run at once, while it ingests its first files.
    max_active_runs=32,  # the pool limits concurrent work
    params=PARAMETERS,
    doc_md=__doc__,
)
def history() -> None:
    @task
    def select_days(params: dict[str, Any], dag_run: Any) -> list[str]:
        changed = params["changed"] or dag_run.run_type == "scheduled"
        with connected(settings()) as database:
            # A new installation starts with a scheduled run, which would occupy the only Spark slot and delay its first nightly batch.
            if changed and days.is_empty(database):
                raise AirflowSkipException("there are no events yet, so there is no history")
        return days.selected_days(dag_run.partition_key, params["first_day"], params["last_day"], dag_run.start_date, changed=changed)

    @task(pool=NAMES.of(Pool.SPARK))
    def land() -> None:
        batch_job.run(settings(), "land")

    @task(pool=NAMES.of(Pool.SPARK))
    def compute(selected: list[str]) -> dict[str, Any]:
        computed: dict[str, Any] = batch_job.run(settings(), "history", *selected)
        return computed

    selected = select_days()
    computed = compute(selected)
    selected >> land() >> computed
    add_dashboard_links(computed, Dashboard.TRENDS)


history()
