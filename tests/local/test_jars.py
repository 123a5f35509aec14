"""The lock of the jars: what set-up fetches, and what it must not."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

from tidemark.local import jars
from tidemark.settings.sections import HomeSettings
from tidemark.spark import log_stores

LINES = jars.LOCK.read_text().splitlines()


def test_every_line_of_the_lock_is_a_digest_and_a_path() -> None:
    assert len(LINES) > 40
    assert [line for line in LINES if not re.fullmatch(r"[0-9a-f]{64}  (kafka|spark)/[\w.-]+\.jar", line)] == []


def test_the_lock_is_sorted_without_duplicates() -> None:
    paths = [line.split()[1] for line in LINES]
    assert paths == sorted(set(paths))


@pytest.mark.parametrize("module", jars.MODULES, ids=lambda module: module.name)
def test_every_module_is_locked_at_its_version(module: jars.Module) -> None:
    assert f"{module.folder}/{module.name}-{module.version}.jar" in jars.locked()


def test_no_jar_duplicates_one_of_pyspark() -> None:
    own = {jar.name.rpartition("-")[0] for jar in log_stores.pyspark_jars().glob("*.jar")}
    assert len(own) > 100
    ours = {Path(path).name.rpartition("-")[0] for path in jars.locked() if path.startswith("spark/")}
    assert ours & own == set()


def test_installed_jars_equal_the_lock() -> None:
    assert jars.missing(HomeSettings().jars) == []


def test_log_stores_are_compiled_again_from_a_changed_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be compiled leaves what there is."""
    folder = tmp_path / "share/tidemark/jars/spark"
    folder.mkdir(parents=True)
    for jar in (HomeSettings().jars / "spark").glob("delta-storage-*.jar"):
        (folder / jar.name).symlink_to(jar)
    (folder / "tidemark-log-stores-former.jar").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(jars, "missing", lambda _: [])
    monkeypatch.setattr(sys, "argv", ["jars"])
    monkeypatch.setattr(log_stores, "SOURCE", tmp_path / "stores.scala")
    log_stores.SOURCE.write_text("package tidemark\nclass One")
    assert jars.main() == 0
    made = log_stores.jar(folder.parent)
    assert "tidemark/One.class" in zipfile.ZipFile(made).namelist()
    log_stores.SOURCE.write_text("package tidemark\nclass")
    assert jars.main() == 1
    assert "identifier expected" in caplog.text
    assert [*folder.glob("tidemark-*")] == [made]


def test_a_jar_with_other_content_counts_as_missing(tmp_path: Path) -> None:
    for path in jars.locked():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(HomeSettings().jars / path)
    assert jars.missing(tmp_path) == []
    changed, *_ = jars.locked()
    (tmp_path / changed).unlink()
    (tmp_path / changed).write_bytes((HomeSettings().jars / changed).read_bytes() + b" ")
    assert jars.missing(tmp_path) == [changed]
