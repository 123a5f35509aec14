"""The Spark session that stream and batch share."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from tidemark.settings import LOOPBACK, settings
from tidemark.spark.transforms import SESSION_OPTIONS

# Resolved by Spark itself where set-up has not brought the jars.
PACKAGES = ("org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0", "io.delta:delta-spark_4.2_2.13:4.4.0")


# Validation makes generated methods so long that the JVM would interpret them for ever.
_JAVA_OPTIONS = "-XX:-DontCompileHugeMethods"
# Half a minute of CPU goes into the best machine code, which a short job ends without having used. A JVM that makes only simple code
# keeps little room for it by default, throws some away and compiles that again.
_SHORT_JOB = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
_SHORT_JOB_EVENTS = 2_000_000


def session(
    name: str, *, memory: str, cores: int = 2, ui_port: int | None = None, events: int | None = None, leave: Path | None = None
) -> SparkSession:
    """A session on the master of the settings; `memory` is the driver's heap (2g), without a port there are no Spark pages.

    `cores` are what it takes of a cluster, `events` is about how many it will go through, None no end of them. `leave` is where the JVM
    leaves an archive of its classes when it ends; without it those of the archive that set-up made are used.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    short = events is not None and events < _SHORT_JOB_EVENTS
    java_options = f"{_JAVA_OPTIONS} {_SHORT_JOB}" if short else _JAVA_OPTIONS
    scratch = _scratch(name)
    options: dict[str, bool | float | int | str | None] = {
        "spark.driver.memory": memory,
        "spark.driver.extraJavaOptions": f'{java_options} {_classes(leave)} "-Djava.io.tmpdir={scratch}"',
        "spark.executor.extraJavaOptions": java_options,
        **SESSION_OPTIONS,
        # Delta Lake's, which the raw history is in.
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # What tasks write to MongoDB must be written by one attempt at a time, in the plan that was made.
        "spark.speculation": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.minBatchesToRetain": "2",
        # It notes the calling line of every column: most of the time that making one takes.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": f"file://{scratch.resolve()}/warehouse",  # Spark makes it, and nothing is in it
        "spark.databricks.delta.snapshotPartitions": "2",  # by default fifty tasks read a table's log, however short it is
        "spark.ui.enabled": str(ui_port is not None).lower(),
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "WARN",
    }
    options |= _on_this_machine() if settings().spark_master.startswith("local") else _on_a_cluster(cores)
    if ui_port is not None:
        options["spark.ui.port"] = str(ui_port)
    options |= _connectors()
    return SparkSession.builder.master(settings().spark_master).appName(name).config(map=options).getOrCreate()


def _classes(leave: Path | None) -> str:
    """A JVM's options for the archive of classes. One that does not fit is nothing to tell of."""
    kind, archive = ("ArchiveClassesAtExit", leave) if leave else ("SharedArchiveFile", settings().class_archive)
    return f'"-XX:{kind}={archive}" -Xlog:cds*=off -Xlog:class+path=off'


def _connectors() -> dict[str, str]:
    """In the driver on the class path, as only classes from there are in an archive; executors elsewhere are sent them."""
    jars = sorted(str(jar) for jar in (settings().jars / "spark").glob("*.jar"))
    if not jars:
        return {"spark.jars.packages": ",".join(PACKAGES)}
    sent = {} if settings().spark_master.startswith("local") else {"spark.jars": ",".join(jars)}
    return {"spark.driver.extraClassPath": os.pathsep.join(jars), **sent}


def _on_this_machine() -> dict[str, str]:
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # else its pages are there for everybody in the network
    return {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.sql.shuffle.partitions": "2"}


def _on_a_cluster(cores: int) -> dict[str, str]:
    """A part of it, because whoever comes first would else take all of it: the stream, for ever."""
    of = settings()
    if of.spark_host in LOOPBACK:
        os.environ.setdefault("SPARK_LOCAL_IP", of.spark_host)
    driver = {"spark.driver.host": of.spark_host, "spark.driver.bindAddress": of.spark_bind} if of.spark_host else {}
    return {
        **driver,
        "spark.cores.max": str(cores),
        "spark.executor.memory": of.executor_memory,
        "spark.sql.shuffle.partitions": str(cores),
    }


def _scratch(name: str) -> Path:
    """An empty folder of this process's for what Spark keeps on disk for a while. Those of processes that were killed go."""
    folder = settings().home / "spark"
    for left in folder.glob("*-*"):
        if not (Path("/proc") / left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    mine = folder / f"{name}-{os.getpid()}"
    mine.mkdir(parents=True, exist_ok=True)
    return mine
