"""DB-API connections."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from types import TracebackType
from typing import Any
from uuid import UUID

from bson.binary import Binary, UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database

from mongopipe import errors
from mongopipe.cursor import Cursor
from mongopipe.errors import InterfaceError, translated
from mongopipe.reflection import Reflection
from mongopipe.url import Options, split

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=False, uuid_representation=UuidRepresentation.STANDARD, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


@dataclass(frozen=True)
class _Server:
    """The state that connections to one database share: pymongo's client, which is a pool, and the cached schema."""

    client: MongoClient[dict[str, Any]]
    database: Database[dict[str, Any]]
    reflection: Reflection

    @cached_property
    def has_snapshots(self) -> bool:
        """Whether the server supports snapshot reads: replica sets and sharded clusters do, from MongoDB 5.0."""
        with translated():
            hello = self.client.admin.command("hello")
        return hello["maxWireVersion"] >= 13 and ("setName" in hello or hello.get("msg") == "isdbgrid")


_SERVERS: dict[tuple[object, ...], _Server] = {}
_LOCK = Lock()


def _server(url: str, database: str, options: Options, client_options: dict[str, Any]) -> _Server:
    """Returns the shared state for a URL. A forked process gets its own, because pymongo's client must not cross a fork."""
    key = (os.getpid(), url, database, options.sample_size, options.schema_seconds, repr(sorted(client_options.items())))
    with _LOCK:
        if key not in _SERVERS:
            with translated():
                client: MongoClient[dict[str, Any]] = MongoClient(url, appname="mongopipe", **client_options)
                found = client.get_database(database, codec_options=_CODEC)
            _SERVERS[key] = _Server(client, found, Reflection(found, options.sample_size, options.schema_seconds))
        return _SERVERS[key]


class Connection:
    """A read-only connection to one database. Threads may share a connection."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, server: _Server, options: Options) -> None:
        self._server = server
        self.options = options
        self.closed = False

    @property
    def database(self) -> Database[dict[str, Any]]:
        """The database. Raises InterfaceError if the connection is closed."""
        self._open()
        return self._server.database

    @property
    def reflection(self) -> Reflection:
        """The tables of the database. Raises InterfaceError if the connection is closed."""
        self._open()
        return self._server.reflection

    def cursor(self) -> Cursor:
        """Returns a new cursor."""
        self._open()
        return Cursor(self)

    def session(self) -> ClientSession:
        """Starts a session for one query. With snapshots, everything that the query reads is from one point in time."""
        with translated():
            return self._server.client.start_session(snapshot=self.options.snapshot and self._server.has_snapshots)

    def cancel(self, query_id: str) -> None:
        """Stops the query of the cursor with this `query_id`; any connection of the same user may do so.

        If the query is not running, nothing happens. Raises InterfaceError if `query_id` is malformed.
        """
        try:
            identity = Binary.from_uuid(UUID(query_id))
        except ValueError as error:
            raise InterfaceError(f"invalid query id {query_id!r}: pass the query_id of a cursor") from error
        with translated():
            self._server.client.admin.command("killSessions", [{"id": identity}])

    def count(self, collection: str | None) -> int:
        """Returns the estimated number of documents in a collection, from its metadata; 0 for a view or None."""
        if collection is None or collection in self.reflection.names(views=True):
            return 0
        with translated():
            return self.database[collection].estimated_document_count()

    def ping(self) -> str:
        """Returns the server's version. Raises OperationalError if the server does not answer."""
        with translated():
            return str(self._server.client.server_info()["version"])

    def commit(self) -> None:
        """Does nothing: the connection is read-only."""

    def rollback(self) -> None:
        """Does nothing: the connection is read-only."""

    def _open(self) -> None:
        if self.closed:
            raise InterfaceError("the connection is closed: open a new one")

    def close(self) -> None:
        """Closes the connection. The shared client stays open for other connections."""
        self.closed = True

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def connect(url: str, *, client_options: dict[str, Any] | None = None, **options: Any) -> Connection:
    """Connects to the database that a URL names: mongodb://user:password@host:port/database?authSource=admin&max_time_ms=60000.

    MongoDB's own options go into the URL or, with pymongo's names, into `client_options`. The options of mongopipe (see url.Options)
    go into the URL or into keyword arguments. The function does not contact the server; the first query does. Raises InterfaceError for
    an invalid URL or option.
    """
    plain, database, parsed = split(url)
    chosen = parsed.changed(options)
    return Connection(_server(plain, database, chosen, client_options or {}), chosen)
