"""The connection to MongoDB. It always uses the primary and majority concerns, whatever the URL says: exactness depends on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Document = dict[str, Any]
_Answer = TypeVar("_Answer")


def connect(url: str, *, within_seconds: float = 20) -> MongoClient[Document]:
    """A client. It waits that long for a primary, unless the URL says how long. Times are in UTC."""
    waiting: dict[str, Any] = {} if "serverselectiontimeoutms=" in url.lower() else {"serverSelectionTimeoutMS": int(within_seconds * 1000)}
    return MongoClient(url, tz_aware=True, appname="tidemark", **waiting)


def database_of(client: MongoClient[Document], name: str) -> Database[Document]:
    """One of Tidemark's databases: primary, majority reads and writes, times in UTC, whatever the client says."""
    return client.get_database(
        name,
        codec_options=client.codec_options.with_options(tz_aware=True, tzinfo=UTC),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority"),
    )


def latest(collection: Collection[Document]) -> Collection[Document]:
    """The collection, read with every write that anybody has been told of, for reads that decide something.

    A majority read may lack the newest of these: a primary that has just been elected does not know yet that what its predecessor
    acknowledged last has reached a majority. This read waits until a majority confirms that the primary still is one.
    """
    return collection.with_options(read_concern=ReadConcern("linearizable"))


def in_transaction(database: Database[Document], act: Callable[[ClientSession], _Answer]) -> _Answer:
    """Runs `act` in a transaction. It is called again after a conflict with another transaction."""
    with database.client.start_session() as session:
        return session.with_transaction(
            act,
            read_concern=database.read_concern,
            write_concern=database.write_concern,
            read_preference=database.read_preference,
        )


def clock(database: Database[Document]) -> datetime:
    """The time of MongoDB's clock."""
    moment: datetime = database.client.admin.command("hello")["localTime"]
    return moment.replace(tzinfo=UTC)


def brief(error: Exception) -> str:
    """The text of a MongoDB error without the driver's configuration."""
    return str(error).partition(" (configured")[0].partition(",")[0]
