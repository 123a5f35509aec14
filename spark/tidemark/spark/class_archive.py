"""An archive of Spark's classes (class data sharing): `python -m tidemark.spark.class_archive` makes it for the installed Java.

A JVM maps the archive into memory instead of reading, verifying and linking thousands of classes, which saves a quarter of the CPU of a
short job. A JVM ignores an archive that does not match its version or jars, and starts as without it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemark.catalog.marks import TideMark
from tidemark.settings import java, settings
from tidemark.settings.sections import SparkSettings
from tidemark.spark import transforms
from tidemark.spark.lake import Lake
from tidemark.spark.session import session

_PRODUCT, _CATEGORY = "product", "category"
_RECORDS = """topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, key BINARY, value BINARY,
    headers ARRAY<STRUCT<key: STRING, value: BINARY>>"""

log = logging.getLogger("tidemark.class_archive")


class NotMade(Exception):
    """The archive could not be made; the message is the end of the process's output."""


def make(archive: Path) -> None:
    """Runs a process that does what jobs do; its JVM writes the archive. Raises NotMade; an existing archive then stays."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        new = Path(folder) / archive.name
        done = subprocess.run(
            [sys.executable, "-m", "tidemark.spark.class_archive", str(new)],
            env=os.environ | {"TIDEMARK_HOME": folder, "TIDEMARK_SPARK_MASTER": "local[2]"},
            stdout=subprocess.PIPE,  # also held by its JVM, so this waits for both
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode or not new.is_file():
            raise NotMade(done.stdout[-2000:])
        # A JVM ignores an archive that does not match, but crashes on a truncated one, e.g. after the disk was full.
        tried = subprocess.run([java(), f"-XX:SharedArchiveFile={new}", "-version"], cwd=folder, capture_output=True, text=True)
        if tried.returncode:
            raise NotMade(tried.stdout[-2000:])
        new.replace(archive)  # running JVMs keep the former one


def _learn(archive: Path, of: SparkSettings) -> None:
    """Lands, validates, reduces and sums two events, and passes rows through a Python task."""
    spark = session("tidemark-class-archive", of, memory="1g", leave=archive)
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    product = b'{"asin":"B0GOOD0001","title":"Bag","price":"1.50","stars":"4.5","category_id":"1"}'
    records: list[tuple[Any, ...]] = [
        (_PRODUCT, 0, 0, moment, b"B0GOOD0001", product, []),
        (_CATEGORY, 0, 0, moment, b"1", b'{"id":"1","category_name":"Bags"}', []),
    ]
    lake = Lake(spark, str(archive.with_name("lake")))
    lake.append(transforms.events(spark.createDataFrame(records, _RECORDS)), 1)
    landed = lake.events(TideMark(), lake.landed().mark)
    layer = lake.write_layer(transforms.states(transforms.observed(landed, _CATEGORY)))
    states = lake.states(lake.layers())
    transforms.cube(states).collect()
    states.select("kind").mapInArrow(lambda batches: batches, "kind STRING").collect()
    lake.drop_layers([layer])
    spark.stop()


def main(words: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if words:
        _learn(Path(words[0]), settings())
        return 0
    try:
        make(settings().class_archive)
    except NotMade as error:
        log.warning("The archive of Spark's classes could not be made; without it, jobs take longer to start:\n%s", error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
