"""Backups of MongoDB and the raw history: `python -m tidemark.serving.backup save FOLDER`, and `restore FOLDER` into an empty database.

A backup is consistent: the documents are read in one snapshot while the lease of the batch layer is held, so the tables contain the
layers that the publications name. Only batch jobs have to wait. Each collection is a file of concatenated BSON documents, the format of
mongodump. A backup without `manifest.json` is incomplete.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.catalog.words import counted
from tidemark.serving import ledger, publications, schema, upgrades
from tidemark.serving.database import Document, brief, connect, database_of, in_transaction
from tidemark.serving.layout import OtherLayout
from tidemark.serving.lease import BATCH, BATCH_SECONDS, Busy, lease, this_process
from tidemark.serving.ledger import Ledger
from tidemark.serving.status import state
from tidemark.settings import settings

MANIFEST = "manifest.json"
LAKE, DOCUMENTS = "lake", "mongodb"

_DOCUMENTS_PER_BATCH = 2_000
_PUBLICATIONS_SKIPPED = 1_000  # more than nights since a backup: a night that still runs on the lost database meets no number of its own
_LAST = "state"  # it refers to everything else: until it is written, nothing counts as restored
_WITHOUT_LEASES = {"_id": {"$not": {"$regex": "^lease |^log_end$"}}}  # without leases and the end of the log, which change independently

log = logging.getLogger("tidemark.backup")


class NotSaved(Exception):
    """The backup was not made; the message says why."""


class NotRestored(Exception):
    """The restore did not finish; the message says what to do."""


def save(database: Database[Document], lake: str, folder: Path) -> Document:
    """Makes a backup in a new or empty folder and returns its manifest. Raises NotSaved, Busy or PyMongoError."""
    if folder.exists() and any(folder.iterdir()):
        raise NotSaved(f"{folder} is not empty: choose a new folder")
    if "://" in lake:
        log.warning("%s is not part of the backup: back it up in its own store, by versioning or copies", lake)
    with lease(database, BATCH, this_process("backup"), BATCH_SECONDS):
        (folder / DOCUMENTS).mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        counts, mark = _save_documents(database, folder / DOCUMENTS)
        if Path(lake).is_dir():
            shutil.copytree(lake, folder / LAKE)
    files = {str(path.relative_to(folder)): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {"database": database.name, "saved_at": now.isoformat(), "mark": mark, "documents": counts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))
    return manifest


def restore(database: Database[Document], lake: str, folder: Path) -> Document:
    """Restores a backup into an empty database and an empty folder for the raw history, and returns its manifest.

    If the backup does not hold the raw history, the database gets another identity: the raw history that is there may have gone on since
    the backup, or belong to a database that is still in use, and must be adopted first. An interrupted restore can be run again; it starts
    from the beginning. A backup of an earlier layout is upgraded. Raises NotRestored, OtherLayout or PyMongoError.
    """
    manifest = _checked(folder)
    schema.prepare(database)
    _require_empty(database)
    with_tables = "://" not in lake and (folder / LAKE).is_dir()
    if with_tables:
        _restore_tables(Path(lake), folder / LAKE)
    for name in manifest["documents"]:
        if name != _LAST:
            database[name].delete_many({})
            for some in _saved(folder, name):
                database[name].insert_many(some, ordered=False)
            log.info("%s: %s", name, counted(manifest["documents"][name], "document"))

    since = datetime.now(UTC) - datetime.fromisoformat(manifest["saved_at"])

    def restore_state(session: ClientSession) -> None:
        database[_LAST].delete_many(_WITHOUT_LEASES, session=session)
        database[_LAST].insert_many(_saved_state(folder), session=session)
        restored = _number_after(ledger.read(database, session), since)
        ledger.restart_after_restore(database, session, restored, same_identity=with_tables)
        publications.skip_numbers(database, session, _PUBLICATIONS_SKIPPED)

    _retag(database, _saved_ledger(folder), since)
    in_transaction(database, restore_state)
    schema.prepare(database)  # what a backup of an earlier layout lacks
    return manifest


def _number_after(saved: Ledger, since: timedelta) -> int:
    """A generation above all that were given since the backup: each start of a stream takes longer than a second."""
    return saved.generation + max(0, ceil(since.total_seconds())) + 1


def _retag(database: Database[Document], saved: Ledger, since: timedelta) -> None:
    """Puts every product under the generation of the restore, which fences whatever still runs on the lost database.

    Batch 0 of that generation counts as committed, batch 1 never will be.
    """
    tag = "$_tide.tag"
    held = [
        {"$and": [{"$eq": [f"{tag}.generation", generation]}, {"$lte": [f"{tag}.batch", number]}]}
        for generation, number in saved.committed.items()
    ]
    forgotten = {"$lt": [f"{tag}.generation", min(saved.committed, default=0)]}
    renewed = {
        "_tide.tag": {"generation": Int64(_number_after(saved, since)), "batch": {"$cond": [{"$or": held}, 0, 1]}},
        "_tide.before": {"$cond": [forgotten, None, "$_tide.before"]},
    }
    database.product.update_many({}, [{"$set": renewed}])


def _saved_ledger(folder: Path) -> Ledger:
    return ledger.from_document(next(one for one in _saved_state(folder) if one["_id"] == ledger.LEDGER))


def _saved_state(folder: Path) -> list[Document]:
    """The documents of collection `state`, the ledger in the current layout."""
    options: CodecOptions[Document] = CodecOptions(tz_aware=True)
    found = [bson.decode(one.raw, options) for some in _saved(folder, _LAST) for one in some]
    return [upgrades.upgraded(one) if one["_id"] == ledger.LEDGER else one for one in found]


def _saved(folder: Path, name: str) -> Iterator[list[Any]]:
    with (folder / DOCUMENTS / f"{name}.bson").open("rb") as file:
        documents = bson.decode_file_iter(file, CodecOptions(document_class=RawBSONDocument))
        while some := list(islice(documents, _DOCUMENTS_PER_BATCH)):
            yield some


def _save_documents(database: Database[Document], folder: Path) -> tuple[dict[str, int], str]:
    """The numbers of documents by collection, and the stream's offsets at that moment."""
    raw: Database[Any] = database.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))
    counts = {}
    with database.client.start_session(snapshot=True) as session:
        own = database.state.find_one({"_id": ledger.LEDGER}, session=session)
        if own is None:
            raise NotSaved(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
        for collection in schema.COLLECTIONS:
            name = collection.name
            found = raw[name].find(_WITHOUT_LEASES if name == _LAST else {}, session=session, batch_size=_DOCUMENTS_PER_BATCH)
            counts[name] = _write(found, folder / f"{name}.bson")
    return counts, str(ledger.from_document(own).offsets)


def _write(documents: Iterator[RawBSONDocument], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for document in documents:
            file.write(document.raw)
            count += 1
    return count


def _checked(folder: Path) -> Document:
    """The manifest of a backup whose files are complete and unaltered."""
    try:
        manifest: Document = json.loads((folder / MANIFEST).read_text())
    except OSError as error:
        raise NotRestored(f"{folder} holds no complete backup: {MANIFEST}: {error.strerror}") from error
    wrong = [name for name, digest in manifest["files"].items() if not (folder / name).is_file() or _digest(folder / name) != digest]
    if wrong:
        raise NotRestored(f"{counted(len(wrong), 'file')} missing or altered in {folder}, such as {wrong[0]}: use another backup")
    return manifest


def _require_empty(database: Database[Document]) -> None:
    now = ledger.read(database)
    if now.offsets or publications.served(database):
        raise NotRestored(f"database {database.name} is in use: restore into a new one (setting TIDEMARK_DATABASE), or drop this one")
    if state(database)["stream"]["alive"]:
        raise NotRestored("the stream is running: stop it, or pause it (make pause) and wait until it has stopped, then run this again")


def _restore_tables(lake: Path, saved: Path) -> None:
    """Copies each table under a temporary name first, so that a table under its own name is always complete."""
    if lake.exists() and any(lake.iterdir()):
        if _same(lake, saved):
            return
        raise NotRestored(f"{lake} is not empty: move its contents away, or set TIDEMARK_LAKE to another folder")
    for table in sorted(saved.iterdir()):
        unfinished = lake / f".{table.name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(table, unfinished)
    for table in sorted(saved.iterdir()):
        (lake / f".{table.name}").rename(lake / table.name)


def _same(one: Path, other: Path) -> bool:
    files = [{path.relative_to(folder): _digest(path) for path in folder.rglob("*") if path.is_file()} for folder in (one, other)]
    return files[0] == files[1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(words: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(prog="python -m tidemark.serving.backup", description="Backups of MongoDB and the raw history.")
    parser.add_argument("what", choices=["save", "restore"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(words)
    of = settings()
    try:
        with connect(of.mongodb) as client:
            manifest = {"save": save, "restore": restore}[given.what](database_of(client, of.database), of.lake_url, given.folder)
    except (NotSaved, NotRestored, OtherLayout, Busy, OSError) as error:
        log.error("%s", error)
        return 1
    except PyMongoError as error:
        log.error("MongoDB: %s; nothing is lost: run it again", brief(error))
        return 1
    what = "saved" if given.what == "save" else "restored"
    log.info("%s: %s, the stream at %s", what, counted(sum(manifest["documents"].values()), "document"), manifest["mark"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
