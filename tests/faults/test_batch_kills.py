"""The batch layer is killed at every step: no number is wrong meanwhile, and whoever runs it again comes to the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support import batch_faults
from support.events import any_log
from support.lakes import landed, sent
from support.load import updates
from support.manual_stream import serve
from support.places import Place

from tidemark.serving import ledger, publications, verifications
from tidemark.serving.ledger import Fenced
from tidemark.spark.batch import Batch
from tidemark.spark.land import land

pytestmark = pytest.mark.servers

SCRIPT = Path(batch_faults.__file__)


def killed_at(point: str, *command: object) -> None:
    """Runs a command that ends itself at a point."""
    words = [sys.executable, str(SCRIPT), point, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, start_new_session=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, f"{point}: status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


def test_a_kill_while_publishing(place: Place, spark: SparkSession) -> None:
    random, work = Random(101), Batch(place.database, place.settings, spark)
    place.send(updates(random, 150, keys=40))
    serve(place, spark)
    work.land()
    number = work.cut()
    work.recompute(number, "auto")
    assert work.verify(number)["drift"] == 0
    before = publications.served(place.database)
    killed_at("publish-in-transaction", "publish", number)
    assert publications.served(place.database) == before
    assert place.wrong() == []
    work.publish(number, 7)
    assert publications.served(place.database) == number
    assert place.wrong() == []


@pytest.mark.soak(proof="nights")
def test_a_kill_while_compacting(place: Place, spark: SparkSession) -> None:
    _upkeep_killed(place, spark, Random(105), "compacting")


@pytest.mark.soak(proof="nights")
def test_a_kill_at_every_step_of_maintenance(place: Place, spark: SparkSession) -> None:
    *compacting, compacted = _upkeep_killed(place, spark, Random(106), *["compacting"] * 5, "compacted")
    assert not all(compacting), "whoever looks for the first file of a write may see it when all is written, but not always"
    assert compacted


def _upkeep_killed(place: Place, spark: SparkSession, random: Random, *points: str) -> list[bool]:
    """Whether the raw history was compacted when it was killed at each point. It reads the same, is landed on, and the next upkeep ends."""
    work = Batch(place.database, place.settings, spark)

    def is_compacted_when_killed_at(point: str) -> bool:
        place.send(updates(random, 60, keys=40))
        land(spark, work.lake, ledger.read(place.database), place.settings, most=8)
        files = work.lake.sizes()["events"][0]
        killed_at(point, "maintain")
        assert landed(work.lake) == sent(place), point
        return work.lake.sizes()["events"][0] < files

    compacted = [is_compacted_when_killed_at(point) for point in points]
    assert work.maintain(7)["lake: events"].items == 1
    assert landed(work.lake) == sent(place)
    return compacted


REBUILD_POINTS = ("rebuild-begun", "products-removed", "products-written", "before-the-end", "end-in-transaction", "rebuilt")


def _rebuild_killed(place: Place, spark: SparkSession, points: tuple[str, ...], random: Random) -> None:
    work = Batch(place.database, place.settings, spark)
    place.send([*any_log(random, 150), *updates(random, 150, keys=40)])
    serve(place, spark)
    work.nightly("auto", "correct", 7)
    first = publications.served(place.database)
    for point in points:
        place.send(updates(random, 60, keys=80))
        stream = serve(place, spark)
        place.database.product.delete_many({"_id": {"$lt": "B0T0000010"}})
        killed_at(point, "rebuild", first)
        rebuilding = ledger.read(place.database).rebuilding
        assert rebuilding == (None if point == "rebuilt" else first), point
        assert place.wrong() == [], point
        place.send(updates(random, 20, keys=80))
        with pytest.raises(Fenced):
            stream.run(stream.next(place.log(), 20))
        if rebuilding is not None:
            with pytest.raises(Fenced, match="the stream cannot run until the rebuild is finished"):
                serve(place, spark)
        # The next night finishes what was left, before anything else.
        if rebuilding is not None:
            work.cut()
        assert ledger.read(place.database).rebuilding is None
        serve(place, spark)
        assert place.wrong() == [], point
        assert place.wrong_documents() == [], point


def test_a_kill_while_rebuilding(place: Place, spark: SparkSession) -> None:
    _rebuild_killed(place, spark, ("products-removed",), Random(102))


@pytest.mark.soak(proof="rebuilds")
@pytest.mark.timeout(3600)
def test_a_kill_at_every_step_of_a_rebuild(place: Place, spark: SparkSession) -> None:
    _rebuild_killed(place, spark, REBUILD_POINTS * 3, Random(103))


@pytest.mark.soak(proof="nights")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("drifted", [False, True])
def test_a_kill_at_every_step_of_a_nightly_batch(place: Place, spark: SparkSession, drifted: bool) -> None:
    """Where a product is missing the night ends in a rebuild."""
    random, work = Random(104), Batch(place.database, place.settings, spark)
    place.send([*any_log(random, 150), *updates(random, 200, keys=40)])
    serve(place, spark)
    points = [point for point in batch_faults.POINTS if point not in ("compacting", "compacted")]
    points = [point for point in points if not (point.startswith("publish") if drifted else point in REBUILD_POINTS)]
    for point in points:
        place.send(updates(random, 80, keys=40))
        serve(place, spark)
        if drifted:
            place.database.product.delete_one({})
        killed_at(point, "nightly")
        assert place.wrong() == [], point
        work.nightly("auto", "correct", 3)
        newest = publications.listing(place.database)[0].number
        assert verifications.read(place.database, newest)["counts"]["cell"] == 0, point
        assert place.wrong() == [], point
        serve(place, spark)
        assert place.wrong() == [], point
        assert place.wrong_documents() == [], point
