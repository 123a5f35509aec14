"""The protocol of speed layer, batch layer, rebuild and adoption as a simulation: every `yield` is a point where anything else may happen.

Between two yields lies what one MongoDB operation or transaction does at once. `Rule` is the protocol in sentences. Each can be broken by
itself, and then some schedule (support/schedules.py) breaks one of these invariants:

- after every step the served cube equals the cube of the events that have been served, as they were judged when they were;
- categories have their newest names among those events, and so have the committed products, but for those that are being renamed;
- verification finds no product misnamed where cube and names are those of its publication;
- at rest everything in the log has been served, nothing that was served is gone, unless a person has adopted its loss, and each product
  is the state of its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from copy import deepcopy
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
EPOCH = 10_000  # offsets of an epoch of the log


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
    REBUILD_READS_CELLS_LATE = "a rebuild compares its cells with those that are served after its begin"
    REBUILD_COMMITS = "the end of a rebuild commits its tag"
    REBUILD_FORGETS = "the end of a rebuild forgets all commits before it"
    FORGOTTEN_IS_ABSENT = "a document of a generation lower than all that are committed counts as absent"
    # Rules of validation that change while everything runs.
    RESTART_READ_FIRST = "a start reads the request to restart before it reads the rules"
    UNCOMMITTED_IS_DRIFT = "an uncommitted document of a former generation whose event lies below the mark is drift"
    RULES_IN_BEGIN = "a rebuild begins only under the rules in force, which its transaction compares"
    TAKE_OVER = "a rebuild that was left can be taken over by another"
    # A log that loses events, is replaced, or no longer reaches back.
    STREAM_WITNESS = "a stream starts only where the last record that was read is still the log's"
    LEADER_EPOCH = "a stream ends before it commits what it read under another leader than that of its start"
    LANDING_WITNESS = (
        "a landing compares the records before its start, and before that of the last landing, with the log; and again at its end"
    )
    NEW_EPOCH = "a log that is adopted has offsets above all that were given before"
    LAKE_REACHES = "where the raw history lacks what came before the log's origin, nothing is landed, and the whole log is adopted"
    # A lake that is lost or another's, and a database that is older than what it knew.
    START_AS_READ = "a start takes the next generation only from the one that it read first"
    RESTORED_GENERATION = "a restored ledger continues above every generation that was ever given"
    RESTORED_TAGS = "a restore puts every document under a generation of its own"


class Fenced(Exception):
    """Somebody newer is at work: whoever meets this stops."""


class Refused(Exception):
    """Going on would lose events: nothing has been changed, and a person must adopt what there is."""


class Broken(Exception):
    """The protocol has not held."""


class Event(NamedTuple):
    serial: int
    key: int
    observed_at: int
    cell: int
    file: int


class NameEvent(NamedTuple):
    serial: int
    category: int
    registered_at: int
    name: int
    file: int


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


Record = Event | NameEvent
Batch = list[dict[int, Record]]  # of each partition: records by offset
Mark = tuple[int, ...]
Rules = frozenset[int]  # the files that are withdrawn
Witness = tuple[
    tuple[int, Record] | None, ...
]  # of each partition: the record with the highest offset that was ever read, in Kafka's offsets
Steps = Generator[None, None, None]
START: Mark = (0,) * PARTITIONS
NOTHING_READ: Witness = (None,) * PARTITIONS


@dataclass
class Log:
    """Kafka's topic, by its own offsets. Every loss of events elects another leader."""

    events: list[list[Record]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    starts: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    identity: int = 0
    leader_epoch: int = 0

    def at(self, partition: int, offset: int) -> Record | None:
        """None where the log has no such record: it is lost, or retention has removed it."""
        there = self.starts[partition] <= offset < len(self.events[partition])
        return self.events[partition][offset] if there else None


@dataclass
class Lake:
    """The raw history: events by offset, where its newest landing began, and the states of publications."""

    identity: int
    events: Batch = field(default_factory=lambda: [{} for _ in range(PARTITIONS)])
    last_landing: Mark = START
    layers: set[int] = field(default_factory=set)

    @property
    def mark(self) -> Mark:
        return tuple(max(events, default=-1) + 1 for events in self.events)

    @property
    def epoch(self) -> int:
        return max(max(events, default=0) // EPOCH for events in self.events)


class Binding(NamedTuple):
    """What a ledger's offsets mean: `epoch * EPOCH + n` is offset n of the topic of that identity, from the origin on.

    What came before the origin only the raw history holds, up to `landed`.
    """

    epoch: int = 0
    topic: int = 0
    origin: Mark = START
    lake: int | None = None
    landed: Mark = START

    def to_log(self, offset: int) -> int:
        return offset - self.epoch * EPOCH

    def of_log(self, offset: int) -> int:
        return offset + self.epoch * EPOCH


FIRST_LOG = Binding()


@dataclass
class Ledger:
    """With the served publication and the count of rebuilds, which MongoDB keeps beside it."""

    generation: int = 0
    offsets: Mark = START
    committed: dict[int, int] = field(default_factory=dict)  # newest committed micro-batch by generation
    rebuilding: int | None = None
    served: int = 0
    rebuilds: int = 0
    rules: Rules = frozenset()  # of the stream that started last
    binding: Binding = FIRST_LOG
    witness: Witness = NOTHING_READ
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
    rules: Rules | None
    serials: frozenset[int]  # of the events that it accounts for
    layer: int | None = None  # in the raw history
    adopts: tuple[Binding, Witness] | None = None


@dataclass
class Database:
    """MongoDB. What the invariants need beside it: true states and names, the events that are served, and those that were promised."""

    documents: dict[int, Document] = field(default_factory=dict)
    cube: Counter[int] = field(default_factory=Counter)
    names: dict[int, Name] = field(default_factory=dict)
    publications: list[Publication] = field(default_factory=lambda: [Publication(START, Counter(), {}, {}, None, frozenset())])
    ledger: Ledger = field(default_factory=Ledger)
    withdrawn: Rules = frozenset()
    restarts: int = 0  # requests that the stream restart
    true_states: dict[int, State] = field(default_factory=dict)
    true_names: dict[int, Name] = field(default_factory=dict)
    served: set[int] = field(default_factory=set)
    promised: set[int] = field(default_factory=set)


class System:
    """Kafka's log, MongoDB, the raw history, and what streams, batch runs and people do to them."""

    def __init__(self, random: Random, broken: Rule | None = None) -> None:
        self.random = random
        self.broken = broken
        self.log = Log()
        self.database = Database()
        self.lake = Lake(identity=1)
        self.highest_generation = 0  # that was ever given; a clock stands for it
        self.given_up = random.choice((0.02, 0.35))  # how often an attempt is
        self.strays: list[Steps] = []  # attempts that Spark has given up, and that go on all the same
        self.happened: Counter[str] = Counter()
        self.numbers = count(2)  # of events, raw histories and layers

    @property
    def ledger(self) -> Ledger:
        return self.database.ledger

    def keeps(self, rule: Rule) -> bool:
        return rule is not self.broken

    # what is true ---------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The invariants of every step."""
        database = self.database
        expected = Counter(state.cell for state in database.true_states.values())
        if database.cube != expected:
            raise Broken(f"served {database.cube} instead of {expected} at {self.ledger}")
        if database.names != database.true_names:
            raise Broken(f"names {database.names} instead of {database.true_names} at {self.ledger}")
        if misnamed := [key for key, document in database.documents.items() if self.is_misnamed(document)]:
            raise Broken(f"products {misnamed} are misnamed at {self.ledger}")
        if self.ledger.served >= len(database.publications):
            raise Broken(f"publication {self.ledger.served}, which is served, does not exist")
        mark = database.publications[self.ledger.served].mark
        if any(of > end for of, end in zip(mark, self.ledger.offsets, strict=True)):
            raise Broken(f"publication {self.ledger.served} at {mark} is served by {self.ledger}")

    def is_misnamed(self, document: Document) -> bool:
        """A document that counts, has it another name than its category? During a rebuild strays may write what looks committed."""
        category = category_of(document.state)
        counts = self.ledger.holds(document.tag) and self.ledger.rebuilding is None and category not in self.ledger.renaming
        return counts and not document.is_named(self.database.names.get(category))

    def check_at_rest(self) -> None:
        """Everything is served, and every product is the state of its key."""
        database = self.database
        there = {event.serial for events, start in zip(self.log.events, self.log.starts, strict=True) for event in events[start:]}
        if lost := (there | database.promised) - database.served:
            raise Broken(f"events {lost} are not served: {self.ledger}")
        if uncommitted := [document for document in database.documents.values() if not self.ledger.holds(document.tag)]:
            raise Broken(f"documents are left uncommitted: {uncommitted}")
        states = {key: document.state for key, document in database.documents.items()}
        if states != database.true_states:
            raise Broken(f"products {states} instead of {database.true_states}")

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
        former, restarts, rules = self.ledger.generation, self.database.restarts, self.database.withdrawn
        self.require_no_rebuild()
        yield
        if self.keeps(Rule.RESTART_READ_FIRST):
            rules = self.database.withdrawn
        else:
            restarts = self.database.restarts
        leader = self.log.leader_epoch
        self.require_log(self.ledger.binding, self.ledger.offsets)
        if self.keeps(Rule.STREAM_WITNESS):
            self.require_records(self.ledger.witness)
        yield
        self.require_no_rebuild()
        if self.ledger.generation != former and self.keeps(Rule.START_AS_READ):
            raise Fenced
        self.take_generation(self.keeps(Rule.NEW_GENERATION))
        self.ledger.rules = rules
        own = replace(self.ledger, committed=dict(self.ledger.committed))
        names, renaming = self.database.names, own.renaming
        yield
        for number in count():
            if self.database.restarts != restarts:
                return
            self.require_leader(own.binding, leader)
            batch = self.read(own)
            states = sorted(newest_states(batch, rules).items())
            newer = {category: name for category, name in newest_names(batch, rules).items() if self.counts(name, names.get(category))}
            renaming |= {category for category, name in newer.items() if category not in names or name.name != names[category].name}
            yield
            if not self.keeps(Rule.RENAME_LAST):
                yield from self.rename(own.generation, renaming, names | newer)
            difference: Counter[int] = Counter()
            for task in (states[0::2], states[1::2]):
                difference = added(difference, (yield from self.attempts(task, Tag(own.generation, number), own, names)))
            names = names | newer
            if self.keeps(Rule.RENAME_LAST):
                yield from self.rename(own.generation, renaming, names)
            self.require_leader(own.binding, leader)
            yield
            for _ in range(2):  # the answer to a commit may be lost, so that it is repeated
                yield from self.commit(own.generation, number, batch, (rules, restarts), difference, newer)
                if self.random.random() < 0.9:
                    break
            renaming = frozenset()
            ends = tuple(max([start, *(offset + 1 for offset in events)]) for events, start in zip(batch, own.offsets, strict=True))
            own = replace(own, offsets=ends, committed={**own.committed, own.generation: number})

    def require_no_rebuild(self) -> None:
        if self.ledger.rebuilding is not None and self.keeps(Rule.NO_STREAM_WHILE_REBUILDING):
            raise Fenced

    def take_generation(self, next_one: bool = True) -> None:
        self.ledger.generation += next_one
        self.highest_generation = max(self.highest_generation, self.ledger.generation)

    def require_log(self, binding: Binding, mark: Mark) -> None:
        """Is this the log that the offsets mean, and can it be read from the mark on?"""
        if self.log.identity != binding.topic:
            raise Refused("another topic")
        for partition, offset in enumerate(mark):
            if not self.log.starts[partition] <= binding.to_log(offset) <= len(self.log.events[partition]):
                raise Refused("offsets that are not in the log")

    def require_records(self, witness: Witness) -> None:
        """Are these records still the log's? Where retention has removed one, nobody can say."""
        for partition, read in enumerate(witness):
            if read and read[0] >= self.log.starts[partition] and self.log.at(partition, read[0]) != read[1]:
                raise Refused("another record than the one that was read")

    def require_leader(self, binding: Binding, leader: int) -> None:
        if self.log.identity != binding.topic:
            raise Refused("another topic")
        if self.log.leader_epoch != leader and self.keeps(Rule.LEADER_EPOCH):
            raise Fenced

    def read(self, own: Ledger) -> Batch:
        """The next few events of each partition, by offset. Refused where the log ends before."""
        batch: Batch = []
        for events, offset in zip(self.log.events, own.offsets, strict=True):
            start = own.binding.to_log(offset)
            if start > len(events):
                raise Refused("offsets that are not in the log")
            end = start + self.random.randint(0, 4)
            batch.append({own.binding.of_log(start + index): event for index, event in enumerate(events[start:end])})
        return batch

    def counts(self, name: Name, former: Name | None) -> bool:
        """Is it a newer name?"""
        if former is None:
            return True
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
            read = self.database.documents.get(key)
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
            name, documents = names.get(category), self.database.documents
            found = [key for key, document in documents.items() if category_of(document.state) == category and not document.is_named(name)]
            for key in sorted(found):
                yield
                if self.ledger.generation != generation and self.keeps(Rule.RENAME_FENCE):
                    raise Fenced
                if self.keeps(Rule.RECORD_RENAMES):
                    self.ledger.renaming |= {category}
                now = self.database.documents.get(key)
                if now and category_of(now.state) == category:
                    self.database.documents[key] = now._replace(name=name)
                    self.happened["renames"] += 1

    def put(self, key: int, read: Document | None, document: Document | None, rule: Rule) -> None:
        """Replaces what was read, or inserts where nothing was; None deletes."""
        documents = self.database.documents
        now = documents.get(key)
        same = (now and (now.tag, now.state.version)) == (read and (read.tag, read.state.version))
        if not same and self.keeps(rule):
            raise Fenced
        if document is None:
            documents.pop(key, None)
        else:
            documents[key] = document

    def commit(
        self,
        generation: int,
        number: int,
        batch: Batch,
        under: tuple[Rules, int],
        difference: Counter[int],
        names: dict[int, Name],
    ) -> Steps:
        """The one transaction of a micro-batch. `under`: the stream's rules, and the requests to restart that it had read before them."""
        database = self.database
        if self.ledger.generation != generation and self.keeps(Rule.COMMIT_FENCE):
            raise Fenced
        if self.ledger.committed.get(generation, -1) >= number and self.keeps(Rule.COMMIT_ONCE):
            yield
            return
        rules, restarts = under
        if rules != database.withdrawn and restarts == database.restarts:
            raise Broken("a stream goes on under rules that are not in force")
        database.cube = added(database.cube, difference)
        if not self.keeps(Rule.ONE_TRANSACTION):
            yield
        database.names = database.names | names
        ledger = self.ledger
        ledger.renaming = frozenset()
        ends = tuple(max(events, default=offset - 1) + 1 for events, offset in zip(batch, ledger.offsets, strict=True))
        read = [(ledger.binding.to_log(max(events)), events[max(events)]) if events else None for events in batch]
        ledger.witness = tuple(
            new if new and (not held or new[0] > held[0]) else held for new, held in zip(read, ledger.witness, strict=True)
        )
        ledger.offsets = ends
        ledger.committed[generation] = number
        for key, state in newest_states(batch, rules).items():
            database.true_states[key] = max(state, database.true_states.get(key, state))
        for category, name in newest_names(batch, rules).items():
            database.true_names[category] = max(name, database.true_names.get(category, name))
        now = {event.serial for events in batch for event in events.values()}
        database.served |= now
        database.promised |= now
        self.happened["micro-batches"] += 1
        yield

    # the batch layer ------------------------------------------------------------------------------------------------------

    def land(self) -> Steps:
        """Copies what the raw history lacks from the log. The table itself tells how far it reaches."""
        lake, binding = self.lake, self.ledger.binding
        if lake.identity != binding.lake:
            is_new = not any(lake.events) and binding.epoch == 0 and not any(self.log.starts)
            if not is_new:
                raise Refused("the raw history of another database, or an empty one where there was one")
            self.ledger.binding = binding = binding._replace(lake=lake.identity)
        if lake.epoch > binding.epoch:
            raise Refused("the raw history knows a later log")
        if not reaches(lake.mark, binding.landed) and self.keeps(Rule.LAKE_REACHES):
            raise Refused("the raw history lacks what the log no longer has")
        mark = joined(lake.mark, binding.origin)
        self.require_log(binding, mark)
        if self.keeps(Rule.LANDING_WITNESS):
            self.require_landed(lake, binding, mark)
            self.require_landed(lake, binding, lake.last_landing)
        yield
        if self.log.identity != binding.topic or any(
            binding.to_log(offset) > len(events) for offset, events in zip(mark, self.log.events, strict=True)
        ):
            raise Refused("the log has changed while it was read")
        if lake.mark != mark and joined(lake.mark, binding.origin) != mark:
            raise Fenced  # another landing was faster
        for events, offset, those in zip(lake.events, mark, self.log.events, strict=True):
            events.update({binding.of_log(index): those[index] for index in range(binding.to_log(offset), len(those))})
        lake.last_landing = mark
        yield
        if self.keeps(Rule.LANDING_WITNESS):
            self.require_landed(lake, binding, mark)

    def require_landed(self, lake: Lake, binding: Binding, mark: Mark) -> None:
        """Are the records before a mark still the log's, as far as they come from this epoch of it?"""
        before = [(binding.to_log(offset - 1), events.get(offset - 1)) for events, offset in zip(lake.events, mark, strict=True)]
        self.require_records(tuple((offset, event) if event and offset >= 0 else None for offset, event in before))

    def nightly(self) -> Steps:
        """Land, cut, recompute, verify, then publish or rebuild. It finishes a rebuild that another run has left, or takes it over."""
        yield from self.land()
        if (left := self.ledger.rebuilding) is not None and self.can_be_rebuilt(self.database.publications[left]):
            yield from self.rebuild(left)
        ledger, rules = replace(self.ledger, committed=dict(self.ledger.committed)), self.database.withdrawn
        cut = self.database.cube, self.database.names
        if ledger.rebuilding is None and ledger.rules != rules:
            raise Fenced  # the stream has to restart first
        yield
        if not reaches(joined(self.lake.mark, ledger.binding.origin), ledger.offsets):
            raise Fenced  # land first
        number = self.draft(ledger.offsets, rules)
        draft = self.database.publications[number]
        yield
        drift, misnamed = cut != (draft.cube, draft.names) or ledger.rebuilding is not None, False
        if self.keeps(Rule.COMPARE_PRODUCTS):
            for key in sorted({*draft.states, *self.database.documents}):
                document = self.database.documents.get(key)
                drift |= self.differs(document, draft.states.get(key), draft.mark, ledger)
                misnamed |= document is not None and self.is_named_otherwise(document, draft, ledger)
                yield
        if drift:
            yield from self.rebuild(number)
            return
        if not self.is_there(number, draft):
            raise Fenced  # dropped
        now = self.ledger
        if misnamed and (now.rebuilds, now.rebuilding) == (ledger.rebuilds, None):
            raise Broken(f"products are named otherwise than at {draft.mark}")
        as_cut = (now.served, now.rebuilds, now.rebuilding, now.rules) == (ledger.served, ledger.rebuilds, None, rules)
        if not as_cut and self.keeps(Rule.PUBLISH_THE_CUT):
            raise Fenced  # start again at cut
        self.ledger.served = number
        self.happened["publications"] += 1
        yield

    def draft(self, mark: Mark, rules: Rules, adopts: tuple[Binding, Witness] | None = None) -> int:
        """Recomputes everything below a mark from the raw history."""
        below = [
            {offset: event for offset, event in events.items() if offset < end} for events, end in zip(self.lake.events, mark, strict=True)
        ]
        states, names, layer = newest_states(below, rules), newest_names(below, rules), next(self.numbers)
        self.lake.layers.add(layer)
        serials = frozenset(event.serial for events in below for event in events.values())
        cube = Counter(state.cell for state in states.values())
        self.database.publications.append(Publication(mark, cube, states, names, rules, serials, layer, adopts))
        return len(self.database.publications) - 1

    def can_be_rebuilt(self, publication: Publication) -> bool:
        return publication.rules in (None, self.database.withdrawn) and publication.layer in {None, *self.lake.layers}

    def is_there(self, number: int, publication: Publication) -> bool:
        return number < len(self.database.publications) and self.database.publications[number] is publication

    def differs(self, document: Document | None, state: State | None, mark: Mark, ledger: Ledger) -> bool:
        """Is a document not what it should be at the mark? `ledger` was read before the document."""
        view = self.committed_view(document, ledger)
        if view is not None and view.version[2] >= mark[view.version[1]]:
            return False  # the stream has gone on
        if view != state:
            return True
        if document is None or ledger.holds(document.tag) or document.tag.generation >= ledger.generation:
            return False
        _, partition, offset = document.state.version
        return offset < mark[partition] and self.keeps(Rule.UNCOMMITTED_IS_DRIFT)

    def is_named_otherwise(self, document: Document, draft: Publication, ledger: Ledger) -> bool:
        """Has a document that the stream has not changed since another name than at the draft's mark?"""
        versions = [given.version for given in (document.state, document.name) if given]
        is_beyond = any(offset >= draft.mark[partition] for _, partition, offset in versions)
        return ledger.holds(document.tag) and not is_beyond and not document.is_named(draft.names.get(category_of(document.state)))

    def rebuild(self, number: int) -> Steps:
        """Brings everything to a publication: repair, rollback, adoption."""
        if number >= len(self.database.publications):
            raise Fenced  # dropped
        publication, served = self.database.publications[number], self.database.cube
        self.require_log(publication.adopts[0] if publication.adopts else self.ledger.binding, publication.mark)
        if not self.can_be_rebuilt(publication):
            raise Fenced  # made under other rules, or lost
        yield
        if not self.is_there(number, publication):
            raise Fenced  # dropped
        if publication.rules not in (None, self.database.withdrawn) and self.keeps(Rule.RULES_IN_BEGIN):
            raise Fenced
        if self.ledger.rebuilding not in (None, number) and not self.keeps(Rule.TAKE_OVER):
            raise Fenced
        self.take_generation()
        self.ledger.rebuilding = number
        tag = Tag(self.ledger.generation, 0)
        if self.keeps(Rule.REBUILD_READS_CELLS_LATE):
            served = self.database.cube
        changes = added(publication.cube, Counter({cell: -products for cell, products in served.items()}))
        yield
        for key in sorted({*self.database.documents, *publication.states}):
            read = self.database.documents.get(key)
            yield
            if read and read.tag.generation > tag.generation and self.keeps(Rule.REBUILD_FENCE):
                raise Fenced
            state = publication.states.get(key)
            document = state and Document(state, tag, None, publication.names.get(category_of(state)))
            self.put(key, read, document, Rule.REBUILD_COMPARE_AND_SET)
            yield
        ledger, database = self.ledger, self.database
        if (ledger.generation, ledger.rebuilding) != (tag.generation, number) and self.keeps(Rule.REBUILD_END_FENCE):
            raise Fenced
        if publication.layer not in {None, *self.lake.layers}:
            raise Fenced  # lost while it was read
        if publication.rules not in (None, database.withdrawn):
            raise Broken(f"publication {number} is rebuilt under rules that are not in force")
        ledger.served, ledger.offsets, database.cube = number, publication.mark, added(database.cube, changes)
        database.names, ledger.renaming = publication.names, frozenset()
        if publication.adopts:
            ledger.binding, ledger.witness = publication.adopts
        ledger.rebuilding = None
        ledger.rebuilds += 1
        if self.keeps(Rule.REBUILD_FORGETS):
            ledger.committed.clear()
        if self.keeps(Rule.REBUILD_COMMITS):
            ledger.committed[tag.generation] = tag.batch
        database.true_states, database.true_names = dict(publication.states), dict(publication.names)
        database.served = set(publication.serials)
        if publication.adopts:
            database.promised = set(publication.serials)
        self.happened["adoptions" if publication.adopts else "rebuilds"] += 1
        yield

    # people ---------------------------------------------------------------------------------------------------------------

    def withdraw(self, file: int) -> None:
        """Withdraws a file, or takes that back. Refused during a rebuild."""
        if self.ledger.rebuilding is None:
            self.database.withdrawn ^= {file}
            self.database.restarts += 1

    def adopt(self) -> Steps:
        """Goes on with the log and the raw history that there are: a rebuild to what the raw history holds."""
        lake, log, binding = self.lake, self.log, self.ledger.binding
        mark = joined(lake.mark, binding.origin)
        whole = not any(binding.origin) or (
            lake.identity == binding.lake and reaches(lake.mark, binding.landed) and self.is_intact_before(binding)
        )
        same = log.identity == binding.topic and lake.epoch <= binding.epoch and (whole or not self.keeps(Rule.LAKE_REACHES))
        agreed = tuple(self.agreed(lake, binding, partition) if same else log.starts[partition] for partition in range(PARTITIONS))
        continues = same and all(binding.to_log(end) == offset for end, offset in zip(mark, agreed, strict=True))
        if not continues:
            epoch = max(binding.epoch, lake.epoch) + self.keeps(Rule.NEW_EPOCH)
            mark = tuple(epoch * EPOCH + offset for offset in agreed)
            binding = Binding(epoch, log.identity, mark, landed=lake.mark)
        before = [(offset - 1, log.at(partition, offset - 1)) for partition, offset in enumerate(agreed)]
        witness = tuple((offset, event) if event else None for offset, event in before)
        yield
        if self.lake is not lake:
            raise Fenced
        number = self.draft(mark, self.database.withdrawn, (binding._replace(lake=lake.identity), witness))
        yield
        yield from self.rebuild(number)

    def is_intact_before(self, binding: Binding) -> bool:
        """Is what was read of the log before the origin, and what nothing can be compared with, still there?"""
        origin = [binding.to_log(offset) for offset in binding.origin]
        try:
            self.require_records(
                tuple(read if read and read[0] < start else None for read, start in zip(self.ledger.witness, origin, strict=True))
            )
        except Refused:
            return False
        return True

    def agreed(self, lake: Lake, binding: Binding, partition: int) -> int:
        """The log's first offset, from what it still has and from the origin on, whose event the raw history lacks or has otherwise."""
        start = max(self.log.starts[partition], binding.to_log(binding.origin[partition]))
        events = self.log.events[partition]
        return next(
            (offset for offset in range(start, len(events)) if lake.events[partition].get(binding.of_log(offset)) != events[offset]),
            max(start, len(events)),
        )

    # disasters ------------------------------------------------------------------------------------------------------------

    def lose_tail(self) -> None:
        """The broker loses what it has not flushed."""
        partition = self.random.randrange(PARTITIONS)
        events = self.log.events[partition]
        del events[max(self.log.starts[partition], len(events) - self.random.randint(1, 6)) :]
        self.log.leader_epoch += 1

    def replace_log(self) -> None:
        """The topic is lost, and made anew."""
        self.log = Log(identity=self.log.identity + 1, leader_epoch=self.log.leader_epoch + 1)

    def remove_old(self) -> None:
        """Retention removes the oldest events, whoever has read them or not."""
        partition = self.random.randrange(PARTITIONS)
        self.log.starts[partition] = self.random.randint(self.log.starts[partition], len(self.log.events[partition]))

    def lose_lake(self) -> None:
        self.lake = Lake(identity=next(self.numbers))

    def replace_lake(self, saved: Lake) -> None:
        """An older copy of the raw history."""
        self.lake = deepcopy(saved)

    def restore(self, saved: Database) -> None:
        """A database from a backup, beside a log and a raw history that have gone on."""
        self.database = deepcopy(saved)
        ledger, documents = self.ledger, self.database.documents
        if self.keeps(Rule.RESTORED_GENERATION):
            ledger.generation = self.highest_generation
        self.take_generation()
        if self.keeps(Rule.RESTORED_TAGS):
            for key, document in documents.items():
                tag = Tag(ledger.generation, 0 if ledger.holds(document.tag) else 1)
                documents[key] = document._replace(tag=tag, before=None if ledger.has_forgotten(document.tag) else document.before)
            ledger.committed = {ledger.generation: 0}


def newest_states(batch: Batch, rules: Rules) -> dict[int, State]:
    """The highest version of each key, without the events of withdrawn files."""
    states: dict[int, State] = {}
    for partition, events in enumerate(batch):
        for offset, event in events.items():
            if isinstance(event, Event) and event.file not in rules:
                state = State((event.observed_at, partition, offset), event.cell)
                states[event.key] = max(state, states.get(event.key, state))
    return states


def newest_names(batch: Batch, rules: Rules) -> dict[int, Name]:
    """The highest version of each category's name, without the events of withdrawn files."""
    names: dict[int, Name] = {}
    for partition, events in enumerate(batch):
        for offset, event in events.items():
            if isinstance(event, NameEvent) and event.file not in rules:
                name = Name((event.registered_at, partition, offset), event.name)
                names[event.category] = max(name, names.get(event.category, name))
    return names


def category_of(state: State) -> int:
    return state.cell % CATEGORIES


def joined(one: Mark, other: Mark) -> Mark:
    return tuple(map(max, one, other))


def reaches(one: Mark, other: Mark) -> bool:
    return all(end >= offset for end, offset in zip(one, other, strict=True))


def added(a: Counter[int], b: Counter[int]) -> Counter[int]:
    """The sum of two cubes; a cell of 0 is no cell."""
    total = Counter(a)
    for cell, products in b.items():
        total[cell] += products
    return Counter({cell: products for cell, products in total.items() if products})
