"""Backups of MongoDB and the raw history: `python -m tidemark.serving.backup save FOLDER`, `restore FOLDER` into an empty database.

A backup is of one moment: the documents are read at one snapshot, and meanwhile the lease of the batch layer is held, so that the
tables hold what the publications name. Nothing waits but batch jobs. Each collection is a file of BSON documents, one after the other,
as MongoDB's own mongodump writes them. A backup without its `manifest.json` was not finished.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.serving import ledger, publications, schema
from tidemark.serving.database import Document, brief, connect, database_of, in_transaction
from tidemark.serving.lease import BATCH, BATCH_SECONDS, Busy, lease, this_process
from tidemark.serving.status import state
from tidemark.settings import settings

MANIFEST = "manifest.json"
LAKE, DOCUMENTS = "lake", "mongodb"

_DOCUMENTS_AT_ONCE = 2_000
_LAST = "state"  # what names all else: as long as it is not there, nothing has been restored
_OF_THE_LAYERS = {"_id": {"$not": {"$regex": "^lease |^log_end$"}}}  # leases are their holders', and the log may have another end by then

log = logging.getLogger("tidemark.backup")


class NotSaved(Exception):
    """There is no backup; says why."""


class NotRestored(Exception):
    """Nothing has been restored, or not all; says what to do."""


def save(database: Database[Document], lake: str, folder: Path) -> Document:
    """Makes a backup in a folder that is not there yet, and returns its manifest. Raises NotSaved, Busy or PyMongoError."""
    if folder.exists() and any(folder.iterdir()):
        raise NotSaved(f"{folder} is not empty: name a folder that is not there yet")
    if "://" in lake:
        log.warning("%s is not in the backup: its store keeps it, by versions or copies of its own", lake)
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
    """Brings a backup into an empty database and an empty place for the raw history, and returns its manifest.

    What was broken off is done again from the beginning. Raises NotRestored or PyMongoError.
    """
    manifest = _checked(folder)
    schema.prepare(database)
    _require_empty(database)
    if "://" not in lake and (folder / LAKE).is_dir():
        _restore_tables(Path(lake), folder / LAKE)
    for name in manifest["documents"]:
        if name != _LAST:
            database[name].delete_many({})
            for some in _saved(folder, name):
                database[name].insert_many(some, ordered=False)
            log.info("%s: %d documents", name, manifest["documents"][name])

    def go_on_from_there(session: ClientSession) -> None:
        database[_LAST].delete_many(_OF_THE_LAYERS, session=session)
        for some in _saved(folder, _LAST):
            database[_LAST].insert_many(some, session=session)

    in_transaction(database, go_on_from_there)
    return manifest


def _saved(folder: Path, name: str) -> Iterator[list[Any]]:
    with (folder / DOCUMENTS / f"{name}.bson").open("rb") as file:
        documents = bson.decode_file_iter(file, CodecOptions(document_class=RawBSONDocument))
        while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
            yield some


def _save_documents(database: Database[Document], folder: Path) -> tuple[dict[str, int], str]:
    """Documents by collection, and the stream's offsets at that moment."""
    raw: Database[Any] = database.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))
    counts = {}
    with database.client.start_session(snapshot=True) as session:
        own = database.state.find_one({"_id": ledger.LEDGER}, session=session)
        if own is None:
            raise NotSaved(f"database {database.name} has nothing to save: it is not prepared")
        for collection in schema.COLLECTIONS:
            name = collection.name
            found = raw[name].find(_OF_THE_LAYERS if name == _LAST else {}, session=session, batch_size=_DOCUMENTS_AT_ONCE)
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
    """The manifest of a whole backup."""
    try:
        manifest: Document = json.loads((folder / MANIFEST).read_text())
    except OSError as error:
        raise NotRestored(f"{folder} holds no finished backup: {error}") from error
    wrong = [name for name, digest in manifest["files"].items() if not (folder / name).is_file() or _digest(folder / name) != digest]
    if wrong:
        raise NotRestored(f"{len(wrong)} files of {folder} are missing or were altered, such as {wrong[0]}: take another backup")
    return manifest


def _require_empty(database: Database[Document]) -> None:
    now = ledger.read(database)
    if now.offsets or publications.served(database):
        raise NotRestored(f"database {database.name} is in use: restore into a new one (setting TIDEMARK_DATABASE), or drop this one")
    if state(database)["stream"]["alive"]:
        raise NotRestored("the stream is at work: stop it, or pause it (make pause) and wait for its end, then run this again")


def _restore_tables(lake: Path, saved: Path) -> None:
    """Whole under its name, or not at all."""
    if lake.exists() and any(lake.iterdir()):
        if _same(lake, saved):
            return
        raise NotRestored(f"{lake} is not empty: move what is there away, or set TIDEMARK_LAKE to another folder")
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
    try:
        with connect() as client:
            manifest = {"save": save, "restore": restore}[given.what](database_of(client), settings().lake_url, given.folder)
    except (NotSaved, NotRestored, Busy, OSError) as error:
        log.error("%s", error)
        return 1
    except PyMongoError as error:
        log.error("MongoDB: %s; nothing is lost: run it again", brief(error))
        return 1
    what = "saved" if given.what == "save" else "restored"
    log.info("%s: %s documents, the stream at %s", what, f"{sum(manifest['documents'].values()):,}", manifest["mark"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
