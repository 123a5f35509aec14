"""Consistent reads. A micro-batch changes many cells at once; only a snapshot read never shows part of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.serving.database import Document


@dataclass(frozen=True)
class Snapshot:
    """Reads at one moment, which the first read determines."""

    database: Database[Document]
    session: ClientSession

    def rows(self, name: str, *stages: dict[str, Any]) -> list[Document]:
        """The documents of a collection or view after the given pipeline stages."""
        return list(self.stream(name, *stages))

    def stream(self, name: str, *stages: dict[str, Any]) -> Iterator[Document]:
        """Like rows(), one by one, for collections too large for memory."""
        return iter(self.database[name].aggregate(list(stages), session=self.session, allowDiskUse=True))

    def one(self, name: str, *stages: dict[str, Any]) -> Document | None:
        """The first document, or None."""
        return next(self.stream(name, *stages, {"$limit": 1}), None)


@contextmanager
def snapshot(database: Database[Document]) -> Iterator[Snapshot]:
    """Raises pymongo.errors.OperationFailure if MongoDB is not a replica set or the snapshot outlives its history (five minutes)."""
    with database.client.start_session(snapshot=True) as session:
        yield Snapshot(database, session)
