"""DAG `tidemark_rebuild`: brings products, categories, quarantine and reports to a publication; the stream goes on from there.

**When to run it.** Where something was lost or altered behind the stream's back, and as the rollback to an older publication. Trigger it
with a number, or without: then the run lists the publications and waits for a person to choose one. Nothing is lost: the stream serves
again what came since.

**If it fails.** What could refuse it is asked before anything is changed; the last line of the log says what it was. A run that was cut
off is cleared, and goes on; neither the stream nor a night can before it is done.
"""

from __future__ import annotations

from airflow.sdk import Param, dag, task

from tidemark.dags import policy
from tidemark.dags.choices import NotChosen, chosen
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.spark import job

PUBLICATION = {
    "type": ["null", "integer"],
    "title": "Publication",
    "description_md": "Its number. None: the run lists those there are, with what each would change, and asks",
    "minimum": 0,
}


@dag(
    **policy.of("batch", permanent_errors=[job.JobFailedPermanently, NotChosen]),
    dag_id=Dag.REBUILD.id,
    schedule=None,
    max_active_runs=1,
    params={"publication": Param(None, **PUBLICATION)},
    doc_md=__doc__,
)
def rebuild() -> None:
    @task
    def publications() -> str:
        return job.run("publications")

    @task(pool=Pool.SPARK.id, outlets=[policy.REPORTS])
    def rebuild_from(publication: int) -> None:
        job.run("rebuild", publication)

    one = chosen("publication", publications(), "Which publication is to be served?", **PUBLICATION)
    add_dashboard_links(rebuild_from(one), Dashboard.CATALOG, Dashboard.PIPELINE)


rebuild()
