"""What the DAG's tasks do, on real servers: every row an event, once, however often a task runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer
from support.broker import configure
from support.csvs import OBSERVED_AT, any_products, categories, expected, plain, product, products
from support.hooks import run_with_airflow
from support.places import Place
from support.recompute import CsvFile, recompute_files
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.ingest import connections, jobs
from tidemark.ingest.files import PRODUCT_COLUMNS, FileKind, InvalidFile
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged, UnsafeProducer, produce, require_safe
from tidemark.ingest.records import Message, Origin, messages
from tidemark.serving import ingestions, offsets

pytestmark = pytest.mark.servers

TASKS = Path(__file__).parent.parent / "support" / "tasks.py"


def file(folder: Path, name: str, content: bytes, kind: FileKind = FileKind.PRODUCT, observed_at: datetime = OBSERVED_AT) -> jobs.File:
    (folder / name).write_bytes(content)
    return jobs.File(kind, folder / name, observed_at)


def produce_all(place: Place, chunks: Sequence[jobs.ChunkKey], configuration: Mapping[str, Any] = RECOMMENDED) -> None:
    """The tasks of the chunks, what they are handed having gone through JSON."""
    producer = place.producer()
    for chunk in json.loads(json.dumps(chunks)):
        jobs.produce(place.database, lambda: producer, configuration, Path, place.settings, **chunk)


def no_producer() -> Producer:
    raise AssertionError("nothing is to be produced")


def comparable(events: Sequence[Event | Message]) -> Counter[str]:
    """Events without the coordinates that Kafka has given them, as text."""
    found = (plain(Message(event.key, event.value or b"", list(event.headers))) for event in events)
    return Counter(repr((key, value, sorted(headers.items()))) for key, value, headers in found)


def registered_at(place: Place, ingestion: str) -> bytes:
    return b"%d" % round(ingestions.read(place.database, ingestion)["registered_at"].timestamp() * 1000)


def figures(refused: pytest.ExceptionInfo[ingestions.Incomplete], ingestion: str) -> list[int]:
    """Rows that are events and in all, chunks that are done and in all, as they are said of an ingestion."""
    message = str(refused.value)
    assert ingestion in message
    return [int(digits) for digits in re.findall("[0-9]+", message.replace(ingestion, ""))]


def expected_events(place: Place, content: bytes, kind: FileKind, ingestion: str) -> list[Message]:
    """The events of a registered file."""
    registered = registered_at(place, ingestion)
    return [
        one._replace(headers=[(name, registered if name == "tide-registered-at" else value) for name, value in one.headers])
        for one in expected(content, kind, ingestion)
    ]


def test_every_row_is_an_event(place: Place, tmp_path: Path) -> None:
    contents = {
        "categories.csv": (FileKind.CATEGORY, categories(12)),
        "mixed.csv": (FileKind.PRODUCT, any_products(Random(3), 150)),
        "plain.csv": (FileKind.PRODUCT, products(200)),
    }
    files = [file(tmp_path, name, content, kind) for name, (kind, content) in contents.items()]
    before = datetime.now(UTC)
    planned = jobs.plan(place.database, files, 5_000, place.settings)
    assert len(planned.chunks) > 6
    assert not any(place.ends().values()), "planning has produced something"
    assert [ingestions.read(place.database, one)["name"] for one in planned.ingestions] == list(contents)

    produce_all(place, planned.chunks)
    jobs.reconcile(place.database, planned.ingestions, place.settings)
    events = place.log()
    should_be = [
        one for (kind, content), identity in zip(contents.values(), planned.ingestions, strict=True)
        for one in expected_events(place, content, kind, identity)
    ]  # fmt: skip
    assert comparable(events) == comparable(should_be)
    assert all(
        before.timestamp() - 1 < int(registered_at(place, one)) / 1000 < datetime.now(UTC).timestamp() + 1 for one in planned.ingestions
    )
    assert {event.topic for event in events if event.header("tide-ingestion") == planned.ingestions[0]} == {place.settings.category_topic}
    for number in range(place.settings.product_partitions):
        positions = [
            event.position
            for event in sorted(events, key=lambda event: event.offset)
            if event.partition == number and event.header("tide-ingestion") == planned.ingestions[2]
        ]
        assert positions == sorted(positions), "chunks that come one after another stay in the file's order"

    ends = TideMark()
    for one in place.database.ingestion_chunk.find():
        assert (one["status"], one["acknowledged"]) == ("done", one["rows"])
        ends = ends.joined(offsets.from_documents(one["ends"]))
    assert ends == place.ends()

    truth, oracle = place.truth(), recompute_files(
        CsvFile(str(one.path), str(one.kind), one.observed_at, number) for number, one in enumerate(files)
    )  # fmt: skip
    assert (truth.cube, truth.categories) == (oracle.cube, oracle.categories)
    assert len(truth.rejections) == len(oracle.rejections) > 0


def test_a_reconciled_ingestion_is_served_once_the_ledger_reaches_its_ends(place: Place, tmp_path: Path) -> None:
    """The query that a run waits with finds something when all its partitions have been served, and no sooner."""
    planned = jobs.plan(place.database, [file(tmp_path, "a.csv", products(40))], 1_000, place.settings)
    produce_all(place, planned.chunks)
    served = jobs.reconcile(place.database, planned.ingestions, place.settings)
    ends = place.ends()
    assert len(ends) == place.settings.product_partitions

    def found(offsets_now: TideMark) -> bool:
        place.database.state.update_one({"_id": "ledger"}, {"$set": {"offsets": offsets.to_documents(offsets_now)}})
        return place.database.state.find_one(served) is not None

    assert not found(TideMark())
    for key in ends:
        assert not found(TideMark({**ends, key: ends[key] - 1}))
    assert found(ends)
    assert found(TideMark({**ends, key: ends[key] + 5}))


def test_one_invalid_file_fails_the_run(place: Place, tmp_path: Path) -> None:
    files = [file(tmp_path, "a.csv", products(5)), file(tmp_path, "b.csv", b"no,header\n1,2\n"), file(tmp_path, "c.csv", products(6))]
    with pytest.raises(InvalidFile) as refused:
        jobs.plan(place.database, files, 1_000, place.settings)
    assert str(refused.value).startswith(f"{tmp_path / 'b.csv'}: ")
    assert "found: 2 columns" in str(refused.value)
    assert place.database.ingestion.count_documents({}) == place.database.ingestion_chunk.count_documents({}) == 0
    assert len(place.ends()) == 0


def test_a_repeated_run_produces_only_the_missing_chunks(place: Place, tmp_path: Path, wording: Wording) -> None:
    """The first plan stays, also when another chunk size is asked for."""
    one = file(tmp_path, "a.csv", products(60))
    first = jobs.plan(place.database, [one], 1_500, place.settings)
    names = [jobs.chunk_name(place.database, **chunk) for chunk in first.chunks]
    assert names == [f"a.csv {number}" for number in range(1, len(first.chunks) + 1)]
    produce_all(place, first.chunks[1:3])
    again = jobs.plan(place.database, [one], 1_000_000, place.settings)
    assert again == (first.ingestions, [first.chunks[0], *first.chunks[3:]])
    with pytest.raises(ingestions.Incomplete) as refused:
        jobs.reconcile(place.database, again.ingestions, place.settings)
    assert figures(refused, first.ingestions[0])[1:] == [60, 2, len(first.chunks)]
    wording.check(str(refused.value), ingestion=first.ingestions[0])

    produce_all(place, again.chunks)
    ends = place.ends()
    for chunk in first.chunks:
        jobs.produce(place.database, no_producer, RECOMMENDED, Path, place.settings, **chunk)
    assert jobs.plan(place.database, [one], 1_500, place.settings) == (first.ingestions, [])
    assert place.ends() == ends
    assert sum(ends.values()) == 60
    jobs.reconcile(place.database, first.ingestions, place.settings)


def test_an_interrupted_chunk_is_sent_again(place: Place, tmp_path: Path) -> None:
    """What the first attempt has left behind is recognised by its source, and changes nothing."""
    content = any_products(Random(5), 100)
    one = file(tmp_path, "a.csv", content)
    planned = jobs.plan(place.database, [one], 4_000, place.settings)
    (identity,) = planned.ingestions
    chunk, done = ingestions.read_chunk(place.database, identity, 1)
    assert not done
    ingestion = ingestions.read(place.database, identity)
    origin = Origin(identity, FileKind.PRODUCT, PRODUCT_COLUMNS, ingestion["observed_at"], ingestion["registered_at"])
    half = list(islice(messages(content[chunk.start : chunk.end], chunk.start, origin), chunk.rows // 2))
    produce(place.producer(), place.settings.product_topic, half, 20)
    with pytest.raises(ingestions.Incomplete) as refused:
        jobs.reconcile(place.database, planned.ingestions, place.settings)
    assert figures(refused, identity) == [0, ingestion["rows"], 0, len(planned.chunks)]

    produce_all(place, planned.chunks)
    jobs.reconcile(place.database, planned.ingestions, place.settings)
    events = place.log()
    should_be = expected_events(place, content, FileKind.PRODUCT, identity)
    assert comparable(events) == comparable(should_be) + comparable(half)
    assert len({event.source for event in events}) == ingestion["rows"]
    truth = place.truth()
    oracle = recompute_files([CsvFile(str(one.path), "product", OBSERVED_AT, 1)])
    assert truth.cube == oracle.cube
    assert len(truth.rejections) == len(oracle.rejections) > 0


def test_events_that_kafka_rejected_are_sent_once_it_accepts_them(place: Place, tmp_path: Path) -> None:
    rows = [product(index) for index in range(30)]
    rows[17][1] = "".join(Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))  # does not shrink much
    content = (",".join(PRODUCT_COLUMNS) + "\n" + "".join('"' + '","'.join(row) + '"\n' for row in rows)).encode()
    planned = jobs.plan(place.database, [file(tmp_path, "a.csv", content)], 10**9, place.settings)
    configure(place.settings.product_topic, {"max.message.bytes": "20000"})
    with pytest.raises(NotAcknowledged) as refused:
        produce_all(place, planned.chunks)
    assert len(refused.value.acknowledged) < 30
    for value in (" 30 ", place.settings.product_topic, "(MSG_SIZE_TOO_LARGE)", "max.message.bytes"):
        assert value in str(refused.value)
    assert [one["status"] for one in place.database.ingestion_chunk.find()] == ["planned"]
    with pytest.raises(ingestions.Incomplete) as incomplete:
        jobs.reconcile(place.database, planned.ingestions, place.settings)
    assert figures(incomplete, planned.ingestions[0]) == [0, 30, 0, 1]
    configure(place.settings.product_topic, {"max.message.bytes": "8000000"})
    produce_all(place, planned.chunks)
    jobs.reconcile(place.database, planned.ingestions, place.settings)
    assert len({event.source for event in place.log()}) == 30
    assert recompute_files([CsvFile(tmp_path / "a.csv", "product", OBSERVED_AT, 1)]).cube == place.truth().cube


@pytest.mark.parametrize("change", ["same length", "rows more", "gone"])
def test_a_changed_file_is_not_produced(change: str, place: Place, tmp_path: Path, wording: Wording) -> None:
    one = file(tmp_path, "a.csv", products(20))
    planned = jobs.plan(place.database, [one], 10**9, place.settings)
    path = tmp_path / "a.csv"
    match change:
        case "same length":
            path.write_bytes(products(20).replace(b"12.5", b"12.6"))
        case "rows more":
            path.write_bytes(products(21))
        case _:
            path.unlink()
    with pytest.raises(InvalidFile) as refused:
        produce_all(place, planned.chunks)
    wording.check(str(refused.value))
    assert len(place.ends()) == 0
    path.write_bytes(products(20))
    produce_all(place, planned.chunks)
    jobs.reconcile(place.database, planned.ingestions, place.settings)


def test_chunks_use_the_columns_of_the_plan(place: Place, tmp_path: Path) -> None:
    """Nobody's later header gives the planned rows another meaning."""
    one = file(tmp_path, "a.csv", products(20, price="7.25"))
    planned = jobs.plan(place.database, [one], 1_000, place.settings)
    swapped = ",".join(PRODUCT_COLUMNS).replace("price,listPrice", "listPrice,price")
    (tmp_path / "a.csv").write_bytes(swapped.encode() + products(20, price="7.25")[len(swapped) :])
    produce_all(place, planned.chunks)
    assert {json.loads(event.value or b"")["price"] for event in place.log()} == {"7.25"}


def test_the_same_content_is_one_ingestion(place: Place, tmp_path: Path) -> None:
    """Given twice in a run, under another name, or in a later run."""
    one, copy = file(tmp_path, "a.csv", products(20)), file(tmp_path, "copy.csv", products(20))
    other = file(tmp_path, "b.csv", products(21))
    planned = jobs.plan(place.database, [one, copy, other, one], 1_000, place.settings)
    assert len(planned.ingestions) == 2
    assert [ingestions.read(place.database, identity)["file"] for identity in planned.ingestions] == [str(one.path), str(other.path)]
    assert len({(chunk["ingestion"], chunk["number"]) for chunk in planned.chunks}) == len(planned.chunks)
    produce_all(place, planned.chunks)
    assert sum(place.ends().values()) == 41
    assert jobs.plan(place.database, [copy], 1_000, place.settings) == (planned.ingestions[:1], [])
    registered = ingestions.read(place.database, planned.ingestions[0])
    assert (registered["name"], registered["file"]) == ("a.csv", str(copy.path)), "the name stays, the path is the newest"


def test_a_copy_replaces_a_deleted_file(place: Place, tmp_path: Path) -> None:
    one = file(tmp_path, "a.csv", products(20))
    first = jobs.plan(place.database, [one], 1_000, place.settings)
    produce_all(place, first.chunks[:1])
    (tmp_path / "a.csv").rename(tmp_path / "moved.csv")
    again = jobs.plan(place.database, [one._replace(path=tmp_path / "moved.csv")], 1_000, place.settings)
    assert again == (first.ingestions, first.chunks[1:])
    produce_all(place, first.chunks)  # tasks of the first run read the copy, too
    jobs.reconcile(place.database, first.ingestions, place.settings)
    assert len({event.source for event in place.log()}) == sum(place.ends().values()) == 20


def test_the_same_content_with_another_date_is_another_ingestion(place: Place, tmp_path: Path) -> None:
    one = file(tmp_path, "a.csv", products(5))
    later = one._replace(observed_at=datetime(2023, 11, 1, tzinfo=UTC))
    planned = jobs.plan(place.database, [one, later], 10**9, place.settings)
    produce_all(place, planned.chunks)
    assert len(planned.ingestions) == 2
    dates = Counter(json.loads(event.value or b"")["date"] for event in place.log())
    assert dates == {"2023-10-31T12:30:00.789Z": 5, "2023-11-01T00:00:00.000Z": 5}


def test_an_unsafe_producer_is_refused_before_sending(place: Place, tmp_path: Path) -> None:
    planned = jobs.plan(place.database, [file(tmp_path, "a.csv", products(5))], 10**9, place.settings)
    with pytest.raises(UnsafeProducer) as refused:
        jobs.produce(place.database, no_producer, {**RECOMMENDED, "acks": 1}, Path, place.settings, **planned.chunks[0])
    with pytest.raises(UnsafeProducer) as unsafe:
        require_safe({"acks": 1, **{name: value for name, value in RECOMMENDED.items() if name != "acks"}})
    assert str(refused.value) == str(unsafe.value)


def test_an_unregistered_ingestion_is_refused(place: Place, tmp_path: Path, wording: Wording) -> None:
    planned = jobs.plan(place.database, [file(tmp_path, "a.csv", products(5))], 10**9, place.settings)
    with pytest.raises(LookupError) as no_chunk:
        jobs.produce(place.database, no_producer, RECOMMENDED, Path, place.settings, planned.ingestions[0], 7)
    wording.check(str(no_chunk.value), "chunk", ingestion=planned.ingestions[0])
    with pytest.raises(LookupError) as no_ingestion:
        jobs.reconcile(place.database, ["nothing"], place.settings)
    wording.check(str(no_ingestion.value), "ingestion")


def test_airflow_hooks_and_paths_in_another_time_zone(place: Place, tmp_path: Path) -> None:
    """Files found by patterns, moments in UTC, though the hook's client tells times without a zone."""
    content = any_products(Random(7), 80)
    (tmp_path / "2024-02-29").mkdir()
    (tmp_path / "2024-02-29" / "products_a.csv").write_bytes(content)
    (tmp_path / "2024-02-29" / "categories.csv").write_bytes(categories(3))
    environment = {
        **connections.environment(place.settings),
        "TZ": "America/New_York",
        "TIDEMARK_PRODUCTS_PATTERN": f"file://{tmp_path}/*/products_*.csv",
        "TIDEMARK_CATEGORIES_PATTERN": f"{tmp_path}/{{day}}/categories.csv",
    }
    named = {"products": [f"file://{tmp_path}/2024-02-29/products_a.csv"], "observed_at": ["2024-02-29"]}
    planned, again = run_with_airflow(str(TASKS), json.dumps([("2024-02-29", {}, 3_000), (None, named, 3_000)]), **environment)
    assert len(planned["chunks"]) > 2
    of_categories, of_products = planned["ingestions"]
    assert [ingestions.read(place.database, identity)["file"] for identity in planned["ingestions"]] == [
        f"{tmp_path}/2024-02-29/categories.csv",
        f"file://{tmp_path}/2024-02-29/products_a.csv",
    ]
    should_be = [
        one._replace(value=one.value.replace(b"2023-10-31T12:30:00.789Z", b"2024-02-29T00:00:00.000Z"))
        for one in expected_events(place, content, FileKind.PRODUCT, of_products)
    ]
    should_be += expected_events(place, categories(3), FileKind.CATEGORY, of_categories)
    assert comparable(place.log()) == comparable(should_be)
    assert again == {"ingestions": [of_products], "chunks": []}
