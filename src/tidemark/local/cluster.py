"""Programs that only containers run: one-time preparations, and a Spark master with its workers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tidemark.local.programs import PYTHON, Program, airflow_environment, module
from tidemark.settings.sections import LOOPBACK, SparkSettings

_SECRET_VARIABLE = "_SPARK_AUTH_SECRET"  # where master and worker look for it; an option would show in the list of processes


def _spark_class(of: SparkSettings, name: str, *arguments: str) -> list[str]:
    host = ("--host", of.spark_host) if of.spark_host else ()
    return [str(Path(PYTHON).with_name("spark-class")), f"org.apache.spark.deploy.{name}", *host, *arguments]


def _spark_master(of: SparkSettings) -> list[str]:
    port = urlsplit(of.spark_master).port or 7077
    return _spark_class(of, "master.Master", "--port", str(port), "--webui-port", str(of.spark_master_ui_port))


def _spark_worker(of: SparkSettings) -> list[str]:
    gives = ("--cores", str(of.spark_worker_cores), "--memory", of.spark_worker_memory)
    folder = ("--work-dir", str(of.home.resolve() / "spark-worker"))
    return _spark_class(of, "worker.Worker", *gives, *folder, "--webui-port", str(of.spark_worker_ui_port), of.spark_master)


def _spark_environment(of: SparkSettings) -> dict[str, str]:
    clean = "-Dspark.worker.cleanup.enabled=true -Dspark.worker.cleanup.appDataTtl=86400"  # folders of jobs that ended a day ago
    secret = of.spark_secret.get_secret_value()
    both = f"-Dspark.authenticate={str(bool(secret)).lower()}"
    return {
        "PYSPARK_PYTHON": PYTHON,
        "SPARK_DAEMON_MEMORY": "512m",
        # The REST server would accept jobs, and the pages end them, from anyone.
        "SPARK_MASTER_OPTS": f"{both} -Dspark.master.rest.enabled=false -Dspark.ui.killEnabled=false",
        "SPARK_WORKER_OPTS": f"{both} {clean}",
        **({_SECRET_VARIABLE: secret} if secret else {}),
        "SPARK_LOCAL_DIRS": str(of.home.resolve() / "spark"),
        **({"SPARK_LOCAL_IP": of.spark_host} if of.spark_host in LOOPBACK else {}),
    }


PROGRAMS: tuple[Program, ...] = (
    Program("accounts", module("tidemark.local.prepare", "accounts"), once=True),
    Program("certificate", module("tidemark.local.certificate"), once=True),
    Program("airflow-init", module("tidemark.local.prepare", "airflow"), environment=airflow_environment, once=True),
    Program("spark-master", _spark_master, environment=_spark_environment),
    Program("spark-worker", _spark_worker, environment=_spark_environment),
)
