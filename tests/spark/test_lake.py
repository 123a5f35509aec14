"""The commits of the raw history: what exists is never written again, whichever driver writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession
from support.wording import Wording

from tidemark.spark import log_stores
from tidemark.spark.lake import Lake, UnusableLake

pytestmark = pytest.mark.servers


class Store:
    """The log store for folders, without Delta."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark._jvm
        self._options = spark._jsc.hadoopConfiguration()
        self._store = self._jvm.tidemark.FileLogStore(self._options)

    def write(self, file: Path, *lines: str, overwrite: bool = False) -> None:
        actions = self._jvm.java.util.ArrayList(list(lines))
        self._store.write(self._jvm.org.apache.hadoop.fs.Path(str(file)), actions.iterator(), overwrite, self._options)

    def refuses(self, file: Path, *lines: str) -> None:
        with pytest.raises(Py4JJavaError) as refused:
            self.write(file, *lines)
        assert refused.value.java_exception.getClass().getName() == "java.nio.file.FileAlreadyExistsException"


def test_a_commit_is_written_once(spark: SparkSession, tmp_path: Path) -> None:
    one, other, commit = Store(spark), Store(spark), tmp_path / "a folder%20" / "1.json"
    commit.parent.mkdir()
    one.write(commit, "first", "\u00e9")
    other.refuses(commit, "second")
    assert commit.read_text(encoding="utf-8") == "first\n\u00e9\n"
    other.write(commit, "third", overwrite=True)
    assert commit.read_text() == "third\n"
    assert [*commit.parent.iterdir()] == [commit]


def test_creation_itself_detects_an_existing_commit(spark: SparkSession, tmp_path: Path) -> None:
    """A check before writing does not see a link that leads nowhere, as it does not see what another driver writes right after it."""
    commit = tmp_path / "1.json"
    commit.symlink_to(tmp_path / "nowhere")
    Store(spark).refuses(commit, "x")
    assert commit.is_symlink()
    assert [*tmp_path.iterdir()] == [commit]


def test_delta_commits_through_the_log_store(spark: SparkSession) -> None:
    jvm: Any = spark._jvm
    delegating = jvm.org.apache.spark.sql.delta.storage.LogStore.createLogStore(spark._jsparkSession)
    found = {scheme: delegating.getDelegate(jvm.org.apache.hadoop.fs.Path(f"{scheme}:///x")) for scheme in log_stores.BY_SCHEME}
    names = {scheme: store.logStoreImpl().getClass().getName() for scheme, store in found.items()}
    assert names == log_stores.BY_SCHEME


def test_log_stores_of_another_version_are_reported(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    monkeypatch.setattr(log_stores, "jar_name", lambda: "none.jar")
    with pytest.raises(UnusableLake) as error:
        Lake(spark, str(tmp_path / "lake"))
    wording.check(str(error.value))
    assert not (tmp_path / "lake").exists()
