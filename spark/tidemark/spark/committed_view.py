"""The committed view of a product document, and compare-and-set writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pymongo import DeleteOne, InsertOne, ReplaceOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from tidemark.serving.database import Document
from tidemark.serving.ledger import Fenced, Ledger, Tag
from tidemark.spark.documents import versioned
from tidemark.spark.tasks import DUPLICATE_KEY


class View(NamedTuple):
    """A document's committed state: uncommitted writes are ignored."""

    version: tuple[int, ...]
    contribution: tuple[Any, ...]  # the dimensions of the cell, then the measures


class Bookkeeping(NamedTuple):
    """A product document's bookkeeping, as read."""

    tag: Tag
    version: tuple[int, ...]
    committed: View | None


def committed_view_of(tide: Document, ledger: Ledger) -> Bookkeeping:
    """A document's bookkeeping, from its `_tide` and the ledger's commits."""
    tag, version = Tag(**tide["tag"]), tuple(tide["version"].values())
    if ledger.has_forgotten(tag):
        return Bookkeeping(tag, version, None)
    if ledger.holds(tag):
        return Bookkeeping(tag, version, View(version, tuple(tide["contribution"])))
    before = tide["before"]
    return Bookkeeping(tag, version, before and View(tuple(before["version"].values()), tuple(before["contribution"])))


def unchanged(asin: str, tag: Tag, version: tuple[int, ...]) -> Document:
    """A filter that matches the document only if it is unchanged since it was read."""
    return {"_id": asin, "_tide.tag": tag._asdict(), "_tide.version": versioned(version)}


def apply(collection: Collection[Document], writes: Sequence[InsertOne[Document] | ReplaceOne[Document] | DeleteOne]) -> None:
    """Writes with compare-and-set: inserts must not find a document, the others must find it unchanged. Raises Fenced if a race is lost."""
    if not writes:
        return
    try:
        done = collection.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        if all(one["code"] == DUPLICATE_KEY for one in error.details["writeErrors"]) and error.details["writeErrors"]:
            raise Fenced("another process has inserted a product at the same time") from error
        raise
    if done.inserted_count + done.matched_count + done.deleted_count != len(writes):
        raise Fenced("another process has replaced a product at the same time")
