"""The Spark session that stream and batch share."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from tidemark.settings.kafka_clients import SPARK_REDACTION
from tidemark.settings.sections import LOOPBACK, SparkSettings
from tidemark.spark import log_stores
from tidemark.spark.transforms import SESSION_OPTIONS

# Resolved by Spark itself if set-up has not fetched the jars.
PACKAGES = ("org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0", "io.delta:delta-spark_4.2_2.13:4.4.0")


# Spark generates methods for validation that exceed the JVM's size limit for compilation and would only be interpreted.
_JAVA_OPTIONS = "-XX:-DontCompileHugeMethods"
# The optimising compiler takes half a minute of CPU, which does not pay off in a short job. With only the simple compiler, the JVM's
# default code cache is small: it would discard code and compile it again.
_SHORT_JOB = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
_SHORT_JOB_EVENTS = 2_000_000


def session(
    name: str,
    of: SparkSettings,
    *,
    memory: str,
    cores: int = 2,
    ui_port: int | None = None,
    events: int | None = None,
    leave: Path | None = None,
) -> SparkSession:
    """A session on the master of the settings. `memory` is the driver's heap (e.g. 2g); without `ui_port` there are no Spark pages.

    `cores` is its share of a cluster, `events` roughly the number of events to process (None: unbounded). `leave` is where the JVM writes
    an archive of its classes when it ends; without it the session uses the archive made by set-up.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    java_options = f"{_JAVA_OPTIONS} {_SHORT_JOB}" if _is_short(events) else _JAVA_OPTIONS
    scratch = _scratch(name, of.home)
    options: dict[str, bool | float | int | str | None] = {
        "spark.driver.memory": memory,
        "spark.driver.extraJavaOptions": f'{java_options} {_classes(leave, of)} "-Djava.io.tmpdir={scratch}"',
        "spark.executor.extraJavaOptions": java_options,
        **SESSION_OPTIONS,
        # Delta Lake, which stores the raw history.
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        **log_stores.options(),
        # Tasks write to MongoDB: only one attempt at a time, and no change of the plan at run time.
        "spark.speculation": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.minBatchesToRetain": "2",
        # It records the calling line of every column, which takes most of the time of making one.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": f"file://{scratch.resolve()}/warehouse",  # created by Spark and never used
        "spark.databricks.delta.snapshotPartitions": "2",  # by default fifty tasks read a table's log, however short it is
        "spark.redaction.regex": SPARK_REDACTION,
        "spark.ui.enabled": str(ui_port is not None).lower(),
        "spark.ui.killEnabled": "false",  # its pages have no login
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
    }
    options |= _on_this_machine() if of.spark_master.startswith("local") else _on_a_cluster(cores, of, scratch)
    if ui_port is not None:
        options["spark.ui.port"] = str(ui_port)
    options |= _connectors(of)
    return SparkSession.builder.master(of.spark_master).appName(name).config(map=options).getOrCreate()


def suits(spark: SparkSession, events: int) -> bool:
    """Would session() make one like this for so many events?"""
    return (_SHORT_JOB in (spark.conf.get("spark.driver.extraJavaOptions") or "")) == _is_short(events)


def _is_short(events: int | None) -> bool:
    return events is not None and events < _SHORT_JOB_EVENTS


def _classes(leave: Path | None, of: SparkSettings) -> str:
    """The JVM options for the archive of classes. An archive that does not match is ignored silently."""
    kind, archive = ("ArchiveClassesAtExit", leave) if leave else ("SharedArchiveFile", of.class_archive)
    return f'"-XX:{kind}={archive}" -Xlog:cds*=off -Xlog:class+path=off'


def _connectors(of: SparkSettings) -> dict[str, str]:
    """Options for the connectors' jars: on the driver's class path, because an archive only covers that; sent to executors elsewhere."""
    jars = sorted(str(jar) for jar in (of.jars / "spark").glob("*.jar"))
    if not jars:
        return {"spark.jars.packages": ",".join(PACKAGES)}
    sent = {} if of.spark_master.startswith("local") else {"spark.jars": ",".join(jars)}
    return {"spark.driver.extraClassPath": os.pathsep.join(jars), **sent}


def _on_this_machine() -> dict[str, str]:
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # otherwise its pages are reachable from the network
    return {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2",
        "spark.hadoop.fs.permissions.umask-mode": "077",  # of the raw history: Hadoop does not go by the process's umask
    }


def _on_a_cluster(cores: int, of: SparkSettings, scratch: Path) -> dict[str, str]:
    """Options that limit the session to a part of the cluster: otherwise the first one, the stream, would take all cores for ever."""
    if of.spark_host in LOOPBACK:
        os.environ.setdefault("SPARK_LOCAL_IP", of.spark_host)
    if secret := of.spark_secret.get_secret_value():
        _submit_with(scratch / "secret.conf", f"spark.authenticate.secret={secret}\n")
    driver = {"spark.driver.host": of.spark_host, "spark.driver.bindAddress": of.spark_bind} if of.spark_host else {}
    return {
        **driver,
        "spark.authenticate": str(bool(secret)).lower(),
        "spark.cores.max": str(cores),
        "spark.executor.memory": of.executor_memory,
        "spark.sql.shuffle.partitions": str(cores),
    }


def _submit_with(file: Path, properties: str) -> None:
    """Hands options to the JVM in a file: others would show in the list of processes."""
    file.touch(mode=0o600)
    file.write_text(properties)
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join(["--properties-file", str(file), "--load-spark-defaults", "pyspark-shell"])


def _scratch(name: str, home: Path) -> Path:
    """A folder for Spark's temporary files, one per process. Folders of killed processes are deleted."""
    folder = home / "spark"
    for left in folder.glob("*-*"):
        if not (Path("/proc") / left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    mine = folder / f"{name}-{os.getpid()}"
    mine.mkdir(parents=True, exist_ok=True)
    return mine
