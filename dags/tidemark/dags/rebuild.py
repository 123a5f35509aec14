"""DAG `tidemark_rebuild`: restores products, categories, quarantine and reports from a publication; the stream continues from there.

**When to run it.** To repair data that was lost or altered outside the stream, or to roll back to an older publication. Trigger it with a
publication's number, or without one: then the run lists the publications and waits for a choice. No event is lost: the stream serves the
events since the publication again.

**If it fails.** Preconditions are checked before anything is changed; the last line of the log says which one failed. Clear an interrupted
run to continue it; neither the stream nor the nightly batch can continue before the rebuild is finished.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task

from tidemark.dags import batch_job, policy
from tidemark.dags.choices import NotChosen, chosen
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool

NAMES = settings().airflow_names
PUBLICATION: dict[str, Any] = {
    "type": ["null", "integer"],
    "title": "Publication",
    "description_md": "Number of the publication. Empty: the run lists all, with what each would change, and asks",
    "minimum": 0,
}


@dag(
    **policy.of("batch", permanent_errors=[batch_job.JobFailedPermanently, NotChosen]),
    dag_id=NAMES.of(Dag.REBUILD),
    schedule=None,
    max_active_runs=1,
    params={"publication": Param(None, **PUBLICATION)},
    doc_md=__doc__,
)
def rebuild() -> None:
    @task
    def publications() -> str:
        listing: str = batch_job.run(settings(), "publications")
        return listing

    @task(pool=NAMES.of(Pool.SPARK), outlets=[policy.REPORTS])
    def rebuild_from(publication: int) -> None:
        batch_job.run(settings(), "rebuild", publication)

    one = chosen("publication", publications(), "Which publication should be served?", **PUBLICATION)
    add_dashboard_links(rebuild_from(one), Dashboard.CATALOG, Dashboard.PIPELINE)


rebuild()
