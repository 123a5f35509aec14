"""Cutting, publishing, pruning and the ends of a rebuild: what moves together, and who is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.database import Database
from support.databases import a_database
from support.servers import Servers
from support.wording import Wording

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.catalog.versions import CategoryVersion
from tidemark.rendering.verifications import render_verification
from tidemark.serving import cells, lease, ledger, plausibility, publications, rebuilds, verifications
from tidemark.serving.database import Document
from tidemark.serving.ledger import Category, Fenced, MicroBatch, Tag
from tidemark.serving.publications import NoPublication, OtherRules, Result, StaleDraft
from tidemark.serving.snapshot import snapshot
from tidemark.serving.verifications import DifferenceKind, Differences, Drifted, NotVerified
from tidemark.settings.sections import BatchSettings

pytestmark = pytest.mark.servers

P0 = TopicPartition("products", 0)
A, B, C = Cell(1, 5, True), Cell(1, None, False), Cell(2, 300, False)
IN_FORCE = RULES.fingerprint()
NO_SHIFT = plausibility.compare({}, {})


def sums(products: int) -> tuple[int, ...]:
    return (products,) * len(MEASURES)


class Stream:
    """Micro-batches of a stream that counts products in cells."""

    def __init__(self, database: Database[Document], rules: str = IN_FORCE) -> None:
        self.database = database
        self.own = ledger.start_generation(database, rules, {})
        self.number = 0

    def commit(self, offset: int, cells: Mapping[Cell, int]) -> None:
        batch = MicroBatch(self.number, TideMark({P0: offset}), {cell: sums(products) for cell, products in cells.items()})
        ledger.commit(self.database, self.own.generation, batch)
        self.number += 1


def served(database: Database[Document]) -> dict[Cell, int]:
    """Products by cell, as readers see them."""
    with snapshot(database) as now:
        return {cell: products for cell, (products, *_) in cells.read(now).items()}


def made(database: Database[Document], cells: Mapping[Cell, int], rules: str = IN_FORCE, **more: Any) -> int:
    """A draft that has been recomputed to these products by cell."""
    number = publications.cut(database, rules).number
    result = Result({cell: sums(products) for cell, products in cells.items()}, layers=("a",), since_full=0, **more)
    publications.complete(database, number, result)
    return number


def refused(act: Callable[[], object], error: type[Exception]) -> str:
    """The text of the error that the act must raise."""
    with pytest.raises(error) as raised:
        act()
    return str(raised.value)


def test_a_draft_is_one_snapshot_of_ledger_and_cells(database: Database[Document]) -> None:
    """While a stream commits: offset n is n products."""
    stream, ended = Stream(database), threading.Event()

    def go_on() -> None:
        offset = 0
        while not ended.is_set():
            offset += 1
            stream.commit(offset, {A: 1, B: 0})

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            drafts = [publications.cut(database, IN_FORCE) for _ in range(20)]
        finally:
            ended.set()
        going.result()
    assert len({draft.mark for draft in drafts}) > 10
    for draft in drafts:
        assert publications.cut_cells(database, draft.number) == ({A: sums(draft.mark[P0])} if draft.mark else {})
        assert publications.read(database, draft.number) == draft
    assert [draft.number for draft in drafts] == list(range(1, 21))


def test_publishing_changes_no_served_number(database: Database[Document]) -> None:
    stream = Stream(database)
    stream.commit(10, {A: 3, B: 2, C: 1})
    number = made(database, {A: 3, B: 2, C: 1})
    stream.commit(12, {A: -1, C: 4})
    before = served(database)
    assert before == {A: 2, B: 2, C: 5}
    assert publications.publish(database, number, IN_FORCE) is True
    assert (served(database), publications.served(database)) == (before, number)
    published = publications.read(database, number)
    assert published.published_at is not None
    stream.commit(15, {B: -2})
    assert served(database) == {A: 2, C: 5}
    # Again, at once or after others: nothing is done.
    assert publications.publish(database, number, IN_FORCE) is False
    second = made(database, {A: 2, C: 5})
    assert publications.publish(database, second, IN_FORCE) is True
    assert publications.publish(database, number, IN_FORCE) is False
    assert publications.read(database, number) == published
    assert (served(database), publications.served(database)) == ({A: 2, C: 5}, second)


def test_concurrent_and_late_publications(database: Database[Document], wording: Wording) -> None:
    stream = Stream(database)
    stream.commit(1, {A: 1})
    early = made(database, {A: 1})
    stream.commit(2, {A: 1})
    late = made(database, {A: 2})
    assert publications.publish(database, late, IN_FORCE)
    wording.check(refused(lambda: publications.publish(database, early, IN_FORCE), StaleDraft))
    assert served(database) == {A: 2}


def test_concurrent_publishing_and_committing(database: Database[Document]) -> None:
    """Neither is in the other's way for good, and nothing is lost."""
    stream, ended, committed = Stream(database), threading.Event(), [0]
    cells = [Cell(number, 5, True) for number in range(1, 300)]

    def go_on() -> None:
        while not ended.is_set():
            committed[0] += 1
            stream.commit(committed[0], dict.fromkeys(cells, 1))

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            for _ in range(5):
                number = publications.cut(database, IN_FORCE).number
                mark = publications.read(database, number).mark[P0]
                publications.complete(database, number, Result(dict.fromkeys(cells, sums(mark)), ("a",), 0))
                assert publications.publish(database, number, IN_FORCE)
        finally:
            ended.set()
        going.result()
    assert served(database) == dict.fromkeys(cells, committed[0])
    assert committed[0] > 5


def test_a_stale_draft_is_not_published(database: Database[Document], wording: Wording) -> None:
    wording.check(refused(lambda: publications.cut(database, IN_FORCE), OtherRules), "no stream has started")
    stream = Stream(database)
    wording.check(refused(lambda: publications.cut(database, "new"), OtherRules), "a cut by other rules than the stream's", rules=IN_FORCE)
    stream.commit(3, {A: 3})
    bare = publications.cut(database, IN_FORCE).number
    wording.check(refused(lambda: publications.publish(database, bare, IN_FORCE), NoPublication), "not recomputed")
    number = made(database, {A: 3})
    wording.check(
        refused(lambda: publications.publish(database, number, "new"), StaleDraft), "other rules since it was cut", rules=IN_FORCE
    )
    wording.check(refused(lambda: publications.publish(database, 77, IN_FORCE), NoPublication), "not there")
    other = Stream(database, "new")
    wording.check(refused(lambda: publications.publish(database, number, IN_FORCE), OtherRules), "a stream of other rules", rules=IN_FORCE)
    stream = Stream(database)
    own = rebuilds.begin(database, publications.read(database, 0), RULES)
    wording.check(refused(lambda: publications.publish(database, number, IN_FORCE), Fenced), "a rebuild")
    assert refused(lambda: publications.cut(database, IN_FORCE), Fenced) == refused(
        lambda: publications.publish(database, number, IN_FORCE), Fenced
    )
    rebuilds.end(database, own, publications.read(database, 0), {})
    wording.check(refused(lambda: publications.publish(database, number, IN_FORCE), StaleDraft), "rebuilt since")
    assert (served(database), publications.served(database), other.own.generation) == ({}, 0, 2)


def test_the_states_of_a_rebuild(database: Database[Document], wording: Wording) -> None:
    stream = Stream(database)
    stream.commit(5, {A: 5})
    when = datetime(2024, 1, 1, tzinfo=UTC)
    number = made(database, {A: 4, B: 1}, newest_event=when)
    stream.commit(7, {C: 2})
    publication = publications.read(database, number)
    own = rebuilds.begin(database, publication, RULES)
    assert (own.generation, own.rebuilding, rebuilds.tag(own)) == (stream.own.generation + 1, number, Tag(own.generation, 0))
    wording.check(refused(lambda: stream.commit(9, {C: 9}), Fenced), "a commit")
    wording.check(refused(lambda: Stream(database), Fenced), "a stream")
    # Another one takes over, and the same one again, as after a crash: who came before is fenced.
    rebuilds.begin(database, publications.read(database, 0), RULES)
    again = rebuilds.begin(database, publication, RULES)
    wording.check(refused(lambda: rebuilds.end(database, own, publication, {}), Fenced), "the one before")
    database.publication.update_one({"_id": number}, {"$set": {"rules": "r"}})
    wording.check(
        refused(lambda: rebuilds.begin(database, publications.read(database, number), RULES), OtherRules), "other rules", rules=IN_FORCE
    )
    database.publication.update_one({"_id": number}, {"$set": {"rules": IN_FORCE}})
    assert ledger.read(database).generation == again.generation
    assert served(database) == {A: 5, C: 2}, "until the end everybody sees what was served"
    category = Category("Luggage", CategoryVersion(1, 2, 3, 4))
    database.category.insert_one({"_id": 9, "category_name": "gone", "_tide": {"version": category.version._asdict()}})
    database.state.update_one({"_id": "ledger"}, {"$set": {"renaming": {"categories": [9], "products": 1}}})
    rebuilds.end(database, again, publication, {7: category})
    now = ledger.read(database)
    assert (now.offsets, now.committed, now.rebuilding, now.rebuilds) == (publication.mark, {again.generation: 0}, None, 1)
    assert now.renaming == frozenset()
    assert now.holds(rebuilds.tag(again))
    assert now.has_forgotten(Tag(stream.own.generation, 0))
    assert (served(database), publications.served(database)) == ({A: 4, B: 1}, number)
    assert [(one["_id"], one["category_name"]) for one in database.category.find()] == [(7, "Luggage")]
    assert (database.state.find_one({"_id": "ledger"}) or {})["newest_event"] == when
    assert publications.read(database, number).published_at is not None
    wording.check(refused(lambda: rebuilds.end(database, again, publication, {}), Fenced), "a second end")
    Stream(database).commit(9, {C: 1})
    assert served(database) == {A: 4, B: 1, C: 1}


def test_the_end_of_a_rebuild_changes_only_what_differs(fallible: Servers) -> None:
    """A transaction must fit in MongoDB's cache, and ends after some time, however often it is tried again."""
    with a_database("very_many_cells") as database:
        cube = {Cell(number, 5, False): sums(number) for number in range(1, 30_001)}
        database.cube_cell.bulk_write(cells.changes(database, cube, {}), ordered=False)
        Stream(database)
        number = publications.cut(database, IN_FORCE).number
        del cube[Cell(1, 5, False)]
        cube |= {Cell(2, 5, False): sums(7), A: sums(1)}
        publications.complete(database, number, Result(cube, ("a",), 0))
        database.client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=1)
        own = rebuilds.begin(database, publications.read(database, number), RULES)
        rebuilds.end(database, own, publications.read(database, number), {})
        with snapshot(database) as now:
            assert cells.read(now) == cube
        (last,) = database.client.local["oplog.rs"].find({"o.applyOps.ns": database.state.full_name}).sort("$natural", -1).limit(1)
        assert sum(one["ns"] == database.cube_cell.full_name for one in last["o"]["applyOps"]) == 3


def test_a_cut_that_was_interrupted_is_not_compared(database: Database[Document], wording: Wording) -> None:
    Stream(database).commit(1, {A: 1, B: 2})
    number = made(database, {A: 1, B: 2})
    assert publications.cut_cells(database, number) == {A: sums(1), B: sums(2)}
    database.cut_cell.delete_one({"publication": number})
    wording.check(refused(lambda: publications.cut_cells(database, number), StaleDraft))


def test_pruning_keeps_the_newest_publications(database: Database[Document], wording: Wording) -> None:
    stream = Stream(database)
    numbers = []
    for offset in range(1, 6):
        stream.commit(offset, {A: 1})
        numbers.append(made(database, {A: offset}))
        publications.publish(database, numbers[-1], IN_FORCE)
    abandoned = made(database, {A: 5})
    own = rebuilds.begin(database, publications.read(database, 2), RULES)
    assert publications.prune(database, 1) == [4, 3, 1]
    rebuilds.end(database, own, publications.read(database, 2), {})
    assert publications.prune(database, 1) == [], "the served one and the newest one stay, and a draft that may yet be published"
    assert [one.number for one in publications.listing(database)] == [abandoned, 5, 2, 0]
    assert set(database.publication_cell.distinct("publication")) == {2, 5, abandoned}
    wording.check(refused(lambda: rebuilds.begin(database, replace(publications.read(database, 5), number=4), RULES), NoPublication))
    assert ledger.read(database).rebuilding is None
    stream = Stream(database)
    stream.commit(6, {A: 4})
    newest = made(database, {A: 6})
    assert newest == 7, "no number is used twice"
    publications.publish(database, newest, IN_FORCE)
    assert publications.prune(database, 1) == [abandoned, 5, 2]
    assert served(database) == {A: 6}
    assert database.cut_cell.distinct("publication") == [7]
    # Quiet nights leave drafts.
    drafts = [made(database, {A: 6}) for _ in range(4)]
    assert publications.prune(database, 1) == []
    assert publications.prune(database, 1, keep_drafts=2) == [drafts[1], drafts[0]]
    assert [one.number for one in publications.listing(database)] == [drafts[3], drafts[2], newest, 0]
    assert served(database) == {A: 6}


def test_a_verification_is_stored_and_read(database: Database[Document], wording: Wording) -> None:
    Stream(database)
    draft = publications.cut(database, IN_FORCE)
    wording.check(refused(lambda: verifications.read(database, draft.number), NotVerified), "not verified")
    cells = verifications.of_cells({A: sums(1), B: sums(0)}, {A: sums(1), C: sums(2)})
    ((what, how),) = cells.named
    assert cells.total == 1
    many = verifications.first((f"B{number:09d}", "$title: missing") for number in range(250))
    assert (many.total, len(many.named)) == (250, 100)
    found = dict.fromkeys(DifferenceKind, Differences(0, []))
    former = publications.read(database, 0)
    clean = verifications.store(database, draft, former, found, 3, NO_SHIFT)
    wording.check("\n".join(render_verification(clean)), "no drift")
    assert [verifications.requires_approval(clean, on_drift, BatchSettings()) for on_drift in ("correct", "ask", "fail")] == [False] * 3
    kept = verifications.store(database, draft, former, {**found, DifferenceKind.CELL: cells, DifferenceKind.PRODUCT: many}, 3, NO_SHIFT)
    assert kept == verifications.read(database, draft.number)
    assert (kept["drift"], kept["counts"]["product"], kept["reconciled"]) == (251, 250, 3)
    assert (kept["named"]["cell"], kept["named"]["product"][9]) == (
        [{"what": what, "how": how}],
        {"what": "B000000009", "how": "$title: missing"},
    )
    wording.check("\n".join(render_verification(kept)), "drift")
    assert [verifications.requires_approval(kept, on_drift, BatchSettings()) for on_drift in ("correct", "ask")] == [False, True]
    wording.check(refused(lambda: verifications.requires_approval(kept, "fail", BatchSettings()), Drifted), "refused")
    assert not verifications.is_expected(kept)
    changed = verifications.store(
        database, draft, replace(former, rules="former rules"), {**found, DifferenceKind.CELL: cells}, 3, NO_SHIFT
    )
    assert verifications.is_expected(changed)
    wording.check("\n".join(render_verification(changed)), "by other rules")


def test_a_night_is_ended_once(database: Database[Document]) -> None:
    publications.end_night(database, 2)
    first = database.state.find_one({"_id": "night"}) or {}
    for number in (2, 1):
        publications.end_night(database, number)
        assert database.state.find_one({"_id": "night"}) == first
    publications.end_night(database, 3)
    now = database.state.find_one({"_id": "night"}) or {}
    assert (now["publication"], now["at"] >= first["at"]) == (3, True)


def test_a_lease_has_one_holder_and_expires_with_it(
    database: Database[Document], monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    monkeypatch.setattr(lease, "VALID_SECONDS", 4)
    monkeypatch.setattr(lease, "RENEW_EVERY_SECONDS", 0.3)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    with lease.lease(database, "batch", "one", within_seconds=1):
        time.sleep(5)  # longer than it is valid: it is renewed
        with pytest.raises(lease.Busy) as busy, lease.lease(database, "batch", "two", within_seconds=0.2):
            pass
        held = database.state.find_one({"_id": "lease batch"}) or {}
        wording.check(str(busy.value), since=f"{held['since']:%Y-%m-%d %H:%M}")
        with lease.lease(database, "another", "two", within_seconds=0):
            pass
    with lease.lease(database, "batch", "two", within_seconds=0):
        pass
    started = time.monotonic()
    assert lease._acquire(database, "batch", "killed")
    with lease.lease(database, "batch", "three", within_seconds=30):
        assert time.monotonic() - started > 1
