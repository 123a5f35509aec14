"""The ledger: the single source of truth about the stream's progress. One document, updated only together with the cells it accounts for.

Each start of the stream takes a new generation. It is a fencing token: every write here is filtered by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, cast
from uuid import uuid4

from pymongo import ReplaceOne, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.marks import TideMark
from tidemark.catalog.versions import CategoryVersion
from tidemark.serving import bindings, cells, layout, offsets
from tidemark.serving.bindings import Binding, Witness
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.documents import LedgerDocument

LEDGER = "ledger"


class Fenced(Exception):
    """A higher generation or a rebuild is at work: the process must stop, and may start again as a new generation."""


class NotPrepared(LookupError):
    """The database has not been prepared by tidemark.serving.schema."""


class Tag(NamedTuple):
    """The writer of a product document: a generation and the number of its micro-batch. Effective once the ledger has committed it."""

    generation: int
    batch: int


class Category(NamedTuple):
    """A category's name, and the version of the event that gives it."""

    name: str
    version: CategoryVersion


@dataclass(frozen=True)
class Ledger:
    """The ledger as read at one moment.

    `committed` gives the number of the newest committed micro-batch by generation. `identity` is that of the database, by which a raw
    history knows whose it is. `binding` is what the offsets refer to, `witness` what was served last of it. `rebuilding` is the publication
    being rebuilt, `rebuilds` the number of finished rebuilds, `rules` the fingerprint used by the most recently started stream. `renaming`
    are the categories of products that micro-batches have renamed without being committed.
    """

    generation: int
    offsets: TideMark
    committed: Mapping[int, int]
    identity: str = ""
    binding: Binding = field(default_factory=Binding)
    witness: Witness = field(default_factory=dict)
    rebuilding: int | None = None
    rebuilds: int = 0
    rules: str | None = None
    renaming: frozenset[int] = frozenset()

    def holds(self, tag: Tag) -> bool:
        """Is the micro-batch of this tag committed?"""
        return tag.batch <= self.committed.get(tag.generation, -1)

    def has_forgotten(self, tag: Tag) -> bool:
        """Is the tag older than the last rebuild, which forgets all commits before it?

        A rebuild leaves no document with such a tag. A document that has one was inserted later, by a stray task of a stream that no longer
        exists, and not even its `before` counts.
        """
        return tag.generation < self._first

    @cached_property
    def _first(self) -> int:
        return min(self.committed, default=0)

    def require_no_rebuild(self) -> None:
        """Raises Fenced while a rebuild is under way."""
        if self.rebuilding is not None:
            raise Fenced(f"publication {self.rebuilding} is being rebuilt: the stream cannot run until the rebuild is finished")


@dataclass(frozen=True)
class MicroBatch:
    """The changes of one micro-batch, which are committed atomically. Cell differences are measures in the order of catalog.cube; times
    are in UTC. `witness` is that of the whole epoch.
    """

    number: int
    offsets: TideMark
    differences: Cells
    categories: Mapping[int, Category] = field(default_factory=dict)
    newest_event: datetime | None = None
    newest_observation: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    witness: Witness = field(default_factory=dict)


def read(database: Database[Document], session: ClientSession | None = None) -> Ledger:
    """The ledger. Raises NotPrepared if there is none, OtherLayout if another version of Tidemark has written it."""
    return from_document(_document(database, session))


def epoch(database: Database[Document]) -> int:
    """The epoch of the ledger's offsets; 0 without a ledger."""
    found = database.state.find_one({"_id": LEDGER}, {"log.epoch": True})
    return 0 if found is None else int(found["log"]["epoch"])


def events_below(database: Database[Document], mark: TideMark) -> int:
    """About how many events lie below a mark. Offsets without events count, too."""
    return read(database).binding.events_below(mark)


def _document(database: Database[Document], session: ClientSession | None = None) -> Document:
    document = database.state.find_one({"_id": LEDGER}, session=session)
    if document is None:
        raise NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
    return document


def reached(mark: TideMark) -> Document:
    """A query on collection `state` that matches the ledger once the stream has served everything below the mark."""
    ends = [{"$elemMatch": {"topic": key.topic, "partition": key.partition, "offset": {"$gte": int(end)}}} for key, end in mark.items()]
    return {"_id": LEDGER, **({"offsets": {"$all": ends}} if ends else {})}


def start_generation(database: Database[Document], rules: str, topics: Mapping[str, str], expected: Ledger | None = None) -> Ledger:
    """Takes the next generation, for a stream with these rules and topics (ids by name).

    `expected` is the ledger as it was before the rules were read: whatever else has changed since then, another start or a restored
    database, has another generation. Raises TopicsRecreated if a topic's id is not the one that the ledger's offsets refer to, Fenced while
    a rebuild is in progress or if the generation is another one.
    """
    before = expected or read(database)
    before.require_no_rebuild()
    before.binding.require_topics(topics)
    same = {"generation": before.generation} if expected else {}
    document = database.state.find_one_and_update(
        {"_id": LEDGER, "rebuilding": None, "log.topics": before.binding.topics, **same},
        [
            {
                "$set": {
                    "generation": {"$add": ["$generation", 1]},
                    "rules": rules,
                    "log.topics": {"$literal": {**before.binding.topics, **topics}},
                    "started_at": "$$NOW",
                    "heartbeat": "$$NOW",
                }
            }
        ],
        return_document=ReturnDocument.AFTER,
    )
    if document is None:
        raise Fenced("another stream or a rebuild has started at the same time")
    return from_document(document)


def restart_after_restore(database: Database[Document], session: ClientSession, generation: int, *, same_identity: bool) -> None:
    """Continues a restored ledger at this generation, whose micro-batch 0 counts as committed."""
    restored: Document = {"generation": generation, "committed": {str(generation): 0}}
    if not same_identity:
        restored["identity"] = new_identity()
    database.state.update_one({"_id": LEDGER}, {"$set": restored}, session=session)


def new_identity() -> str:
    return uuid4().hex


def heartbeat(database: Database[Document], generation: int, session: ClientSession | None = None) -> None:
    """Records that the stream of this generation is alive. Raises Fenced if it has been superseded."""
    _update(database, generation, {"$currentDate": {"heartbeat": True}}, session)


def record_renames(database: Database[Document], session: ClientSession, generation: int, categories: Iterable[int], products: int) -> None:
    """Records that so many products of these categories are renamed in this transaction, until a commit or a rebuild clears the record.

    `products` is at least 1, so that this is a write in any case, with which starts and rebuilds conflict. Raises Fenced if the generation
    has been superseded.
    """
    recorded = {"$addToSet": {"renaming.categories": {"$each": sorted(categories)}}, "$inc": {"renaming.products": products}}
    _update(database, generation, recorded, session)


def commit(database: Database[Document], generation: int, batch: MicroBatch) -> None:
    """Adds a micro-batch's differences, applies its categories and advances the offsets, in one transaction.

    Raises Fenced if the generation is no longer the ledger's. Idempotent: repeating a successful commit changes nothing.
    """

    def transaction(session: ClientSession) -> None:
        before = {**_of(generation), f"committed.{generation}": _number_before(batch.number)}
        newest = {"newest_event": batch.newest_event, "newest_observation": batch.newest_observation}
        update: dict[str, Any] = {
            "$set": {
                f"committed.{generation}": batch.number,
                "offsets": offsets.to_documents(batch.offsets),
                "witness": bindings.witness_documents(batch.witness),
                "progress": dict(batch.progress),
            },
            "$currentDate": {"heartbeat": True, "committed_at": True},
            "$max": {name: moment for name, moment in newest.items() if moment is not None},
            "$unset": {"renaming": True},
        }
        moved = database.state.update_one(before, {key: value for key, value in update.items() if value}, session=session)
        if not moved.matched_count:
            now = database.state.find_one({"_id": LEDGER}, session=session) or {}
            if now.get("committed", {}).get(str(generation), -1) >= batch.number:
                return
            raise Fenced(
                f"generation {generation} cannot commit micro-batch {batch.number}: the ledger is at generation {now.get('generation')}"
                + (f", rebuilding publication {now['rebuilding']}" if now.get("rebuilding") is not None else "")
            )
        if categories := [
            ReplaceOne({"_id": number}, category_document(number, category), upsert=True) for number, category in batch.categories.items()
        ]:
            database.category.bulk_write(categories, ordered=False, session=session)
            cells.rename(database, session, {number: category.name for number, category in batch.categories.items()})
        cells.add(database, session, batch.differences)

    in_transaction(database, transaction)


def from_document(document: Document) -> Ledger:
    """Raises OtherLayout."""
    layout.require(layout.layout_of(document), "the database")
    found = cast(LedgerDocument, document)
    return Ledger(
        generation=found["generation"],
        offsets=offsets.from_documents(found["offsets"]),
        committed={int(generation): number for generation, number in found["committed"].items()},
        identity=found["identity"],
        binding=bindings.binding_of(found["log"]),
        witness=bindings.witness_of(found["witness"]),
        rebuilding=found["rebuilding"],
        rebuilds=found["rebuilds"],
        rules=found["rules"],
        renaming=frozenset(found["renaming"]["categories"] if "renaming" in found else ()),
    )


def _update(database: Database[Document], generation: int, update: Mapping[str, Any], session: ClientSession | None = None) -> None:
    """Updates the ledger. Raises Fenced if the generation has been superseded."""
    if not database.state.update_one(_of(generation), update, session=session).matched_count:
        raise Fenced(f"generation {generation} has been superseded by a newer generation or a rebuild")


def _of(generation: int) -> Document:
    """A query that matches the ledger while this generation may write."""
    return {"_id": LEDGER, "generation": generation, "rebuilding": None}


def _number_before(number: int) -> int | None:
    """The number committed before this one. None, which matches a missing field in MongoDB, before the first."""
    return number - 1 if number else None


def category_document(number: int, category: Category) -> Document:
    return {"_id": number, "category_name": category.name, "_tide": {"version": category.version._asdict()}}
