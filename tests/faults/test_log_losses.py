"""Kafka loses events, or all of them: nobody goes on silently, one command does, and what can be sent again is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support import broker
from support.csvs import OBSERVED_AT, products
from support.events import any_log
from support.load import updates
from support.manual_stream import Stream, serve, stream_of
from support.nights import named, night
from support.places import Place, wrong_products
from support.recompute import differences, recompute, reports
from support.servers import Servers
from support.wording import Wording

from tidemark.catalog.epochs import OFFSETS, first_of
from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.ingest import jobs
from tidemark.ingest.files import FileKind
from tidemark.ingest.produce import RECOMMENDED
from tidemark.serving import ingestions, ledger, publications
from tidemark.serving.bindings import TopicsRecreated
from tidemark.serving.ingestions import LogReplaced
from tidemark.serving.snapshot import snapshot
from tidemark.spark.adopt import OtherLoss
from tidemark.spark.batch import Batch
from tidemark.spark.log import MissingOffsets, NewLeader, OtherRecords, describe_log, records, require_records
from tidemark.spark.speed import _ready

pytestmark = pytest.mark.servers


def send(place: Place, seed: int, count: int = 120) -> None:
    random = Random(seed)
    place.send([*any_log(random, count // 3), *updates(random, count, keys=40)])


def raw_history(work: Batch) -> list[Event]:
    """All events that the raw history holds."""
    rows = work.lake.events(TideMark(), work.lake.landed().mark).collect()
    return [
        Event(
            *(row["topic"], row["partition"], row["offset"], row["timestamp"]),
            *(None if row[name] is None else bytes(row[name]) for name in ("key", "value")),
            tuple((one["key"], None if one["value"] is None else bytes(one["value"])) for one in row["headers"] or ()),
        )
        for row in rows
    ]


def wrong_by(place: Place, events: Iterable[Event]) -> list[str]:
    """What is wrong with reports and products, against a recomputation from these events."""
    truth = recompute(events, place.settings.category_topic)
    expected = reports(truth)
    with snapshot(place.database) as now:
        served = {view: now.rows(view) for view in expected if view in ("report_cube", "report_category", "report_summary")}
    wrong = [line for view, rows in served.items() for line in differences(view, expected[view], rows)]
    return wrong + wrong_products(place.database, truth)


class Tail:
    """The end of the log of each partition, which a broker that is killed may lose: it has not been flushed."""

    def __init__(self, servers: Servers, place: Place) -> None:
        self._servers = servers
        folders = [
            Path(servers.kafka.of.home) / "kafka" / "log" / f"{key.topic}-{key.partition}" for key in describe_log(place.settings).ends
        ]
        self._sizes = {file: file.stat().st_size for folder in folders for file in folder.glob("*.log")}

    def lose(self) -> None:
        """The broker dies, and its disk has what it had when this object was made."""
        self._servers.kafka.kill()
        for file, size in self._sizes.items():
            with file.open("r+b") as log:
                log.truncate(size)
            for index in (*file.parent.glob("*.index"), *file.parent.glob("*.timeindex"), *file.parent.glob("*.snapshot")):
                index.unlink()
        self._servers.kafka.start()
        self._servers.wait()


def both_refuse(place: Place, work: Batch, error: type[Exception]) -> str:
    """The stream does not start and nothing lands; what the stream says."""
    before = ledger.read(place.database)
    with pytest.raises(error):
        work.land()
    with pytest.raises(error) as refused:
        _ready(before, place.settings)
    assert ledger.read(place.database) == before
    return str(refused.value)


def test_the_broker_loses_its_tail_and_producers_go_on(
    fallible: Servers, fallible_place: Place, spark: SparkSession, tmp_path: Path
) -> None:
    place, work = fallible_place, Batch(fallible_place.database, fallible_place.settings, spark)
    send(place, 1)
    tail = Tail(fallible, place)
    file = jobs.File(FileKind.PRODUCT, tmp_path / "products.csv", OBSERVED_AT)
    file.path.write_bytes(products(60))  # type: ignore[attr-defined]
    planned = jobs.plan(place.database, [file], 3_000, place.settings)
    assert len(planned.chunks) > 1
    producer = place.producer()
    for chunk in planned.chunks:
        jobs.produce(place.database, lambda: producer, RECOMMENDED, Path, place.settings, **chunk)
    stream = serve(place, spark)
    work.land()
    landed, served = raw_history(work), ledger.read(place.database).offsets
    tail.lose()

    with pytest.raises(NewLeader):
        stream.run([])
    both_refuse(place, work, MissingOffsets)
    send(place, 3, count=900)
    assert all(end >= served[key] for key, end in place.ends().items()), "the log has not grown beyond what was read"
    said = both_refuse(place, work, OtherRecords)
    assert said.count("there was a record of") >= 1

    # The raw history holds everything that was lost: nothing must be sent again.
    found = work.adopt(dry_run=True)
    assert not found["continues"]
    with pytest.raises(OtherLoss):
        work.adopt(as_shown="another id")
    work.adopt(as_shown=found["shown"])
    assert ingestions.lost_chunks(place.database) == {}
    assert wrong_by(place, landed) == []
    with pytest.raises(MissingOffsets):
        work.rebuild(0)
    serve(place, spark)
    assert named(night(work)) == {}
    everything = raw_history(work)
    assert len(everything) > len(landed)
    assert {event.offset // OFFSETS for event in everything} == {0, 1}
    assert wrong_by(place, everything) == []


@pytest.mark.soak(proof="drill")
def test_kafka_is_lost_with_what_was_not_landed(place: Place, spark: SparkSession, tmp_path: Path, wording: Wording) -> None:
    work = Batch(place.database, place.settings, spark)
    send(place, 4)
    serve(place, spark)
    night(work)
    landed = raw_history(work)
    file = jobs.File(FileKind.PRODUCT, tmp_path / "products.csv", OBSERVED_AT)
    file.path.write_bytes(products(60))  # type: ignore[attr-defined]
    planned = jobs.plan(place.database, [file], 3_000, place.settings)
    producer = place.producer()
    for chunk in planned.chunks:
        jobs.produce(place.database, lambda: producer, RECOMMENDED, Path, place.settings, **chunk)
    serve(place, spark)
    sent_in = ingestions.epoch(place.database)
    for topic in place.settings.topics:
        broker.recreate(topic)
    send(place, 6)
    both_refuse(place, work, TopicsRecreated)

    found = work.adopt(dry_run=True)
    text = found["text"]
    for topic, kind in zip(place.settings.topics, ("product", "category"), strict=True):
        text = text.replace(topic, kind)
    # Where events without a key lie is chance.
    text = re.sub(r"\| [0-9,]+ to [0-9,]+ \| [0-9,]+ \|", "| <first> to <last> | <count> |", text)
    wording.check(text, ingestion=planned.ingestions[0])
    work.adopt(as_shown=found["shown"])
    assert wrong_by(place, landed) == []
    lost = jobs.lost_chunks(place.database)
    assert lost == [*planned.chunks], "the chunks that were served and not landed are open"
    with pytest.raises(LogReplaced):
        ingestions.finish_chunk(place.database, planned.ingestions[0], 0, 1, TideMark(), sent_in)
    stream = serve(place, spark)
    for chunk in lost:
        jobs.produce(place.database, place.producer, RECOMMENDED, Path, place.settings, **chunk)
    assert jobs.lost_chunks(place.database) == []
    serve(place, spark, stream)
    assert named(night(work)) == {}
    assert ingestions.progress(place.database, planned.ingestions[0]).served
    assert wrong_by(place, raw_history(work)) == []
    assert len(place.log()) + len(landed) == len(raw_history(work))

    # A rebuild of what is served now begins no further epoch; what lies before it cannot be rebuilt.
    work.rebuild(publications.served(place.database))
    assert ledger.read(place.database).binding.epoch == 1
    with pytest.raises(MissingOffsets):
        work.rebuild(1)
    again: Stream = stream_of(place, spark)
    assert min(again.batches.offsets.values()) >= first_of(1)


def test_the_record_before_is_compared(place: Place, spark: SparkSession) -> None:
    send(place, 7)
    serve(place, spark)
    own, found = ledger.read(place.database), describe_log(place.settings)
    ends = {TopicPartition(*key): end for key, end in place.ends().items() if end}
    assert {key: record.offset + 1 for key, record in own.witness.items()} == ends
    require_records(place.settings, found, own.witness)
    for change in ({"timestamp": 1}, {"digest": 1}):
        other = {key: record._replace(**change) for key, record in own.witness.items()}
        with pytest.raises(OtherRecords):
            require_records(place.settings, found, other)
    further_back = records(place.settings, {key: record.offset - 1 for key, record in own.witness.items() if record.offset})
    assert further_back
    require_records(place.settings, found, own.witness, further_back)
    with pytest.raises(OtherRecords):
        require_records(place.settings, found, own.witness, {key: record._replace(digest=1) for key, record in further_back.items()})
    key, end = next(iter(ends.items()))
    broker.forget(*key, below=end)
    require_records(place.settings, found, {key: own.witness[key]._replace(digest=1)})  # nobody can say
