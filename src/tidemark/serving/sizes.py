"""Sizes of collections, folders and tables, stored to show their growth: `python -m tidemark.serving.sizes` measures and prints them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bson.int64 import Int64
from pymongo import ReplaceOne
from pymongo.database import Database

from tidemark.rendering.sizes import COLLECTION, render_sizes
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.schema import COLLECTIONS
from tidemark.settings import settings

log = logging.getLogger(__name__)

_BLOCK_BYTES = 512  # unit of st_blocks


class Size(NamedTuple):
    """Bytes on disk, and the number of documents (of a collection) or files (of a folder or table)."""

    bytes: int
    items: int


def of_collections(database: Database[Document]) -> dict[str, Size]:
    """The sizes of all collections, indexes included."""
    found = {}
    for collection in COLLECTIONS:
        shards = [one["storageStats"] for one in database[collection.name].aggregate([{"$collStats": {"storageStats": {}}}])]
        found[COLLECTION + collection.name] = Size(
            sum(one["storageSize"] + one["totalIndexSize"] for one in shards), sum(one["count"] for one in shards)
        )
    return found


def of_folders(home: Path) -> dict[str, Size]:
    """The sizes of the folders under home on this machine. Servers that run elsewhere have none here."""
    folders = sorted(one for one in home.iterdir() if one.is_dir()) if home.is_dir() else []
    return {f"folder {folder.name}": _of_folder(folder) for folder in folders}


def keep(database: Database[Document], at: datetime, sizes: Mapping[str, Size]) -> None:
    """Stores the measurements of a moment, replacing earlier ones of the same moment."""
    documents = [
        {"_id": {"part": part, "at": at}, "part": part, "at": at, "bytes": Int64(size.bytes), "items": Int64(size.items)}
        for part, size in sizes.items()
    ]
    database.size.bulk_write([ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in documents])


def measure(database: Database[Document], at: datetime, home: Path, more: Mapping[str, Size]) -> list[str]:
    """Measures collections and the folders under home and stores the sizes, together with those given. Returns them as lines of text."""
    keep(database, at, {**of_collections(database), **of_folders(home), **more})
    return list(render_sizes(measured(database, at)))


def measured(database: Database[Document], at: datetime) -> Iterator[Document]:
    """The measurements of a moment, the largest first."""
    yield from database.report_size.find({"at": at}).sort([("bytes", -1), ("part", 1)])


def _of_folder(folder: Path) -> Size:
    bytes_there = files = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may be deleted meanwhile
            if path.is_file() and not path.is_symlink():
                # Not its length: Kafka's index files are sparse.
                bytes_there, files = bytes_there + path.stat().st_blocks * _BLOCK_BYTES, files + 1
    return Size(bytes_there, files)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    of = settings()
    with connect(of.mongodb) as client:
        for line in measure(database_of(client, of.database), datetime.now(UTC), of.home, {}):
            log.info("%s", line)


if __name__ == "__main__":
    main()
