"""The lock of the jars: what set-up fetches, and what it must not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidemark.local import jars
from tidemark.settings.sections import HomeSettings
from tidemark.spark import log_stores

LINES = jars.LOCK.read_text().splitlines()


def test_every_line_is_a_digest_and_a_path() -> None:
    assert len(LINES) > 40
    assert [line for line in LINES if not re.fullmatch(r"[0-9a-f]{64}  (kafka|spark)/[\w.-]+\.jar", line)] == []


def test_the_lock_is_in_order_and_names_nothing_twice() -> None:
    paths = [line.split()[1] for line in LINES]
    assert paths == sorted(set(paths))


@pytest.mark.parametrize("module", jars.MODULES, ids=lambda module: module.name)
def test_every_module_is_locked_at_its_version(module: jars.Module) -> None:
    assert f"{module.folder}/{module.name}-{module.version}.jar" in jars.locked()


def test_no_jar_stands_beside_pysparks_own() -> None:
    own = {jar.name.rpartition("-")[0] for jar in log_stores.pyspark_jars().glob("*.jar")}
    assert len(own) > 100
    ours = {Path(path).name.rpartition("-")[0] for path in jars.locked() if path.startswith("spark/")}
    assert ours & own == set()


def test_what_is_installed_is_what_is_locked() -> None:
    assert jars.missing(HomeSettings().jars) == []


def test_a_jar_of_another_content_is_missing(tmp_path: Path) -> None:
    for path in jars.locked():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(HomeSettings().jars / path)
    assert jars.missing(tmp_path) == []
    changed, *_ = jars.locked()
    (tmp_path / changed).unlink()
    (tmp_path / changed).write_bytes((HomeSettings().jars / changed).read_bytes() + b" ")
    assert jars.missing(tmp_path) == [changed]
