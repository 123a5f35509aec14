"""Publications: batch cubes, each at one tide mark, and which of them is served.

A draft is cut from the ledger and the served cube of one moment, recomputed, verified, and then published: where both are the same the
draft becomes the served publication, and no number that is shown changes. No number of a publication is used twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from bson.int64 import Int64
from pymongo import ReplaceOne, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

from tidemark.catalog.cube import Cell
from tidemark.catalog.marks import TideMark
from tidemark.serving import cells as served_cells
from tidemark.serving import ledger, offsets
from tidemark.serving.cells import Cells, Sums, in_slices
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.ledger import LEDGER
from tidemark.serving.snapshot import snapshot

SERVED = "served"
NIGHT = "night"


class NoPublication(LookupError):
    """There is no such publication, or it has not come as far as is asked for."""


class StartAgain(Exception):
    """What a draft was cut from is not so any more: it cannot be published, and a new run can."""


class OtherRules(Exception):
    """The rules that the stream, the batch or a publication goes by are not the same."""


class Cut(NamedTuple):
    """What a draft was cut from: the served publication, and how many rebuilds there had been."""

    served: int
    rebuilds: int


@dataclass(frozen=True)
class Publication:
    """A publication or draft. `layers` of the state table hold its states; they are None until it has been recomputed.

    `rules` is a fingerprint, None of number 0, the empty cube at the log's beginning. `since_full` counts the publications since the
    one that was last recomputed from the raw history.
    """

    number: int
    mark: TideMark
    rules: str | None
    cut: Cut | None
    layers: tuple[int, ...] | None
    since_full: int
    published_at: datetime | None
    newest_event: datetime | None
    newest_observation: datetime | None

    def states(self) -> tuple[int, ...]:
        """The layers; NoPublication where they are not there yet."""
        if self.layers is None:
            raise NoPublication(f"publication {self.number} has been cut but not recomputed: run `recompute {self.number}` first")
        return self.layers


@dataclass(frozen=True)
class Result:
    """What a recomputation has found, all below the draft's mark. Sums in the order of catalog.cube's measures."""

    cells: Cells
    layers: Sequence[int]
    since_full: int
    newest_event: datetime | None = None
    newest_observation: datetime | None = field(default=None)


def read(database: Database[Document], number: int) -> Publication:
    """Raises NoPublication."""
    found = database.publication.find_one({"_id": number})
    if found is None:
        raise NoPublication(
            f"there is no publication {number}, or it has been dropped: a run that needs it starts again at cut; "
            "`python -m tidemark.spark.batch publications` lists those there are"
        )
    return _publication(found)


def listing(database: Database[Document]) -> list[Publication]:
    """Publications and drafts, the newest first."""
    return [_publication(one) for one in database.publication.find().sort("_id", -1)]


def served(database: Database[Document]) -> int:
    """The number of the served publication."""
    found = database.state.find_one({"_id": SERVED})
    if found is None:
        raise ledger.NotPrepared(f"database {database.name} has no served publication: run `python -m tidemark.serving.schema` first")
    return int(found["publication"])


def cut(database: Database[Document], rules: str) -> Publication:
    """A new draft: its mark is the ledger's offsets, and with them goes the served cube of the same moment.

    Raises Fenced while a rebuild is under way, OtherRules where the stream does not go by the rules of that fingerprint.
    """
    with snapshot(database) as now:
        state = {one["_id"]: one for one in now.rows("state", {"$match": {"_id": {"$in": [LEDGER, SERVED]}}})}
        found = served_cells.read(now)
    if LEDGER not in state or SERVED not in state:
        raise ledger.NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema` first")
    own = ledger.from_document(state[LEDGER])
    own.require_no_rebuild()
    require_rules(own, rules)
    number = _next(database, "publications")
    document = {
        "_id": number,
        "mark": offsets.to_documents(own.offsets),
        "rules": rules,
        "cut": {"served": state[SERVED]["publication"], "rebuilds": own.rebuilds},
        "layers": None,
        "since_full": 0,
        "published_at": None,
        "newest_event": None,
        "newest_observation": None,
    }
    documents = [_cell_document(number, cell, sums) for cell, sums in found.items()]

    def transaction(session: ClientSession) -> None:
        database.publication.insert_one(document, session=session)
        for some in in_slices(documents):
            database.cut_cell.insert_many(some, ordered=False, session=session)

    in_transaction(database, transaction)
    return _publication(document)


def require_rules(own: ledger.Ledger, rules: str) -> None:
    """Raises OtherRules where the stream that started last does not go by the rules of that fingerprint."""
    if own.rules is None:
        raise OtherRules("no stream has started on this database yet: start it (make start)")
    if own.rules != rules:
        raise OtherRules(f"the stream goes by rules {own.rules}, the batch by {rules}: restart the stream with the new rules")


def complete(database: Database[Document], number: int, result: Result) -> None:
    """Stores what a draft's recomputation has found. Attempts find the same, so that it may be stored more than once."""
    for some in in_slices([_cell_document(number, cell, sums) for cell, sums in result.cells.items()]):
        database.publication_cell.bulk_write([ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in some], ordered=False)
    found = {
        "layers": list(result.layers),
        "since_full": result.since_full,
        "newest_event": result.newest_event,
        "newest_observation": result.newest_observation,
    }
    # The first to say so is who counts: whatever follows on the draft has been made of that.
    database.publication.update_one({"_id": number, "layers": None}, {"$set": found})


def cells(database: Database[Document], number: int) -> dict[Cell, Sums]:
    """The cube of a publication."""
    return _cells(database.publication_cell, number)


def cut_cells(database: Database[Document], number: int) -> dict[Cell, Sums]:
    """The served cube at the moment at which a draft was cut."""
    return _cells(database.cut_cell, number)


def publish(database: Database[Document], number: int, rules: str) -> bool:
    """Serves a draft in which no drift was found.

    False where nothing is done: it has been published before, or holds no event more than the served one, which then stays.
    Raises StartAgain where another publication has been served or rebuilt since the cut, OtherRules, NoPublication.
    """
    draft = read(database, number)
    if draft.published_at is not None or draft.cut is None:
        return False
    draft.states()
    if draft.rules != rules:
        raise StartAgain(f"publication {number} was cut under rules {draft.rules}, in force are {rules}: start again at cut")
    former = read(database, draft.cut.served)
    if not draft.mark.reaches(former.mark):
        raise StartAgain(f"publication {number} at {draft.mark} lies before the served one, {former.number} at {former.mark}")
    if draft.mark == former.mark and draft.rules == former.rules and draft.since_full:
        return False
    expected = {"_id": LEDGER, "rebuilding": None, "rebuilds": draft.cut.rebuilds, "rules": rules}

    def transaction(session: ClientSession) -> None:
        # The ledger first: a micro-batch that commits at the same time is in the way at once, not after all cells.
        if not database.state.update_one(expected, {"$set": {"published": number}}, session=session).matched_count:
            _explain(database, session, draft, rules)
        flip = database.state.update_one({"_id": SERVED, "publication": former.number}, {"$set": {"publication": number}}, session=session)
        if not flip.matched_count:
            _explain(database, session, draft, rules)
        served_cells.remove_empty(database, session)
        stamp_published(database, session, number)

    in_transaction(database, transaction)
    return True


def stamp_published(database: Database[Document], session: ClientSession, number: int) -> None:
    """The moment of a publication's first publishing, by MongoDB's clock. Raises NoPublication where it has been dropped."""
    stamp = [{"$set": {"published_at": {"$ifNull": ["$published_at", "$$NOW"]}}}]
    if not database.publication.update_one({"_id": number}, stamp, session=session).matched_count:
        raise NoPublication(f"publication {number} has been dropped: start again at cut")


def end_night(database: Database[Document], number: int) -> None:
    """Writes down that a night has come to its end with this draft, by MongoDB's clock: published, or of nothing new. Once."""
    is_newer = {"$gt": [number, {"$ifNull": ["$publication", -1]}]}
    ended = {"publication": {"$cond": [is_newer, number, "$publication"]}, "at": {"$cond": [is_newer, "$$NOW", "$at"]}}
    database.state.update_one({"_id": NIGHT}, [{"$set": ended}], upsert=True)


def next_layer(database: Database[Document]) -> int:
    """The number of a layer of the state table, which nobody else has or will have."""
    return _next(database, "layers")


def prune(database: Database[Document], keep: int, keep_drafts: int | None = None) -> list[int]:
    """Drops all but the newest published ones, as many as that, and what is needed. Returns the numbers of those dropped.

    Needed are the served publication, one that is being rebuilt, number 0, and drafts newer than all that are published: the newest of
    them, where it is said how many, else all.
    """

    def transaction(session: ClientSession) -> list[int]:
        state = {one["_id"]: one for one in database.state.find({"_id": {"$in": [LEDGER, SERVED]}}, session=session)}
        found = list(database.publication.find({}, {"published_at": True}, session=session).sort("_id", -1))
        published = [one["_id"] for one in found if one["published_at"] is not None]
        needed = {0, state[SERVED]["publication"], state[LEDGER]["rebuilding"], *published[:keep]}
        drafts = [one["_id"] for one in found if one["_id"] > max(published, default=0)]
        gone = [one["_id"] for one in found if one["_id"] not in {*needed, *drafts[:keep_drafts]}]
        if gone:
            database.publication.delete_many({"_id": {"$in": gone}}, session=session)
        return gone

    gone = in_transaction(database, transaction)
    there = {one["_id"] for one in database.publication.find({}, {"_id": True})}
    for collection in (database.publication_cell, database.cut_cell):
        # Also what an earlier attempt has dropped, whose cells it has left.
        if orphans := [number for number in collection.distinct("publication") if number not in there]:
            collection.delete_many({"publication": {"$in": orphans}})
    return gone


def _next(database: Database[Document], counter: str) -> int:
    counted = database.state.find_one_and_update(
        {"_id": counter}, {"$inc": {"last": Int64(1)}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    assert counted is not None
    return int(counted["last"])


def _explain(database: Database[Document], session: ClientSession, draft: Publication, rules: str) -> None:
    """Raises what keeps a draft from being published."""
    own = ledger.from_document(database.state.find_one({"_id": LEDGER}, session=session) or {})
    own.require_no_rebuild()
    require_rules(own, rules)
    now = (database.state.find_one({"_id": SERVED}, session=session) or {}).get("publication")
    raise StartAgain(
        f"publication {draft.number} was cut from publication {draft.cut and draft.cut.served}, served is {now}"
        + (", rebuilt since" if draft.cut and own.rebuilds != draft.cut.rebuilds else "")
        + ": nothing has been changed; start again at cut"
    )


def _publication(document: Document) -> Publication:
    of_cut = document.get("cut")
    layers = document.get("layers", [] if document["_id"] == 0 else None)
    return Publication(
        number=document["_id"],
        mark=offsets.from_documents(document["mark"]),
        rules=document["rules"],
        cut=of_cut and Cut(of_cut["served"], of_cut["rebuilds"]),
        layers=None if layers is None else tuple(layers),
        since_full=document.get("since_full", 0),
        published_at=document["published_at"],
        newest_event=document.get("newest_event"),
        newest_observation=document.get("newest_observation"),
    )


def _cells(collection: Collection[Document], number: int) -> dict[Cell, Sums]:
    return {served_cells.of(one["cell"]): served_cells.sums_of(one) for one in collection.find({"publication": number})}


def _cell_document(number: int, cell: Cell, sums: Iterable[int]) -> Document:
    key = served_cells.key(cell)
    return {"_id": {"publication": number, "cell": key}, "publication": number, "cell": key, **served_cells.measures(sums)}
