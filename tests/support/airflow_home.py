"""An Airflow of the tests' own: its home and database stand in the environment before anything imports Airflow."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tidemark.settings import CHECKOUT

_HOME = tempfile.TemporaryDirectory(prefix="tidemark-airflow-")


@cache
def claim() -> None:
    """Makes a folder of the tests' own Airflow's home, for this process and its children."""
    assert "airflow.configuration" not in sys.modules, "Airflow has been imported with another home"
    os.environ |= {
        "AIRFLOW_HOME": _HOME.name,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME.name}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def database_file() -> Path:
    return Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"


def run(dag_id: str, in_file: str, /, **conf: object) -> tuple[str, dict[str, tuple[str, int]]]:
    """A run of the DAG in this process; its state, and each task's with the number of its tries."""
    from airflow.dag_processing.dagbag import DagBag

    done = DagBag(str(CHECKOUT / "dags" / "tidemark" / "dags" / in_file)).dags[dag_id].test(run_conf=conf)
    return str(done.state), {one.task_id: (str(one.state), one.try_number) for one in done.get_task_instances()}


@cache
def make_database() -> None:
    """Its tables, by a process that ends: Airflow's own migration changes how this one logs."""
    command = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT)
