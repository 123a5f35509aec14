"""Kafka's and Spark's jars: `python -m tidemark.local.jars` fetches those in jars.lock from Maven Central with Ivy.

Ivy comes with PySpark. A jar whose digest differs from jars.lock is refused. `--lock` rewrites jars.lock. With Spark's jars it compiles
the log stores for the raw history.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tidemark.settings import java, settings
from tidemark.spark import log_stores

LOCK = Path(__file__).with_name("jars.lock")
PATTERN = "[artifact]-[revision](-[classifier]).[ext]"

log = logging.getLogger("tidemark.jars")


class Module(NamedTuple):
    folder: str
    organisation: str
    name: str
    version: str


MODULES = (
    Module("kafka", "org.apache.kafka", "kafka_2.13", "4.4.0"),
    Module("kafka", "org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.5"),  # without it the broker logs nothing
    Module("spark", "org.apache.spark", "spark-sql-kafka-0-10_2.13", "4.2.0"),
    Module("spark", "io.delta", "delta-spark_4.2_2.13", "4.4.0"),
)


class WrongJars(Exception):
    """The fetched jars do not match the lock."""


def locked() -> dict[str, str]:
    """The locked SHA-256 digests, by path (kafka/kafka_2.13-4.4.0.jar)."""
    pairs = (line.split(maxsplit=1) for line in LOCK.read_text().splitlines() if line)
    return {path.strip(): digest for digest, path in pairs}


def missing(root: Path) -> list[str]:
    """The locked paths that are missing or have another digest."""
    return [path for path, digest in locked().items() if not (root / path).is_file() or _digest(root / path) != digest]


def fetch(root: Path) -> None:
    """Fetches all locked jars into the folder root. Raises WrongJars, or CalledProcessError after logging Ivy's output."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = _retrieve(Path(folder))
        for path in locked():
            if path in fetched:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(fetched[path], root / path)
    if wrong := missing(root):
        for path in wrong:
            (root / path).unlink(missing_ok=True)
        raise WrongJars(f"Maven Central did not provide these jars of jars.lock: {', '.join(wrong)}")


def lock() -> None:
    """Writes jars.lock: all of Kafka's jars, and those of Spark's connectors that PySpark does not include."""
    own = {jar.name for jar in log_stores.pyspark_jars().glob("*.jar")}
    with tempfile.TemporaryDirectory() as folder:
        fetched = _retrieve(Path(folder))
        kept = sorted(path for path, jar in fetched.items() if path.startswith("kafka/") or (jar.name not in own and not _of_pyspark(jar)))
        LOCK.write_text("".join(f"{_digest(fetched[path])}  {path}\n" for path in kept))


def _retrieve(folder: Path) -> dict[str, Path]:
    for module in MODULES:
        log.info("fetching %s:%s:%s and its dependencies", module.organisation, module.name, module.version)
        command = [
            *(java(), "-jar", str(next(log_stores.pyspark_jars().glob("ivy-*.jar")))),
            *("-cache", str(folder / "cache")),
            *("-dependency", module.organisation, module.name, module.version),
            *("-confs", "default", "runtime", "-types", "jar", "bundle"),
            *("-retrieve", str(folder / module.folder / PATTERN)),
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            log.error("%s", done.stdout[-4000:] + done.stderr[-4000:])
            done.check_returncode()
    return {f"{jar.parent.name}/{jar.name}": jar for module in MODULES for jar in (folder / module.folder).glob("*.jar")}


def _of_pyspark(jar: Path) -> bool:
    """Does PySpark include this artifact in any version?"""
    artifact = jar.name.rpartition("-")[0]
    return any(own.name.rpartition("-")[0] == artifact for own in log_stores.pyspark_jars().glob("*.jar"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder = settings().jars
    try:
        if "--lock" in sys.argv[1:]:
            lock()
        elif missing(folder):
            fetch(folder)
        if not log_stores.jar(folder).is_file():
            log_stores.compile_log_stores(folder)
    except log_stores.NotCompiled as error:
        log.error("the log stores for the raw history could not be compiled:\n%s", error)
        return 1
    except (WrongJars, OSError, subprocess.CalledProcessError) as error:
        log.error("the jars could not be fetched: %s. Check that Maven Central (repo1.maven.org) is reachable", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
