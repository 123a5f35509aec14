"""Consistent reads. A micro-batch moves many cells at once, so that only a snapshot never shows half of one."""

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
    """Reads of one moment: the first read settles which."""

    database: Database[Document]
    session: ClientSession

    def rows(self, name: str, *stages: dict[str, Any]) -> list[Document]:
        """Documents of a collection or view, through the stages given."""
        return list(self.stream(name, *stages))

    def stream(self, name: str, *stages: dict[str, Any]) -> Iterator[Document]:
        """The same one by one, for collections that memory should not hold."""
        return iter(self.database[name].aggregate(list(stages), session=self.session, allowDiskUse=True))

    def one(self, name: str, *stages: dict[str, Any]) -> Document | None:
        """The first document, or None."""
        return next(self.stream(name, *stages, {"$limit": 1}), None)


@contextmanager
def snapshot(database: Database[Document]) -> Iterator[Snapshot]:
    """Raises pymongo.errors.OperationFailure where MongoDB is no replica set or the snapshot outlives its history (five minutes)."""
    with database.client.start_session(snapshot=True) as session:
        yield Snapshot(database, session)
