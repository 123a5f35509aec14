"""A small database and its raw history, as former versions have stored them: backups in tests/data, one for each layout."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from pymongo.database import Database

from tidemark.serving import backup
from tidemark.serving.database import Document

DATA = Path(__file__).parent.parent / "data"
PRODUCTS, CATEGORIES = "product-13281-1", "category-13281-1"  # their topics


def saved(layout: int, folder: Path) -> Path:
    """The backup, unpacked in a folder."""
    with tarfile.open(DATA / f"layout-{layout}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"layout-{layout}"


def fill(database: Database[Document], folder: Path) -> None:
    """Puts the documents of a backup into an empty database as they are."""
    options: CodecOptions[Any] = CodecOptions(tz_aware=True)
    for path in (folder / backup.DOCUMENTS).iterdir():
        if documents := bson.decode_all(path.read_bytes(), options):
            database[path.stem].insert_many(documents)
