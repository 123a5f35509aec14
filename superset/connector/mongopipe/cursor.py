"""DB-API cursors. A cursor translates a statement, runs it as one aggregation, and fetches the documents in batches on demand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from bson import json_util
from pymongo.client_session import ClientSession
from pymongo.command_cursor import CommandCursor
from pymongo.database import Database

from mongopipe.errors import InterfaceError, NotSupportedError, ProgrammingError, QueryCancelled, translated
from mongopipe.reflection import Reflection
from mongopipe.results import Converter, converter
from mongopipe.translate import Translation, translate
from mongopipe.url import Options

Row = tuple[Any, ...]
Description = tuple[str, str, None, None, None, None, None]

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+", re.IGNORECASE)
_SIMPLE = {"locale": "simple"}  # strings compare by code point, whatever collation the collection has


class CursorConnection(Protocol):
    """What a cursor needs from its connection; mongopipe.connection.Connection provides it."""

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""

    @property
    def options(self) -> Options:
        """The connection's options."""

    @property
    def database(self) -> Database[dict[str, Any]]:
        """The database that queries run on."""

    @property
    def reflection(self) -> Reflection:
        """The tables of the database."""

    def session(self) -> ClientSession:
        """A session for one query."""

    def cancel(self, query_id: str) -> None:
        """Stops the query whose session has this id."""

    def count(self, collection: str | None) -> int:
        """The estimated number of documents in a collection."""


class Cursor:
    """A cursor. One thread at a time may use it; any thread may call `cancel`.

    `description` has one entry for each column: the label, the type (the value of sql_types.SqlType), and five times None.
    """

    def __init__(self, connection: CursorConnection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.description: list[Description] | None = None
        self._rows: Iterator[Row] | None = None
        self._documents: CommandCursor[dict[str, Any]] | None = None
        self._session: ClientSession | None = None
        self._cancelled = False
        self._closed = False

    @property
    def rowcount(self) -> int:
        """Always -1: the number of rows is unknown before all rows are fetched."""
        return -1

    @property
    def query_id(self) -> str:
        """The id that Connection.cancel takes to stop the query that this cursor runs, or runs next."""
        if self._session is None:
            self._session = self.connection.session()
        return str(self._session.session_id["id"].as_uuid())

    def execute(self, operation: str, parameters: Mapping[str, Any] | None = None) -> Cursor:
        """Runs a SELECT or an EXPLAIN SELECT. `parameters` are the values of `:name` in the statement.

        Raises the errors of `translate`, QueryCancelled if the query is cancelled or exceeds its time limit, and OperationalError.
        """
        self._open()
        if parameters and not isinstance(parameters, Mapping):
            raise ProgrammingError("parameters must be a mapping of names to values")
        self._finish()
        explained = _EXPLAIN.match(operation)
        statement = operation[explained.end() :] if explained else operation
        translation = translate(statement, self.connection.reflection, parameters or {})
        if explained:
            self._explain(translation)
        else:
            self._run(translation)
        return self

    def estimate(self, operation: str) -> dict[str, Any]:
        """Returns what a SELECT would read, from the server's plan: collection, its documents, stages, indexes. Does not run the query."""
        self._open()
        translation = translate(operation, self.connection.reflection)
        plan = json.dumps(self._plan(translation), default=json_util.default)
        indexes = sorted(set(re.findall(r'"indexName": "([^"]*)"', plan)))
        return {
            "Collection": translation.pipeline.collection or "none",
            "Documents in collection": self.connection.count(translation.pipeline.collection),
            "Stages": len(translation.pipeline.stages),
            "Indexes": ", ".join(indexes) or ("none (reads all documents)" if translation.pipeline.collection else "none"),
        }

    def executemany(self, *_: object) -> None:
        """Raises NotSupportedError: mongopipe does not write, and it does not run one SELECT several times."""
        raise NotSupportedError("executemany is not supported: mongopipe is read-only")

    def fetchone(self) -> Row | None:
        """Returns the next row, or None after the last row."""
        return next(self._result(), None)

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """Returns the next `size` rows (`arraysize` if None). Reads only the batches that hold these rows."""
        wanted = self.arraysize if size is None else size
        rows = self._result()
        return [row for _, row in zip(range(wanted), rows, strict=False)]

    def fetchall(self) -> list[Row]:
        """Returns all remaining rows."""
        return list(self._result())

    def __iter__(self) -> Iterator[Row]:
        return iter(self._result())

    def cancel(self) -> None:
        """Stops the running query. Any thread may call this; the thread that waits for the query gets QueryCancelled."""
        self._cancelled = True
        session = self._session
        if session is not None and not session.has_ended:
            self.connection.cancel(str(session.session_id["id"].as_uuid()))

    def close(self) -> None:
        """Closes the cursor and releases its resources on the server."""
        self._finish()
        self._closed = True

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """Does nothing, as PEP 249 allows."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing, as PEP 249 allows."""

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        if self._closed or self.connection.closed:
            raise InterfaceError("the cursor is closed: create a new one")

    def _result(self) -> Iterator[Row]:
        self._open()
        if self._rows is None:
            raise ProgrammingError("no query has been executed: call execute first")
        return self._rows

    def _finish(self) -> None:
        """Releases the previous query."""
        documents, session = self._documents, self._session
        self.description, self._rows, self._documents = None, None, None
        if documents is not None:
            self._session, self._cancelled = None, False
            with translated():
                documents.close()
                if session is not None:
                    session.end_session()

    def _command(self, translation: Translation) -> tuple[str | int, dict[str, Any]]:
        pipeline = translation.pipeline
        options: dict[str, Any] = {"allowDiskUse": True, "collation": _SIMPLE}
        if self.connection.options.max_time_ms:
            options["maxTimeMS"] = self.connection.options.max_time_ms
        return (1 if pipeline.collection is None else pipeline.collection), options

    def _run(self, translation: Translation) -> None:
        self._describe([(label, sql_type.value) for label, sql_type in zip(translation.labels, translation.pipeline.types, strict=True)])
        source, options = self._command(translation)
        database = self.connection.database
        if self._session is None:
            self._session = self.connection.session()
        if self._cancelled:
            raise QueryCancelled("the query was cancelled before it started")
        target = database if source == 1 else database[str(source)]
        options["batchSize"] = self.connection.options.batch_size
        with translated():
            self._documents = target.aggregate(translation.pipeline.stages, session=self._session, **options)
        self._rows = _rows(self._documents, [converter(sql_type) for sql_type in translation.pipeline.types])

    def _plan(self, translation: Translation) -> dict[str, Any]:
        """Returns the server's plan."""
        source, options = self._command(translation)
        options.pop("maxTimeMS", None)
        explain = {"aggregate": source, "pipeline": translation.pipeline.stages, "cursor": {}, **options}
        with translated():
            return self.connection.database.command("explain", explain, verbosity="queryPlanner")

    def _explain(self, translation: Translation) -> None:
        """Produces one column of text: the pipeline and the server's plan."""
        plan = self._plan(translation)
        shown: dict[str, Any] = {"collection": translation.pipeline.collection, "pipeline": translation.pipeline.stages}
        shown["plan"] = {name: plan[name] for name in ("queryPlanner", "stages", "shards") if name in plan}
        text = json.dumps(shown, default=json_util.default, indent=2)
        self._describe([("plan", "VARCHAR")])
        self._rows = iter([(line,) for line in text.splitlines()])

    def _describe(self, columns: list[tuple[str, str]]) -> None:
        self.description = [(label, sql_type, None, None, None, None, None) for label, sql_type in columns]


def _rows(documents: CommandCursor[dict[str, Any]], converters: list[Converter]) -> Iterator[Row]:
    """Yields the fields c0, c1 ... of each document as a row. A missing field is None."""
    fields = [(f"c{place}", convert) for place, convert in enumerate(converters)]
    while True:
        with translated():
            document = next(documents, None)
        if document is None:
            return
        yield tuple(convert(document.get(name)) for name, convert in fields)
