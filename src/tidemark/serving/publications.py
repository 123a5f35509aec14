"""Publications: batch cubes, each at one tide mark, of which one is served.

A draft is cut from the ledger and the served cube of one moment, recomputed, verified and published. If both cubes are equal, the draft
becomes the served publication and no reported value changes. Publication numbers are never reused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, cast

from bson.int64 import Int64
from pymongo import ReplaceOne, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

from tidemark.catalog.cube import Cell
from tidemark.catalog.marks import TideMark
from tidemark.serving import bindings, ledger, offsets
from tidemark.serving import cells as served_cells
from tidemark.serving.bindings import Adoption
from tidemark.serving.cells import Cells, Sums, in_slices
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.documents import PublicationDocument, ServedDocument
from tidemark.serving.ledger import LEDGER
from tidemark.serving.snapshot import snapshot

SERVED = "served"
NIGHT = "night"
_COUNTER = "publications"


class NoPublication(LookupError):
    """The publication does not exist, or has not reached the required step."""


class StaleDraft(Exception):
    """The state that a draft was cut from has changed: this draft cannot be published, a new one can."""


class OtherRules(Exception):
    """The stream, the batch or a publication use different rules."""


class Cut(NamedTuple):
    """What a draft was cut from: the served publication, the number of rebuilds finished by then, and the interrupted rebuild that the
    draft will take over, if any.
    """

    served: int
    rebuilds: int
    rebuilding: int | None = None


@dataclass(frozen=True)
class Publication:
    """A publication or draft. `layers` of the state table hold its states; None until it has been recomputed.

    `rules` is a fingerprint; None for publication 0, the empty cube at the beginning of the log. `since_full` counts the publications
    since the last one that was recomputed from the raw history. A draft with an `adoption` changes what the ledger's offsets refer to.
    """

    number: int
    mark: TideMark
    rules: str | None
    cut: Cut | None
    layers: tuple[str, ...] | None
    since_full: int
    published_at: datetime | None
    newest_event: datetime | None
    newest_observation: datetime | None
    adoption: Adoption | None = None

    def states(self) -> tuple[str, ...]:
        """The layers. Raises NoPublication if it has not been recomputed yet."""
        if self.layers is None:
            raise NoPublication(f"publication {self.number} has been cut but not recomputed: run `recompute {self.number}` first")
        return self.layers


@dataclass(frozen=True)
class Result:
    """The result of a recomputation of everything below the draft's mark. Sums are in the order of the measures of catalog.cube."""

    cells: Cells
    layers: Sequence[str]
    since_full: int
    newest_event: datetime | None = None
    newest_observation: datetime | None = field(default=None)


def read(database: Database[Document], number: int) -> Publication:
    """Raises NoPublication."""
    found = _documents(database).find_one({"_id": number})
    if found is None:
        raise NoPublication(
            f"publication {number} does not exist, or has been dropped: start the run again at cut, or choose another publication "
            "(`python -m tidemark.spark.batch publications` lists them)"
        )
    return _publication(found)


def listing(database: Database[Document]) -> list[Publication]:
    """Publications and drafts, the newest first."""
    return [_publication(one) for one in _documents(database).find().sort("_id", -1)]


def served(database: Database[Document]) -> int:
    """The number of the served publication."""
    found = database.state.find_one({"_id": SERVED})
    if found is None:
        raise ledger.NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
    return int(cast(ServedDocument, found)["publication"])


def cut(database: Database[Document], rules: str, *, take_over: bool = False) -> Publication:
    """Creates a draft. Its mark is the ledger's offsets; the served cube of the same moment is stored with it.

    Raises Fenced while a rebuild is in progress, OtherRules if the stream does not use the rules of that fingerprint. With `take_over` the
    draft is for a rebuild that takes over the interrupted one; no stream runs meanwhile.
    """
    with snapshot(database) as now:
        state = {one["_id"]: one for one in now.rows("state", {"$match": {"_id": {"$in": [LEDGER, SERVED]}}})}
        found = served_cells.read(now)
    if LEDGER not in state or SERVED not in state:
        raise ledger.NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
    own = ledger.from_document(state[LEDGER])
    if not (take_over and own.rebuilding is not None):
        own.require_no_rebuild()
        require_rules(own, rules)
    of = Cut(cast(ServedDocument, state[SERVED])["publication"], own.rebuilds, own.rebuilding)
    document = _draft(_next(database), own.offsets, rules, of, len(found))
    documents = [_cell_document(document["_id"], cell, sums) for cell, sums in found.items()]

    _documents(database).insert_one(document)
    for some in in_slices(documents):
        database.cut_cell.insert_many(some, ordered=False)
    return _publication(document)


def draft_at(database: Database[Document], mark: TideMark, rules: str, adoption: Adoption | None = None) -> Publication:
    """Creates a draft at a mark of the raw history, whatever is served. Only a rebuild can serve it, which then adopts the log, if any."""
    document = _draft(_next(database), mark, rules, None)
    if adoption:
        document["adoption"] = bindings.adoption_document(adoption)
    _documents(database).insert_one(document)
    return _publication(document)


def _draft(number: int, mark: TideMark, rules: str, of: Cut | None, cells: int = 0) -> PublicationDocument:
    return {
        "_id": number,
        "mark": offsets.to_documents(mark),
        "rules": rules,
        "cut": of and {"served": of.served, "rebuilds": of.rebuilds, "rebuilding": of.rebuilding, "cells": cells},
        "layers": None,
        "since_full": 0,
        "published_at": None,
        "newest_event": None,
        "newest_observation": None,
    }


def require_rules(own: ledger.Ledger, rules: str) -> None:
    """Raises OtherRules unless the most recently started stream uses the rules of that fingerprint."""
    if own.rules is None:
        raise OtherRules("no stream has ever started on this database: start it (make start)")
    if own.rules != rules:
        raise OtherRules(f"the stream uses rules {own.rules}, the batch uses rules {rules}: restart the stream (make restart)")


def complete(database: Database[Document], number: int, result: Result) -> None:
    """Stores the result of a draft's recomputation. Idempotent: all attempts compute the same result."""
    for some in in_slices([_cell_document(number, cell, sums) for cell, sums in result.cells.items()]):
        database.publication_cell.bulk_write([ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in some], ordered=False)
    found = {
        "layers": list(result.layers),
        "since_full": result.since_full,
        "newest_event": result.newest_event,
        "newest_observation": result.newest_observation,
    }
    # The first attempt to get here wins: everything later is derived from its layers.
    database.publication.update_one({"_id": number, "layers": None}, {"$set": found})


def cells(database: Database[Document], number: int) -> dict[Cell, Sums]:
    """The cube of a publication."""
    return _cells(database.publication_cell, number)


def cut_cells(database: Database[Document], number: int) -> dict[Cell, Sums]:
    """The served cube at the moment when a draft was cut. Raises StaleDraft if the cut was interrupted."""
    found, document = _cells(database.cut_cell, number), _documents(database).find_one({"_id": number})
    of_cut = document and document.get("cut")
    if of_cut and len(found) != of_cut.get("cells", len(found)):
        raise StaleDraft(f"the cut of publication {number} was interrupted: start again at cut")
    return found


def publish(database: Database[Document], number: int, rules: str) -> bool:
    """Serves a draft in which no drift was found.

    Returns False if nothing is done: it was published before, or has no event that the served publication lacks; the latter then stays.
    Raises StaleDraft if another publication has been served or rebuilt since the cut, OtherRules, NoPublication.
    """
    draft = read(database, number)
    if draft.published_at is not None or draft.cut is None:
        return False
    draft.states()
    if draft.rules != rules:
        raise StaleDraft(f"publication {number} was cut under rules {draft.rules}, but rules {rules} are in force: start again at cut")
    former = read(database, draft.cut.served)
    if not draft.mark.reaches(former.mark):
        raise StaleDraft(
            f"publication {number} at {draft.mark} is behind the served publication {former.number} at {former.mark}: start again at cut"
        )
    if draft.mark == former.mark and draft.rules == former.rules and draft.since_full:
        return False
    expected = {"_id": LEDGER, "rebuilding": None, "rebuilds": draft.cut.rebuilds, "rules": rules}

    def transaction(session: ClientSession) -> None:
        # The ledger first, so that a concurrent commit of a micro-batch conflicts at once, not after all cells.
        if not database.state.update_one(expected, {"$set": {"published": number}}, session=session).matched_count:
            _explain(database, session, draft, rules)
        flip = database.state.update_one({"_id": SERVED, "publication": former.number}, {"$set": {"publication": number}}, session=session)
        if not flip.matched_count:
            _explain(database, session, draft, rules)
        stamp_published(database, session, number)

    in_transaction(database, transaction)
    served_cells.remove_empty(database)
    return True


def stamp_published(database: Database[Document], session: ClientSession, number: int) -> None:
    """Records when a publication was first published, by MongoDB's clock. Raises NoPublication if it has been dropped."""
    stamp = [{"$set": {"published_at": {"$ifNull": ["$published_at", "$$NOW"]}}}]
    if not database.publication.update_one({"_id": number}, stamp, session=session).matched_count:
        raise NoPublication(f"publication {number} has been dropped: start again at cut")


def end_night(database: Database[Document], number: int) -> None:
    """Records, once and by MongoDB's clock, that a nightly batch has finished with this draft, whether published or without new events."""
    is_newer = {"$gt": [number, {"$ifNull": ["$publication", -1]}]}
    ended = {"publication": {"$cond": [is_newer, number, "$publication"]}, "at": {"$cond": [is_newer, "$$NOW", "$at"]}}
    database.state.update_one({"_id": NIGHT}, [{"$set": ended}], upsert=True)


def prune(database: Database[Document], keep: int, keep_drafts: int | None = None) -> list[int]:
    """Drops all publications except the newest `keep` published ones and those that are needed. Returns the dropped numbers.

    Needed are the served publication, one that is being rebuilt, number 0, and the drafts newer than all published ones: the newest
    `keep_drafts` of them, or all.
    """

    def transaction(session: ClientSession) -> list[int]:
        state = {one["_id"]: one for one in database.state.find({"_id": {"$in": [LEDGER, SERVED]}}, session=session)}
        found = list(_documents(database).find({}, {"published_at": True}, session=session).sort("_id", -1))
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
        # Includes publications dropped by an earlier attempt that left their cells.
        if orphans := [number for number in collection.distinct("publication") if number not in there]:
            collection.delete_many({"publication": {"$in": orphans}})
    return gone


def skip_numbers(database: Database[Document], session: ClientSession, count: int) -> None:
    """Leaves out the next numbers."""
    database.state.update_one({"_id": _COUNTER}, {"$inc": {"last": Int64(count)}}, upsert=True, session=session)


def _next(database: Database[Document]) -> int:
    counted = database.state.find_one_and_update(
        {"_id": _COUNTER}, {"$inc": {"last": Int64(1)}}, upsert=True, return_document=ReturnDocument.AFTER
    )
    assert counted is not None
    return int(counted["last"])


def _explain(database: Database[Document], session: ClientSession, draft: Publication, rules: str) -> None:
    """Raises the error that explains why a draft cannot be published."""
    own = ledger.from_document(database.state.find_one({"_id": LEDGER}, session=session) or {})
    own.require_no_rebuild()
    require_rules(own, rules)
    now = (database.state.find_one({"_id": SERVED}, session=session) or {}).get("publication")
    raise StaleDraft(
        f"publication {draft.number} was cut from publication {draft.cut and draft.cut.served}, now publication {now} is served"
        + (" after a rebuild" if draft.cut and own.rebuilds != draft.cut.rebuilds else "")
        + ": nothing has been changed; start again at cut"
    )


def _documents(database: Database[Document]) -> Collection[PublicationDocument]:
    """Collection `publication`, with the type of its documents."""
    return cast(Collection[PublicationDocument], database.publication)


def _publication(document: PublicationDocument) -> Publication:
    of_cut = document.get("cut")
    layers = document.get("layers", [] if document["_id"] == 0 else None)
    return Publication(
        number=document["_id"],
        mark=offsets.from_documents(document["mark"]),
        rules=document["rules"],
        cut=of_cut and Cut(of_cut["served"], of_cut["rebuilds"], of_cut["rebuilding"]),
        layers=None if layers is None else tuple(layers),
        since_full=document.get("since_full", 0),
        published_at=document["published_at"],
        newest_event=document.get("newest_event"),
        newest_observation=document.get("newest_observation"),
        adoption=_adoption(document),
    )


def _adoption(document: PublicationDocument) -> Adoption | None:
    """None once it is served: then it is a publication like others."""
    return bindings.adoption_of(document["adoption"]) if "adoption" in document and document["published_at"] is None else None


def _cells(collection: Collection[Document], number: int) -> dict[Cell, Sums]:
    return {served_cells.of(one["cell"]): served_cells.sums_of(one) for one in collection.find({"publication": number})}


def _cell_document(number: int, cell: Cell, sums: Iterable[int]) -> Document:
    key = served_cells.key(cell)
    return {"_id": {"publication": number, "cell": key}, "publication": number, "cell": key, **served_cells.measures(sums)}
