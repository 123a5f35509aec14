"""The ledger: generations fence each other, and a commit happens once and as a whole, whatever MongoDB's answers come to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Int64
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError
from support.databases import a_database
from support.proxy import Proxy, proxy
from support.servers import Servers
from support.wording import Wording

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.versions import CategoryVersion
from tidemark.serving import ledger, schema
from tidemark.serving.bindings import Binding, Record, TopicsRecreated
from tidemark.serving.database import Document, connect, database_of, in_transaction
from tidemark.serving.ledger import Category, Fenced, Ledger, MicroBatch, NotPrepared, Tag

pytestmark = pytest.mark.servers

TOPICS = {"ingest.product": "id-1", "ingest.category": "id-2"}  # a topic's name may hold dots
P0 = TopicPartition("ingest.product", 0)
INCREASED, DECREASED = Cell(1, None, False), Cell(2, 300, True)
MOMENT = datetime(2023, 10, 31, 12, 0, 0, 999_000, tzinfo=UTC)


def start(database: Database[Document]) -> int:
    return ledger.start_generation(database, "rules", TOPICS).generation


def batch(number: int, count: int = 1, **more: Any) -> MicroBatch:
    """A micro-batch that moves the offset to its number + 1, and adds products here, taking as many from there."""
    differences = {INCREASED: (count,) * len(MEASURES), DECREASED: (-count,) * len(MEASURES), Cell(9, 5, False): (0,) * len(MEASURES)}
    return MicroBatch(number, TideMark({P0: number + 1}), differences, **more)


def cells(database: Database[Document]) -> dict[tuple[Any, ...], int]:
    return {tuple(one[name] for name in Cell._fields): one["products"] for one in database.cube_cell.find()}


def state(database: Database[Document]) -> list[list[Document]]:
    """All that a commit may touch."""
    return [list(database[name].find().sort("_id")) for name in ("state", "cube_cell", "category")]


def unchanged(database: Database[Document], action: Callable[[], object], error: type[Exception]) -> str:
    """The text of the error that the action must raise without changing anything."""
    before = state(database)
    with pytest.raises(error) as raised:
        action()
    assert state(database) == before
    return str(raised.value)


def test_a_start_takes_the_next_generation_and_records_rules_and_topics(database: Database[Document]) -> None:
    identity = ledger.read(database).identity
    assert len(identity) == 32
    assert ledger.read(database) == Ledger(0, TideMark(), {}, identity)
    assert ledger.start_generation(database, "rules", {"ingest.product": "id-1"}) == Ledger(
        1, TideMark(), {}, identity, Binding(topics={"ingest.product": "id-1"}), rules="rules"
    )
    witness = {P0: Record(0, 1_700_000_000_000, 4_000_000_000)}
    ledger.commit(database, 1, batch(0, witness=witness))
    expected = Ledger(2, TideMark({P0: 1}), {1: 0}, identity, Binding(topics=TOPICS), witness, rules="newer rules")
    assert ledger.start_generation(database, "newer rules", TOPICS) == expected
    assert ledger.read(database) == expected
    document = database.state.find_one({"_id": "ledger"}) or {}
    assert document["rules"] == "newer rules"
    assert timedelta(0) <= datetime.now(UTC) - document["started_at"] < timedelta(seconds=30)
    assert document["heartbeat"] == document["started_at"]


def test_an_unprepared_database_is_reported_with_the_remedy(database: Database[Document], wording: Wording) -> None:
    database.state.delete_many({})
    for action in (lambda: ledger.read(database), lambda: start(database)):
        wording.check(unchanged(database, action, NotPrepared))


def test_a_recreated_topic_is_refused(database: Database[Document], wording: Wording) -> None:
    start(database)
    again = {**TOPICS, "ingest.product": "id-3"}
    wording.check(unchanged(database, lambda: ledger.start_generation(database, "rules", again), TopicsRecreated))
    ledger.start_generation(database, "rules", {"another": "id-4"})
    assert ledger.read(database).binding.topics == {**TOPICS, "another": "id-4"}


def test_no_stream_starts_during_a_rebuild(database: Database[Document], wording: Wording) -> None:
    generation = start(database)
    database.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": 0}})  # publication 0 is one too
    unchanged(database, lambda: start(database), Fenced)
    unchanged(database, lambda: ledger.heartbeat(database, generation), Fenced)
    wording.check(unchanged(database, lambda: ledger.commit(database, generation, batch(0)), Fenced))


def test_a_higher_generation_fences(database: Database[Document]) -> None:
    former = start(database)
    ledger.commit(database, former, batch(0))
    latter = start(database)
    unchanged(database, lambda: ledger.heartbeat(database, former), Fenced)
    unchanged(database, lambda: ledger.commit(database, former, batch(1)), Fenced)
    ledger.commit(database, latter, batch(0))
    assert ledger.read(database).committed == {former: 0, latter: 0}


def test_concurrent_starts_leave_one_stream_unfenced(database: Database[Document]) -> None:
    """Each gets a generation of its own or is fenced, and only the highest can go on."""

    def attempt(_: int) -> int | None:
        try:
            return start(database)
        except Fenced:
            return None

    with ThreadPoolExecutor(4) as pool:
        first = [generation for generation in pool.map(attempt, range(4)) if generation is not None]  # all write down the topics
        later = [generation for generation in pool.map(attempt, range(4)) if generation is not None]
    assert sorted(first) == list(range(1, len(first) + 1))
    assert sorted(later) == list(range(len(first) + 1, len(first) + 5))
    highest = max(later)
    for generation in (*first, *later):
        if generation != highest:
            unchanged(database, lambda generation=generation: ledger.commit(database, generation, batch(0)), Fenced)
    ledger.commit(database, highest, batch(0))


def test_a_commit_updates_offsets_cells_and_categories(database: Database[Document]) -> None:
    generation = start(database)
    name = Category("Luggage", CategoryVersion(1, 2, 3, 4))
    ledger.commit(database, generation, batch(0, 3, categories={7: name}, newest_event=MOMENT, newest_observation=MOMENT))
    earlier = MOMENT - timedelta(days=1)
    ledger.commit(database, generation, batch(1, -1, newest_event=earlier, newest_observation=None, progress={"events": 5}))
    document = database.state.find_one({"_id": "ledger"}) or {}
    assert document["committed"] == {str(generation): 1}
    assert document["offsets"] == [{"topic": "ingest.product", "partition": 0, "offset": 2}]
    assert (document["newest_event"], document["newest_observation"]) == (MOMENT, MOMENT)
    assert document["progress"] == {"events": 5}
    assert document["committed_at"] >= document["started_at"]
    assert cells(database) == {INCREASED: 2, DECREASED: -2}, "a cell that nothing changes is not written"
    assert all(isinstance(one[measure], Int64) for one in database.cube_cell.find() for measure in MEASURES)
    version = {"registered_at": 1, "position": 2, "partition": 3, "offset": 4}
    assert list(database.category.find()) == [{"_id": 7, "category_name": "Luggage", "_tide": {"version": version}}]


def test_a_repeated_commit_changes_nothing(database: Database[Document]) -> None:
    generation = start(database)
    ledger.commit(database, generation, batch(0))
    ledger.commit(database, generation, batch(1))
    before = state(database)
    ledger.commit(database, generation, batch(1))
    ledger.commit(database, generation, batch(0))
    assert state(database) == before


def test_commits_must_follow_in_order(database: Database[Document]) -> None:
    generation = start(database)
    unchanged(database, lambda: ledger.commit(database, generation, batch(1)), Fenced)
    ledger.commit(database, generation, batch(0))
    unchanged(database, lambda: ledger.commit(database, generation, batch(2)), Fenced)


def test_a_failed_commit_leaves_nothing(database: Database[Document]) -> None:
    generation = start(database)
    nameless = {7: Category(None, CategoryVersion(1, 0, 0, 0))}  # type: ignore[arg-type]
    unchanged(database, lambda: ledger.commit(database, generation, batch(0, categories=nameless)), BulkWriteError)
    ledger.commit(database, generation, batch(0))
    assert cells(database) == {INCREASED: 1, DECREASED: -1}


def test_a_heartbeat_changes_nothing_else(database: Database[Document]) -> None:
    generation = start(database)
    database.state.update_one({"_id": "ledger"}, {"$set": {"heartbeat": MOMENT}})
    before = database.state.find_one({"_id": "ledger"}) or {}
    ledger.heartbeat(database, generation)
    after = database.state.find_one({"_id": "ledger"}) or {}
    assert after.pop("heartbeat") > before.pop("heartbeat")
    assert after == before


def rename(database: Database[Document], generation: int, *categories: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """A transaction that records renames. Something happens after it has begun."""
    calls = iter([meanwhile])

    def transaction(session: ClientSession) -> None:
        database.product.find_one({}, session=session)  # the moment that the transaction sees
        next(calls, lambda: None)()
        ledger.record_renames(database, session, generation, categories, 2)

    in_transaction(database, transaction)


def test_renames_are_recorded_until_a_commit(database: Database[Document]) -> None:
    generation = start(database)
    rename(database, generation, 9, 7)
    rename(database, generation, 7, 8)
    assert (database.state.find_one({"_id": "ledger"}) or {})["renaming"] == {"categories": [7, 9, 8], "products": 4}
    successor = ledger.start_generation(database, "rules", TOPICS)
    assert successor.renaming == {7, 8, 9}
    ledger.commit(database, successor.generation, batch(0))
    assert "renaming" not in (database.state.find_one({"_id": "ledger"}) or {})
    assert ledger.read(database).renaming == frozenset()


def test_a_start_during_renames_fences_them(database: Database[Document], wording: Wording) -> None:
    """The transaction has begun before, and the categories are recorded already, so that nothing but the count would change."""
    former = start(database)
    rename(database, former, 7)
    with pytest.raises(Fenced) as fenced:
        rename(database, former, 7, meanwhile=lambda: start(database))
    wording.check(str(fenced.value))
    unchanged(database, lambda: rename(database, former, 7), Fenced)
    assert (database.state.find_one({"_id": "ledger"}) or {})["renaming"]["products"] == 2


def test_tags_before_a_rebuild_are_forgotten() -> None:
    """A rebuild of generation 4 leaves its own commit only, and each document bears its tag or one of those who came after."""
    fresh, rebuilt = Ledger(3, TideMark(), {}), Ledger(5, TideMark(), {4: 0})
    assert not fresh.has_forgotten(Tag(1, 0))
    assert [rebuilt.has_forgotten(Tag(generation, 0)) for generation in (3, 4, 5)] == [True, False, False]
    assert [rebuilt.holds(Tag(generation, 0)) for generation in (3, 4, 5)] == [False, True, False]


@pytest.fixture
def mongodb_proxy() -> Iterator[Proxy]:
    with proxy() as found:
        yield found


@pytest.fixture
def database_over_proxy(database: Database[Document], mongodb_proxy: Proxy) -> Iterator[Database[Document]]:
    """The same database over a connection that loses messages."""
    with connect(mongodb_proxy.url) as client:
        database_over_proxy = database_of(client, database.name)
        database_over_proxy.command("ping")
        yield database_over_proxy


@pytest.mark.parametrize("change", [{"rebuilding": 3}, {"log.topics": {"ingest.product": "id-9"}}], ids=["rebuild", "topics"])
def test_a_start_that_loses_a_race_is_fenced(
    database: Database[Document], database_over_proxy: Database[Document], mongodb_proxy: Proxy, change: Document
) -> None:
    """A rebuild begins, or a stream on other topics starts, after the ledger was read and before the generation is taken."""
    mongodb_proxy.meanwhile("findAndModify", lambda: database.state.update_one({"_id": "ledger"}, {"$set": change}))
    with pytest.raises(Fenced):
        start(database_over_proxy)
    assert ledger.read(database).generation == 0


@pytest.mark.parametrize("command", ["update", "commitTransaction"])
@pytest.mark.parametrize("lose", [Proxy.lose_request, Proxy.lose_answer], ids=["request", "answer"])
def test_a_lost_message_is_retried(
    database: Database[Document],
    database_over_proxy: Database[Document],
    mongodb_proxy: Proxy,
    command: str,
    lose: Callable[[Proxy, str, int], None],
) -> None:
    """Also where MongoDB has carried out what nobody heard of, everything counts once."""
    generation = start(database)
    for number in range(3):
        lose(mongodb_proxy, command, 1)
        ledger.commit(database_over_proxy, generation, batch(number))
    assert mongodb_proxy.lost == {command: 3}
    assert cells(database) == {INCREASED: 3, DECREASED: -3}
    now = ledger.read(database)
    assert (now.generation, now.offsets, now.committed) == (generation, TideMark({P0: 3}), {generation: 2})


def test_a_commit_whose_answer_was_lost_counts_once(
    database: Database[Document], database_over_proxy: Database[Document], mongodb_proxy: Proxy
) -> None:
    """Not when the client asks again and again, nor when the stream does."""
    generation = start(database)
    mongodb_proxy.lose_answer("commitTransaction", 3)
    ledger.commit(database_over_proxy, generation, batch(0))
    ledger.commit(database_over_proxy, generation, batch(0))
    assert mongodb_proxy.lost["commitTransaction"] == 3
    assert cells(database) == {INCREASED: 1, DECREASED: -1}


def test_a_commit_becomes_visible_as_a_whole(
    database: Database[Document], database_over_proxy: Database[Document], mongodb_proxy: Proxy
) -> None:
    generation = start(database)
    before, shown = state(database), []
    mongodb_proxy.meanwhile("commitTransaction", lambda: shown.append(state(database)))
    ledger.commit(database_over_proxy, generation, batch(0, categories={7: Category("Luggage", CategoryVersion(1, 0, 0, 0))}))
    assert shown == [before]
    assert all(now != then for now, then in zip(state(database), before, strict=True))


@pytest.fixture
def database_of_fallible_servers(fallible: Servers) -> Iterator[Database[Document]]:
    with a_database("killed_among_commits") as found:
        yield found


def test_commits_survive_kills_of_mongodb(fallible: Servers, database_of_fallible_servers: Database[Document]) -> None:
    database = database_of_fallible_servers
    generation = start(database)
    committed: list[int] = []
    resume = threading.Event()
    resume.set()

    def run() -> None:
        for number in range(100_000):
            if not resume.is_set():
                return
            ledger.commit(database, generation, batch(number))
            committed.append(number)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            _until(lambda: len(committed) > 20)
            fallible.mongodb.kill()
            fallible.mongodb.start()
            fallible.wait()
            before = len(committed)
            _until(lambda: len(committed) > before + 20)
        finally:
            resume.clear()
        running.result()
    assert cells(database) == {INCREASED: len(committed), DECREASED: -len(committed)}
    assert ledger.read(database).offsets == TideMark({P0: len(committed)})
    schema.prepare(database)


def _until(true: Callable[[], bool]) -> None:
    until = datetime.now(UTC) + timedelta(seconds=60)
    while not true():
        assert datetime.now(UTC) < until, "nothing goes on"
        threading.Event().wait(0.02)
