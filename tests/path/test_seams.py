"""What meets at the seams between stream, batch, rules and rebuild: nothing is stuck, and nothing stays that was never committed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support.catalogs import ingest, read
from support.load import updates
from support.manual_stream import serve, stream_of
from support.names import NAMES
from support.nights import named, night
from support.places import Place

from tidemark.catalog.rules import RULES
from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.serving import ledger, publications, rebuilds, withdrawals
from tidemark.serving.ledger import Fenced
from tidemark.serving.publications import OtherRules
from tidemark.spark import microbatch
from tidemark.spark.batch import Batch
from tidemark.spark.recompute import Mode

pytestmark = pytest.mark.servers


class Killed(Exception):
    """The process ends here."""


def a_file(place: Place, folder: Path, day: int) -> str:
    """A generated catalog of 40 products, sent as of that day; its ingestion."""
    *_, path = write(40, day, seed=day, out=folder, first_day=date(2024, 1, 1))
    return ingest(place, [read(path, FileKind.PRODUCT, f"2024-01-0{day}")], chunk_bytes=50_000)[0]


def test_a_file_is_withdrawn_while_its_events_are_written_ahead(
    place: Place, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents of a micro-batch that never committed are drift once the mark has passed their events: no stream reads these again."""
    a_file(place, tmp_path, 1)
    serve(place, spark)
    wrong = a_file(place, tmp_path, 2)
    stream = stream_of(place, spark)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(microbatch.ledger, "commit", killed)
        with pytest.raises(Killed):
            stream.run(stream.next(place.log(), 1_000))
    withdrawals.withdraw(place.database, wrong, "somebody", "the wrong file", NAMES)
    serve(place, spark)
    assert place.wrong_documents() != [], "the file's documents are still there"
    work = Batch(place.database, place.settings, spark)
    assert named(night(work)).keys() == {"product"}
    assert place.wrong() == []
    assert place.wrong_documents() == []
    assert named(night(work)) == {}


def test_a_rebuild_begins_only_under_the_rules_in_force(place: Place, spark: SparkSession, tmp_path: Path) -> None:
    file = a_file(place, tmp_path, 1)
    serve(place, spark)
    work = Batch(place.database, place.settings, spark)
    night(work)
    withdrawals.withdraw(place.database, file, "somebody", "while the rebuild reads its rules", NAMES)
    with pytest.raises(OtherRules):
        work.rebuild(1)
    now = ledger.read(place.database)
    assert (now.rebuilding, now.rebuilds) == (None, 0)
    serve(place, spark)
    night(Batch(place.database, place.settings, spark))
    assert place.wrong() + place.wrong_documents() == []


def test_an_unfinishable_rebuild_is_taken_over(place: Place, spark: SparkSession, work: Batch) -> None:
    """As after an upgrade with other rules, or where its layers are lost."""
    place.send(updates(Random(98), 200, keys=40))
    serve(place, spark)
    night(work)
    publication = publications.read(place.database, publications.served(place.database))
    left = rebuilds.begin(place.database, publication, RULES)
    place.database.product.delete_many({})
    place.database.publication.update_one({"_id": publication.number}, {"$set": {"rules": "those of a former version"}})
    assert named(night(work, Mode.FULL)).keys() == {"product"}
    assert ledger.read(place.database).rebuilding is None
    with pytest.raises(Fenced):
        rebuilds.end(place.database, left, publication, {})
    serve(place, spark)
    assert place.wrong() + place.wrong_documents() == []
    assert named(night(work)) == {}
