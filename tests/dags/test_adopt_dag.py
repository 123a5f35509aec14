"""DAG adopt: it asks unless nothing is lost, and sends again what may be."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession
from support.airflow_home import run
from support.databases import emptied
from support.load import updates
from support.manual_stream import serve
from support.names import NAMES
from support.places import Place

from tidemark.serving import publications
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.spark.batch import Batch


def test_adoption_requires_approval_and_sends_lost_chunks_again(dag_bag: Any) -> None:
    dag = dag_bag.dags[NAMES.of(Dag.ADOPT)]
    assert dag.schedule is None
    assert dag.get_task("approve").upstream_task_ids == {"decide"}
    assert dag.get_task("adopt").upstream_task_ids == {"decide", "approve", "compare"}
    assert dag.get_task("lost_chunks").upstream_task_ids == {"adopt"}
    assert dag.get_task("produce").upstream_task_ids == {"lost_chunks"}
    assert [asset.name for asset in dag.get_task("adopt").outlets] == ["reports"]
    assert {task.task_id for task in dag.tasks if task.pool == NAMES.of(Pool.SPARK)} == {"compare", "adopt"}


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.soak(proof="losses")
@pytest.mark.usefixtures("database")
def test_adoption_without_losses_needs_no_approval(connected: Place, spark: SparkSession) -> None:
    connected.send(updates(Random(131), 100, keys=20))
    serve(connected, spark)
    work = Batch(connected.database, connected.settings, spark)
    work.land()
    emptied(connected.database)
    serve(connected, spark)
    ended, tasks = run(NAMES.of(Dag.ADOPT), "adopt.py")
    assert (ended, tasks["approve"][0], tasks["adopt"][0], tasks["lost_chunks"][0]) == ("success", "skipped", "success", "skipped")
    assert publications.served(connected.database) == 1
    assert connected.wrong() == []
