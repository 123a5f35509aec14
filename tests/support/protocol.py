"""The protocol of speed layer, batch layer and rebuild as a simulation: every `yield` is a point where anything else may happen.

Between two yields lies what one MongoDB operation or transaction does at once. Streams are killed, stalled and woken beside
their successors, attempts of a task die or go on beside their retry, batch runs die or run side by side, rebuilds to any
publication start at any time, events come late and in two partitions. The invariant is checked after every step: the served
cube == the cube of the events below the ledger's offsets, the categories have their newest names below them and so have the committed
products, but for those that are being renamed, and the served publication's mark lies at or below those offsets.

`Rule` is the protocol in sentences. Each can be broken by itself, and then some seed breaks the invariant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count
from random import Random
from typing import NamedTuple

PARTITIONS = 2
KEYS = 6
CELLS = 4
CATEGORIES = 2
NAMES = 2
STEPS = 500
LAST_EVENT = 400  # no event comes after this step
MOST_STEPS_TO_REST = 10_000


class Rule(StrEnum):
    """What the protocol demands."""

    NEW_GENERATION = "every start of a stream takes the next generation"
    NEWEST_WINS = "an event changes a product only where its version is higher than the committed view's"
    LOOK_THROUGH = "a document whose tag the ledger has not committed counts as its `before`"
    KEEP_BEFORE = "a write keeps the committed view as `before`"
    COMPARE_AND_SET = "a stream replaces a document only as it was read, and its insert is an insert"
    FENCE = "a stream stops at a document that bears a higher generation"
    ONE_TRANSACTION = "cells and offsets move in one transaction"
    COMMIT_FENCE = "only the ledger's own generation commits"
    COMMIT_ONCE = "a commit that is repeated changes nothing"
    EQUAL_NAMES_ADVANCE = "a newer version of a category counts even if its name is the same"
    RENAME_FENCE = "only the ledger's own generation renames products"
    RECORD_RENAMES = "a rename is recorded until a commit or a rebuild, and a start renames the products of recorded categories again"
    RENAME_LAST = "products are renamed when all products of the micro-batch are written"
    COMPARE_PRODUCTS = "verification compares the products"
    PUBLISH_THE_CUT = "publish demands that the served publication is the cut's and that no rebuild came in between"
    NO_STREAM_WHILE_REBUILDING = "no stream starts while a rebuild is under way"
    REBUILD_COMPARE_AND_SET = "a rebuild replaces a document only as it was read, and its insert is an insert"
    REBUILD_FENCE = "a rebuild stops at a document that bears a higher generation"
    REBUILD_END_FENCE = "a rebuild ends only as the ledger's own generation"
    REBUILD_COMMITS = "the end of a rebuild commits its tag"
    REBUILD_FORGETS = "the end of a rebuild forgets all commits before it"
    FORGOTTEN_IS_ABSENT = "a document of a generation lower than all that are committed counts as absent"


class Fenced(Exception):
    """Somebody newer is at work: whoever meets this stops."""


class Broken(Exception):
    """The protocol has not held."""


class Event(NamedTuple):
    key: int
    observed_at: int
    cell: int


class NameEvent(NamedTuple):
    category: int
    registered_at: int
    name: int


class Name(NamedTuple):
    """A category's name; its version is (registered_at, partition, offset)."""

    version: tuple[int, int, int]
    name: int


class State(NamedTuple):
    """What a product is; its version is (observed_at, partition, offset)."""

    version: tuple[int, int, int]
    cell: int


class Tag(NamedTuple):
    generation: int
    batch: int


class Document(NamedTuple):
    """A product's document. `name` is that of its category, with the version at which it was given; None if the category has none."""

    state: State
    tag: Tag
    before: State | None
    name: Name | None

    def is_named(self, name: Name | None) -> bool:
        """Does it bear this name, of whatever version?"""
        return (self.name and self.name.name) == (name and name.name)


Mark = tuple[int, ...]
Steps = Generator[None, None, None]


@dataclass
class Ledger:
    """With the served publication and the count of rebuilds, which MongoDB keeps beside it."""

    generation: int = 0
    offsets: Mark = (0,) * PARTITIONS
    committed: dict[int, int] = field(default_factory=dict)  # newest committed micro-batch by generation
    rebuilding: int | None = None
    served: int = 0
    rebuilds: int = 0
    renaming: frozenset[int] = frozenset()  # categories whose products are being renamed

    def holds(self, tag: Tag) -> bool:
        return tag.batch <= self.committed.get(tag.generation, -1)

    def has_forgotten(self, tag: Tag) -> bool:
        """Does the tag come from before the last rebuild? Only a stray attempt can have written it since."""
        return tag.generation < min(self.committed, default=0)


@dataclass(frozen=True)
class Publication:
    mark: Mark
    cube: Counter[int]
    states: dict[int, State]
    names: dict[int, Name]


class System:
    """Kafka's log, MongoDB's documents, and what streams and batch runs do to them."""

    def __init__(self, random: Random, broken: Rule | None = None) -> None:
        self.random = random
        self.broken = broken
        self.log: tuple[list[Event | NameEvent], ...] = tuple([] for _ in range(PARTITIONS))
        self.documents: dict[int, Document] = {}
        self.cube: Counter[int] = Counter()
        self.names: dict[int, Name] = {}
        self.publications = [Publication((0,) * PARTITIONS, Counter(), {}, {})]
        self.ledger = Ledger()
        self.given_up = random.choice((0.02, 0.35))  # how often an attempt is
        self.strays: list[Steps] = []  # attempts that Spark has given up, and that go on all the same
        self.happened: Counter[str] = Counter()
        self._truth: dict[Mark, tuple[dict[int, State], Counter[int], dict[int, Name]]] = {}

    def keeps(self, rule: Rule) -> bool:
        return rule is not self.broken

    # what is true ---------------------------------------------------------------------------------------------------------

    def truth(self, mark: Mark) -> tuple[dict[int, State], Counter[int], dict[int, Name]]:
        """States, cube and names of the events below a mark."""
        if mark not in self._truth:
            states, names = self.newest((0,) * PARTITIONS, mark)
            self._truth[mark] = states, Counter(state.cell for state in states.values()), names
        return self._truth[mark]

    def newest(self, start: Mark, end: Mark) -> tuple[dict[int, State], dict[int, Name]]:
        """The highest version of each key and of each category between two marks."""
        states: dict[int, State] = {}
        names: dict[int, Name] = {}
        for partition, events in enumerate(self.log):
            for offset in range(start[partition], end[partition]):
                event = events[offset]
                if isinstance(event, NameEvent):
                    name = Name((event.registered_at, partition, offset), event.name)
                    names[event.category] = max(name, names.get(event.category, name))
                else:
                    state = State((event.observed_at, partition, offset), event.cell)
                    states[event.key] = max(state, states.get(event.key, state))
        return states, names

    def check(self) -> None:
        """The invariant."""
        _, cube, names = self.truth(self.ledger.offsets)
        if self.cube != cube:
            raise Broken(f"served {self.cube} instead of {cube} at {self.ledger}")
        if self.names != names:
            raise Broken(f"names {self.names} instead of {names} at {self.ledger}")
        if wrong := [key for key, document in self.documents.items() if self.is_misnamed(document)]:
            raise Broken(f"products {wrong} are misnamed at {self.ledger}")
        mark = self.publications[self.ledger.served].mark
        if any(of > end for of, end in zip(mark, self.ledger.offsets, strict=True)):
            raise Broken(f"publication {self.ledger.served} at {mark} is served by {self.ledger}")

    def is_misnamed(self, document: Document) -> bool:
        """A document that counts, has it another name than its category? During a rebuild strays may write what looks committed."""
        category = category_of(document.state)
        counts = self.ledger.holds(document.tag) and self.ledger.rebuilding is None and category not in self.ledger.renaming
        return counts and not document.is_named(self.names.get(category))

    def check_products(self) -> None:
        """At rest every product is the state of its key."""
        views = {key: view for key, document in self.documents.items() if (view := self.committed_view(document))}
        if views != (expected := self.truth(self.ledger.offsets)[0]):
            raise Broken(f"products {views} instead of {expected}")

    def committed_view(self, document: Document | None, ledger: Ledger | None = None) -> State | None:
        """What a document says once uncommitted writes are looked through."""
        if document is None:
            return None
        if (ledger or self.ledger).has_forgotten(document.tag) and self.keeps(Rule.FORGOTTEN_IS_ABSENT):
            return None
        committed = (ledger or self.ledger).holds(document.tag)
        return document.state if committed or not self.keeps(Rule.LOOK_THROUGH) else document.before

    # the speed layer ------------------------------------------------------------------------------------------------------

    def stream(self) -> Steps:
        """One start of the stream: a generation, then micro-batch after micro-batch."""
        if self.ledger.rebuilding is not None and self.keeps(Rule.NO_STREAM_WHILE_REBUILDING):
            raise Fenced
        self.ledger.generation += self.keeps(Rule.NEW_GENERATION)
        own = Ledger(self.ledger.generation, self.ledger.offsets, dict(self.ledger.committed))
        names, renaming = self.names, self.ledger.renaming
        yield
        for number in count():
            end = tuple(min(len(events), start + self.random.randint(0, 4)) for events, start in zip(self.log, own.offsets, strict=True))
            states, told = self.newest(own.offsets, end)
            newer = {category: name for category, name in told.items() if category not in names or self.counts(name, names[category])}
            renaming |= {category for category, name in newer.items() if category not in names or name.name != names[category].name}
            if not self.keeps(Rule.RENAME_LAST):
                yield from self.rename(own.generation, renaming, names | newer)
            difference: Counter[int] = Counter()
            for task in (sorted(states.items())[0::2], sorted(states.items())[1::2]):
                difference = added(difference, (yield from self.attempts(task, Tag(own.generation, number), own, names)))
            names = names | newer
            if self.keeps(Rule.RENAME_LAST):
                yield from self.rename(own.generation, renaming, names)
            for _ in range(2):  # the answer to a commit may be lost, so that it is repeated
                yield from self.commit(own.generation, number, end, difference, newer)
                if self.random.random() < 0.9:
                    break
            renaming = frozenset()
            own = replace(own, offsets=end, committed={**own.committed, own.generation: number})

    def counts(self, name: Name, former: Name) -> bool:
        """Is it a newer name?"""
        return name.version > former.version and (name.name != former.name or self.keeps(Rule.EQUAL_NAMES_ADVANCE))

    def attempts(self, task: list[tuple[int, State]], tag: Tag, own: Ledger, names: dict[int, Name]) -> Generator[None, None, Counter[int]]:
        """Attempts of one task until one gets through; those before it are dead, or go on as strays."""
        while True:
            difference: Counter[int] = Counter()
            attempt = self.write(task, tag, own, names, difference)
            for _ in attempt:
                yield
                if self.random.random() < self.given_up:
                    self.happened["retried tasks"] += 1
                    if self.random.random() < 0.5:
                        self.strays.append(attempt)
                    break
            else:
                return difference

    def write(self, task: list[tuple[int, State]], tag: Tag, own: Ledger, names: dict[int, Name], difference: Counter[int]) -> Steps:
        """One attempt: product documents under the micro-batch's tag, which says nothing until it is committed."""
        for key, state in task:
            read = self.documents.get(key)
            yield
            if read and read.tag.generation > tag.generation and self.keeps(Rule.FENCE):
                raise Fenced
            base = self.committed_view(read, own)
            if base and base.version >= state.version and self.keeps(Rule.NEWEST_WINS):
                continue
            difference[state.cell] += 1
            if base:
                difference[base.cell] -= 1
            if read and (read.tag, read.state.version) == (tag, state.version):
                continue  # another attempt has written it
            before = base if self.keeps(Rule.KEEP_BEFORE) else read and read.state
            self.put(key, read, Document(state, tag, before, names.get(category_of(state))), Rule.COMPARE_AND_SET)
            yield

    def rename(self, generation: int, categories: Iterable[int], names: dict[int, Name]) -> Steps:
        """Gives products of these categories their names. A product that bears its name is not touched."""
        for category in sorted(categories):
            name = names.get(category)
            found = [
                key for key, document in self.documents.items() if category_of(document.state) == category and not document.is_named(name)
            ]
            for key in sorted(found):
                yield
                if self.ledger.generation != generation and self.keeps(Rule.RENAME_FENCE):
                    raise Fenced
                if self.keeps(Rule.RECORD_RENAMES):
                    self.ledger.renaming |= {category}
                now = self.documents.get(key)
                if now and category_of(now.state) == category:
                    self.documents[key] = now._replace(name=name)
                    self.happened["renames"] += 1

    def put(self, key: int, read: Document | None, document: Document | None, rule: Rule) -> None:
        """Replaces what was read, or inserts where nothing was; None deletes."""
        now = self.documents.get(key)
        same = (now and (now.tag, now.state.version)) == (read and (read.tag, read.state.version))
        if not same and self.keeps(rule):
            raise Fenced
        if document is None:
            self.documents.pop(key, None)
        else:
            self.documents[key] = document

    def commit(self, generation: int, number: int, end: Mark, difference: Counter[int], names: dict[int, Name]) -> Steps:
        """The one transaction of a micro-batch."""
        if self.ledger.generation != generation and self.keeps(Rule.COMMIT_FENCE):
            raise Fenced
        if self.ledger.committed.get(generation, -1) >= number and self.keeps(Rule.COMMIT_ONCE):
            yield
            return
        self.cube = added(self.cube, difference)
        if not self.keeps(Rule.ONE_TRANSACTION):
            yield
        self.names = self.names | names
        self.ledger.renaming = frozenset()
        self.ledger.offsets = end
        self.ledger.committed[generation] = number
        self.happened["micro-batches"] += 1
        yield

    # the batch layer ------------------------------------------------------------------------------------------------------

    def nightly(self) -> Steps:
        """Cut, recompute, verify, then publish or rebuild. It finishes a rebuild that another run has left."""
        if self.ledger.rebuilding is not None:
            yield from self.rebuild(self.ledger.rebuilding)
        mark, cut = self.ledger.offsets, self.cube
        served, rebuilds = self.ledger.served, self.ledger.rebuilds
        yield
        states, cube, names = self.truth(mark)
        number = len(self.publications)
        self.publications.append(Publication(mark, cube, states, names))
        yield
        drift, misnamed = cut != cube, False
        if self.keeps(Rule.COMPARE_PRODUCTS):
            for key in sorted({*states, *self.documents}):
                document = self.documents.get(key)
                view = self.committed_view(document)
                beyond = view is not None and view.version[2] >= mark[view.version[1]]
                drift |= not beyond and view != states.get(key)
                if document and view and not beyond and self.ledger.holds(document.tag):
                    is_newer_name = document.name is not None and document.name.version[2] >= mark[document.name.version[1]]
                    misnamed |= not is_newer_name and not document.is_named(names.get(category_of(view)))
                yield
        if drift:
            yield from self.rebuild(number)
            return
        if misnamed and (self.ledger.rebuilds, self.ledger.rebuilding) == (rebuilds, None):
            raise Broken(f"products are named otherwise than at {mark}")
        as_cut = (self.ledger.served, self.ledger.rebuilds, self.ledger.rebuilding) == (served, rebuilds, None)
        if not as_cut and self.keeps(Rule.PUBLISH_THE_CUT):
            raise Fenced  # start again at cut
        self.ledger.served = number
        self.happened["publications"] += 1
        yield

    def rebuild(self, number: int) -> Steps:
        """Brings everything to a publication: repair, and rollback. Only the same rebuild may finish one that was left."""
        if self.ledger.rebuilding not in (None, number):
            raise Fenced
        self.ledger.generation += 1
        self.ledger.rebuilding = number
        tag = Tag(self.ledger.generation, 0)
        publication = self.publications[number]
        yield
        for key in sorted({*self.documents, *publication.states}):
            read = self.documents.get(key)
            yield
            if read and read.tag.generation > tag.generation and self.keeps(Rule.REBUILD_FENCE):
                raise Fenced
            state = publication.states.get(key)
            document = state and Document(state, tag, None, publication.names.get(category_of(state)))
            self.put(key, read, document, Rule.REBUILD_COMPARE_AND_SET)
            yield
        if (self.ledger.generation, self.ledger.rebuilding) != (tag.generation, number) and self.keeps(Rule.REBUILD_END_FENCE):
            raise Fenced
        self.ledger.served, self.ledger.offsets, self.cube = number, publication.mark, publication.cube
        self.names, self.ledger.renaming = publication.names, frozenset()
        self.ledger.rebuilding = None
        self.ledger.rebuilds += 1
        if self.keeps(Rule.REBUILD_FORGETS):
            self.ledger.committed.clear()
        if self.keeps(Rule.REBUILD_COMMITS):
            self.ledger.committed[tag.generation] = tag.batch
        self.happened["rebuilds"] += 1
        yield


def category_of(state: State) -> int:
    return state.cell % CATEGORIES


def added(a: Counter[int], b: Counter[int]) -> Counter[int]:
    """The sum of two cubes; a cell of 0 is no cell."""
    total = Counter(a)
    for cell, products in b.items():
        total[cell] += products
    return Counter({cell: products for cell, products in total.items() if products})


def simulate(seed: int, broken: Rule | None = None) -> Counter[str]:
    """One random schedule, then rest, then a corruption that the next batch run must heal. Raises Broken; returns what happened."""
    system = System(Random(seed), broken)
    runs = _schedule(system)
    _rest(system, runs)
    _heal(system)
    return system.happened


def _goes_on(system: System, actor: Steps) -> bool:
    """One step of somebody; False where it has ended."""
    try:
        next(actor)
    except StopIteration:
        return False
    except Fenced:
        system.happened["fenced"] += 1
        return False
    return True


def _schedule(system: System) -> list[Steps]:
    """Streams, batch runs and rebuilds in any order; returns the batch runs that have not ended."""
    random = system.random
    live: Steps | None = None
    stalled: list[Steps] = []
    runs: list[Steps] = []
    for step in range(STEPS):
        if step < LAST_EVENT and random.random() < 0.35:
            _one_event(system, step)
        if live is None and random.random() < 0.2:
            live = system.stream()
        match random.random():
            case chance if chance < 0.02 and live:
                live = None
                system.happened["kills"] += 1
            case chance if chance < 0.04 and live:
                stalled.append(live)
                live = None
                system.happened["stalls"] += 1
            case chance if chance < 0.055:
                runs.append(system.nightly())
            case chance if chance < 0.075:
                runs.append(system.rebuild(min(random.choices(range(len(system.publications)), k=2))))
            case chance if chance < 0.09 and runs:
                runs.remove(random.choice(runs))
            case chance if chance < 0.17 and (stalled or system.strays):
                woken = random.choice([*stalled, *system.strays])
                if not _goes_on(system, woken):
                    (stalled if woken in stalled else system.strays).remove(woken)
            case chance if chance < 0.45 and runs:
                run = random.choice(runs)
                if not _goes_on(system, run):
                    runs.remove(run)
            case _ if live and not _goes_on(system, live):
                live = None
        system.check()
    return runs


def _one_event(system: System, step: int) -> None:
    """One product event, mostly in its key's partition, or the name of a category. Both are sometimes late."""
    random = system.random
    if random.random() < 0.2:
        name = NameEvent(random.randrange(CATEGORIES), step - random.choice((0, 0, 0, 40)), random.randrange(NAMES))
        system.log[random.randrange(PARTITIONS)].append(name)
        return
    key = random.randrange(KEYS)
    partition = key % PARTITIONS if random.random() < 0.9 else random.randrange(PARTITIONS)
    system.log[partition].append(Event(key, step - random.choice((0, 0, 0, 40)), random.randrange(CELLS)))


def _rest(system: System, runs: Iterable[Steps]) -> None:
    """What runs ends, one nightly run follows, and the stream serves all there is."""
    for run in (*runs, *system.strays, system.nightly()):
        while _goes_on(system, run):
            system.check()
    _serve_all(system, system.check)
    system.check_products()


def _heal(system: System) -> None:
    """A product is lost or a cell is wrong: one nightly run finds and mends it, and the stream goes on from there."""
    random = system.random
    if system.documents and random.random() < 0.5:
        del system.documents[random.choice(sorted(system.documents))]
    else:
        system.cube = added(system.cube, Counter([random.randrange(CELLS)]))
    run = system.nightly()
    while _goes_on(system, run):
        pass
    _serve_all(system, lambda: None)
    system.check()
    system.check_products()


def _serve_all(system: System, check: Callable[[], None]) -> None:
    stream = system.stream()
    for _ in range(MOST_STEPS_TO_REST):
        if system.ledger.offsets == tuple(map(len, system.log)):
            return
        if not _goes_on(system, stream):
            stream = system.stream()
        check()
    raise Broken(f"the stream does not reach the log's end: {system.ledger}")
