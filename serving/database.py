"""The connection to MongoDB. Progress and cubes are exact only at the primary and once a majority holds them, whatever a URL says."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from pymongo import MongoClient, ReadPreference
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from settings import settings

Document = dict[str, Any]


def connect(url: str | None = None, *, within_seconds: float = 20) -> MongoClient[Document]:
    """A client for the URL, by default the one of the settings; it waits that long for a primary. Times come back in UTC."""
    return MongoClient(url or settings().mongodb, tz_aware=True, appname="tidemark", serverSelectionTimeoutMS=int(within_seconds * 1000))


def tidemark(client: MongoClient[Document], name: str | None = None) -> Database[Document]:
    """Tidemark's database, by default the one of the settings: primary, majority reads and writes, times in UTC whatever the client's."""
    return client.get_database(
        name or settings().database,
        codec_options=client.codec_options.with_options(tz_aware=True, tzinfo=UTC),
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority"),
    )
