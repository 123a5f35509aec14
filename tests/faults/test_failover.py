"""Fail-over: the primary of three MongoDB servers steps down or is killed in the middle of what stream and night do.

Whoever gives up is started again, as a supervisor or Airflow would, and no number is ever wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession
from support.catalogs import ingest, read
from support.load import names, updates
from support.manual_stream import Stream, serve, stream_of
from support.nights import night
from support.places import Place, a_place
from support.replica_sets import ReplicaSet, three_mongods

from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.serving import cells, ledger, publications
from tidemark.spark.batch import Batch
from tidemark.spark.microbatch import MicroBatches
from tidemark.spark.recompute import Mode

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def replicas(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with three_mongods(tmp_path_factory.mktemp("mongods"), election_seconds=1) as found:
        yield found


@pytest.fixture
def replicated(replicas: ReplicaSet) -> Iterator[Place]:
    with a_place() as found:
        yield found


def once_before(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """`act` happens before the next call of that function, and only then."""
    function = getattr(owner, name)

    def acting(*arguments: Any, **options: Any) -> Any:
        patch.setattr(owner, name, function)
        act()
        return function(*arguments, **options)

    patch.setattr(owner, name, acting)


# What fails over at which point of a micro-batch.
POINTS: tuple[tuple[Any, str, bool], ...] = (
    (MicroBatches, "_write_products", True),
    (ledger, "record_renames", False),
    (cells, "add", False),
    (cells, "add", True),
)


def test_the_primary_changes_during_micro_batches(
    replicas: ReplicaSet, replicated: Place, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, random = replicated, Random(171)
    stream, restarts = stream_of(place, spark), 0

    def serve_by(stream: Stream, events: int) -> Stream:
        """By that stream, or where it fails by the next one."""
        place.send([*updates(random, events, keys=300), *names(random, 5)])
        while left := stream.next(place.log(), 10_000):
            try:
                stream.run(left)
            except Exception:
                nonlocal restarts
                restarts += 1
                stream = stream_of(place, spark)
        assert place.wrong() == []
        assert place.wrong_documents() == []
        return stream

    stream = serve_by(stream, 400)
    for owner, name, kills in POINTS:
        killed: list[int] = []
        once_before(monkeypatch, owner, name, lambda kills=kills, killed=killed: _fail_over(replicas, kills, killed))
        stream = serve_by(stream, 300)
        for port in killed:
            replicas.start(port)
    assert restarts == 0, "what was told to be tried again was tried again"


READS, WRITES = ("find", "aggregate", "count", "distinct"), ("insert", "update", "delete", "findAndModify", "commitTransaction")


def test_every_command_waits_for_a_majority(
    replicas: ReplicaSet, replicated: Place, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ingestion, stream and night ask of MongoDB: what a primary has not shared with a majority is lost when it fails.

    The primary changes before the night is published, too.
    """
    place = replicated
    replicas.log_all_commands()
    *_, path = write(30, 1, seed=1, out=tmp_path, first_day=date(2024, 1, 1))
    ingest(place, [read(path, FileKind.PRODUCT, "2024-01-01")], chunk_bytes=50_000)
    place.send([*updates(Random(172), 100, keys=30), *names(Random(172), 5)])
    serve(place, spark)
    once_before(monkeypatch, publications, "publish", replicas.step_down)
    assert night(Batch(place.database, place.settings, spark), Mode.FULL)["drift"] == 0
    assert place.wrong() == []
    asked = [one for one in replicas.commands() if one["$db"] in (place.database.name, "admin") and "lsid" in one]
    levels: dict[str, set[str]] = {}
    for one in asked:
        name = next(iter(one))
        if name in READS and "autocommit" not in one:
            levels.setdefault(name, set()).add(one.get("readConcern", {}).get("level", "none"))
        elif name in WRITES and (name == "commitTransaction" or "autocommit" not in one):
            levels.setdefault(name, set()).add(str(one.get("writeConcern", {}).get("w", "none")))
    assert levels.keys() >= {"find", "aggregate", "insert", "update", "findAndModify", "commitTransaction"}
    for name, asked_for in levels.items():
        assert asked_for <= ({"majority", "snapshot", "linearizable"} if name in READS else {"majority"}), name


def _fail_over(replicas: ReplicaSet, kills: bool, killed: list[int]) -> None:
    if kills:
        killed.append(replicas.kill_primary())
    else:
        replicas.step_down()
