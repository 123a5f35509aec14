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
from tidemark.serving.database import Document, connect, database_of, in_transaction
from tidemark.serving.ledger import Category, Fenced, Ledger, MicroBatch, NotPrepared, Tag, TopicsRecreated

pytestmark = pytest.mark.servers

TOPICS = {"ingest.product": "id-1", "ingest.category": "id-2"}  # a topic's name may hold dots
P0 = TopicPartition("ingest.product", 0)
HERE, THERE = Cell(1, None, False), Cell(2, 300, True)
MOMENT = datetime(2023, 10, 31, 12, 0, 0, 999_000, tzinfo=UTC)


def start(database: Database[Document]) -> int:
    return ledger.start_generation(database, "rules", TOPICS).generation


def batch(number: int, here: int = 1, **more: Any) -> MicroBatch:
    """A micro-batch that moves the offset to its number + 1, and adds products here, taking as many from there."""
    differences = {HERE: (here,) * len(MEASURES), THERE: (-here,) * len(MEASURES), Cell(9, 5, False): (0,) * len(MEASURES)}
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


def test_a_start_takes_the_next_generation_and_writes_down_what_it_works_by(database: Database[Document]) -> None:
    assert ledger.read(database) == Ledger(0, TideMark(), {}, {})
    assert ledger.start_generation(database, "rules", {"ingest.product": "id-1"}) == Ledger(
        1, TideMark(), {}, {"ingest.product": "id-1"}, rules="rules"
    )
    ledger.commit(database, 1, batch(0))
    assert ledger.start_generation(database, "newer rules", TOPICS) == Ledger(2, TideMark({P0: 1}), {1: 0}, TOPICS, rules="newer rules")
    assert ledger.read(database) == Ledger(2, TideMark({P0: 1}), {1: 0}, TOPICS, rules="newer rules")
    document = database.state.find_one({"_id": "ledger"}) or {}
    assert document["rules"] == "newer rules"
    assert timedelta(0) <= datetime.now(UTC) - document["started_at"] < timedelta(seconds=30)
    assert document["heartbeat"] == document["started_at"]


def test_without_a_prepared_database_it_says_what_to_do(database: Database[Document], wording: Wording) -> None:
    database.state.delete_many({})
    for action in (lambda: ledger.read(database), lambda: start(database)):
        wording.check(unchanged(database, action, NotPrepared))


def test_a_topic_that_was_created_again_is_refused(database: Database[Document], wording: Wording) -> None:
    start(database)
    again = {**TOPICS, "ingest.product": "id-3"}
    wording.check(unchanged(database, lambda: ledger.start_generation(database, "rules", again), TopicsRecreated))
    ledger.start_generation(database, "rules", {"another": "id-4"})
    assert ledger.read(database).topics == {**TOPICS, "another": "id-4"}


def test_no_stream_while_a_rebuild_is_under_way(database: Database[Document], wording: Wording) -> None:
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


def test_streams_that_start_at_the_same_time(database: Database[Document]) -> None:
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


def test_a_commit_moves_all_there_is_to_move(database: Database[Document]) -> None:
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
    assert cells(database) == {HERE: 2, THERE: -2}, "a cell that nothing changes is not written"
    assert all(isinstance(one[measure], Int64) for one in database.cube_cell.find() for measure in MEASURES)
    version = {"registered_at": 1, "position": 2, "partition": 3, "offset": 4}
    assert list(database.category.find()) == [{"_id": 7, "category_name": "Luggage", "_tide": {"version": version}}]


def test_a_commit_that_is_repeated_changes_nothing(database: Database[Document]) -> None:
    generation = start(database)
    ledger.commit(database, generation, batch(0))
    ledger.commit(database, generation, batch(1))
    before = state(database)
    ledger.commit(database, generation, batch(1))
    ledger.commit(database, generation, batch(0))
    assert state(database) == before


def test_a_commit_follows_the_one_before_it(database: Database[Document]) -> None:
    generation = start(database)
    unchanged(database, lambda: ledger.commit(database, generation, batch(1)), Fenced)
    ledger.commit(database, generation, batch(0))
    unchanged(database, lambda: ledger.commit(database, generation, batch(2)), Fenced)


def test_a_commit_that_fails_leaves_nothing(database: Database[Document]) -> None:
    generation = start(database)
    nameless = {7: Category(None, CategoryVersion(1, 0, 0, 0))}  # type: ignore[arg-type]
    unchanged(database, lambda: ledger.commit(database, generation, batch(0, categories=nameless)), BulkWriteError)
    ledger.commit(database, generation, batch(0))
    assert cells(database) == {HERE: 1, THERE: -1}


def test_a_heartbeat_only_says_that_the_stream_lives(database: Database[Document]) -> None:
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


def test_a_start_that_comes_while_products_are_renamed_fences_that(database: Database[Document], wording: Wording) -> None:
    """The transaction has begun before, and the categories are recorded already, so that nothing but the count would change."""
    former = start(database)
    rename(database, former, 7)
    with pytest.raises(Fenced) as fenced:
        rename(database, former, 7, meanwhile=lambda: start(database))
    wording.check(str(fenced.value))
    unchanged(database, lambda: rename(database, former, 7), Fenced)
    assert (database.state.find_one({"_id": "ledger"}) or {})["renaming"]["products"] == 2


def test_what_a_rebuild_has_forgotten() -> None:
    """A rebuild of generation 4 leaves its own commit only, and each document bears its tag or one of those who came after."""
    fresh, rebuilt = Ledger(3, TideMark(), {}), Ledger(5, TideMark(), {4: 0})
    assert not fresh.has_forgotten(Tag(1, 0))
    assert [rebuilt.has_forgotten(Tag(generation, 0)) for generation in (3, 4, 5)] == [True, False, False]
    assert [rebuilt.holds(Tag(generation, 0)) for generation in (3, 4, 5)] == [False, True, False]


@pytest.fixture
def losing() -> Iterator[Proxy]:
    with proxy() as found:
        yield found


@pytest.fixture
def far(database: Database[Document], losing: Proxy) -> Iterator[Database[Document]]:
    """The same database over a connection that loses messages."""
    with connect(losing.url) as client:
        far = database_of(client, database.name)
        far.command("ping")
        yield far


@pytest.mark.parametrize("change", [{"rebuilding": 3}, {"topics": {"ingest.product": "id-9"}}], ids=["rebuild", "topics"])
def test_a_start_that_loses_a_race_is_fenced(
    database: Database[Document], far: Database[Document], losing: Proxy, change: Document
) -> None:
    """A rebuild begins, or a stream on other topics starts, after the ledger was read and before the generation is taken."""
    losing.meanwhile("findAndModify", lambda: database.state.update_one({"_id": "ledger"}, {"$set": change}))
    with pytest.raises(Fenced):
        start(far)
    assert ledger.read(database).generation == 0


@pytest.mark.parametrize("command", ["update", "commitTransaction"])
@pytest.mark.parametrize("lose", [Proxy.lose_request, Proxy.lose_answer], ids=["request", "answer"])
def test_a_lost_message_is_made_good(
    database: Database[Document], far: Database[Document], losing: Proxy, command: str, lose: Callable[[Proxy, str, int], None]
) -> None:
    """Also where MongoDB has carried out what nobody heard of, everything counts once."""
    generation = start(database)
    for number in range(3):
        lose(losing, command, 1)
        ledger.commit(far, generation, batch(number))
    assert losing.lost == {command: 3}
    assert cells(database) == {HERE: 3, THERE: -3}
    assert ledger.read(database) == Ledger(generation, TideMark({P0: 3}), {generation: 2}, TOPICS, rules="rules")


def test_a_commit_nobody_heard_of_is_not_counted_again(database: Database[Document], far: Database[Document], losing: Proxy) -> None:
    """Not when the client asks again and again, nor when the stream does."""
    generation = start(database)
    losing.lose_answer("commitTransaction", 3)
    ledger.commit(far, generation, batch(0))
    ledger.commit(far, generation, batch(0))
    assert losing.lost["commitTransaction"] == 3
    assert cells(database) == {HERE: 1, THERE: -1}


def test_nothing_shows_before_all_does(database: Database[Document], far: Database[Document], losing: Proxy) -> None:
    generation = start(database)
    before, shown = state(database), []
    losing.meanwhile("commitTransaction", lambda: shown.append(state(database)))
    ledger.commit(far, generation, batch(0, categories={7: Category("Luggage", CategoryVersion(1, 0, 0, 0))}))
    assert shown == [before]
    assert all(now != then for now, then in zip(state(database), before, strict=True))


@pytest.fixture
def database_of_fallible_servers(fallible: Servers) -> Iterator[Database[Document]]:
    with a_database("killed_among_commits") as found:
        yield found


def test_mongodb_killed_among_commits(fallible: Servers, database_of_fallible_servers: Database[Document]) -> None:
    database = database_of_fallible_servers
    generation = start(database)
    committed: list[int] = []
    goes_on = threading.Event()
    goes_on.set()

    def run() -> None:
        for number in range(100_000):
            if not goes_on.is_set():
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
            goes_on.clear()
        running.result()
    assert cells(database) == {HERE: len(committed), THERE: -len(committed)}
    assert ledger.read(database).offsets == TideMark({P0: len(committed)})
    schema.prepare(database)


def _until(true: Callable[[], bool]) -> None:
    until = datetime.now(UTC) + timedelta(seconds=60)
    while not true():
        assert datetime.now(UTC) < until, "nothing goes on"
        threading.Event().wait(0.02)
