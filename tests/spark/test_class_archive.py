"""The archive of Spark's classes: a session's JVM takes them from it, and starts all the same where it is of no use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidemark.settings.sections import HomeSettings
from tidemark.spark import class_archive
from tidemark.spark.class_archive import NotMade

# A process of its own: a JVM is asked for its classes while it loads them.
SESSION = """
import sys
from pathlib import Path
from tidemark.settings import Settings
from tidemark.spark.session import session
Settings.class_archive = Path(sys.argv[1])
spark = session("test-classes", Settings(), memory="1g")
spark.sql("CREATE TABLE delta.`%s` (number INT) USING DELTA" % sys.argv[2])
print("rows:", spark.range(7).count())
"""


def loaded(archive: Path, folder: Path) -> tuple[str, dict[str, str]]:
    """What a session's process says, and by class where it has come from."""
    log = folder / "classes"
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(archive), str(folder / "table")],
        env=os.environ | {"JAVA_TOOL_OPTIONS": f"{os.environ['JAVA_TOOL_OPTIONS']} -Xlog:class+load:file={log}.%p"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    lines = [line.partition(" source: ") for file in folder.glob("classes.*") for line in file.read_text().splitlines()]
    return done.stdout, {name.split()[-1]: source for name, _, source in lines}


def test_classes_of_spark_and_its_connectors_are_loaded_from_the_archive(tmp_path: Path) -> None:
    _, classes = loaded(HomeSettings().class_archive, tmp_path)
    for name in ("org.apache.spark.SparkContext", "org.apache.spark.sql.catalyst.plans.QueryPlan", "org.apache.spark.sql.delta.DeltaLog"):
        assert classes[name] == "shared objects file (top)"


@pytest.mark.soak(proof="losses")
@pytest.mark.parametrize("content", [None, b"no archive"])
def test_an_unusable_archive_is_ignored_silently(content: bytes | None, tmp_path: Path) -> None:
    archive = tmp_path / "spark.jsa"
    if content is not None:
        archive.write_bytes(content)
    output, classes = loaded(archive, tmp_path)
    assert "rows: 7" in output
    assert str(archive) not in output
    assert classes["org.apache.spark.SparkContext"].startswith("file:")


@pytest.mark.parametrize(("learn", "output"), [("echo no memory; exit 1", "no memory"), ('head -c 99999999 {whole} > "$3"', "fatal error")])
def test_a_failed_creation_keeps_the_former_archive(learn: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of one would be the end of every JVM that maps it."""
    process, archive = tmp_path / "python", tmp_path / "spark.jsa"
    process.write_text("#!/bin/sh\n" + learn.format(whole=HomeSettings().class_archive))
    process.chmod(0o755)
    archive.write_bytes(b"former")
    monkeypatch.setattr(sys, "executable", str(process))
    with pytest.raises(NotMade, match=output):
        class_archive.make(archive)
    assert archive.read_bytes() == b"former"
    assert {*tmp_path.iterdir()} == {process, archive}
