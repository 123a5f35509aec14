"""Log stores for Delta that write each commit once, whichever of several drivers writes it (log_stores.scala).

Delta's own for folders and S3 check whether a commit exists and then write it, which excludes the writers of one JVM only: of two
drivers the later one overwrites the commit of the other (docs/decisions/log-stores.md).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sysconfig
from pathlib import Path

from tidemark.settings import java

SOURCE = Path(__file__).with_name("log_stores.scala")
BY_SCHEME = {"file": "tidemark.FileLogStore", "s3a": "tidemark.S3LogStore"}
_JARS = "tidemark-log-stores-{}.jar"


class NotCompiled(Exception):
    """The log stores could not be compiled; the message is the compiler's output."""


def jar_name() -> str:
    """The name of the jar of the compiled log stores. It contains the digest of their source."""
    return _JARS.format(hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12])


def jar(jars: Path) -> Path:
    """The compiled log stores, beside the connectors' jars."""
    return jars / "spark" / jar_name()


def compile_log_stores(jars: Path) -> None:
    """Writes the jar, with the Scala compiler that PySpark includes, and deletes those of other sources. Raises NotCompiled."""
    made, own = jar(jars), pyspark_jars()
    compiler = [*own.glob("scala-*.jar")]
    needed = [*own.glob("scala-library-*.jar"), *own.glob("hadoop-client-api-*.jar"), *made.parent.glob("delta-storage-*.jar")]
    unfinished = made.with_name(f"{made.stem}-{os.getpid()}.jar")
    command = [java(), "-cp", _class_path(compiler), "scala.tools.nsc.Main", "-cp", _class_path(needed), "-d", str(unfinished), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not unfinished.is_file():
        unfinished.unlink(missing_ok=True)
        raise NotCompiled(done.stdout + done.stderr)
    unfinished.replace(made)
    for former in {*made.parent.glob(_JARS.format("*"))} - {made}:
        former.unlink()


def options() -> dict[str, str]:
    """Spark options for a session with these log stores."""
    return {f"spark.delta.logStore.{scheme}.impl": name for scheme, name in BY_SCHEME.items()}


def pyspark_jars() -> Path:
    """The folder of the jars that PySpark includes."""
    return Path(sysconfig.get_path("purelib")) / "pyspark" / "jars"


def _class_path(jars: list[Path]) -> str:
    return os.pathsep.join(map(str, jars))
