"""The SQLAlchemy dialect: mongopipe://user:password@host:port/database?options and mongopipe+srv://. Supports SQLAlchemy 1.4 to 2.1.

The dialect does not cache reflection, because the connection's own reflection does (see url.Options.schema_seconds).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlencode

import sqlalchemy
from sqlalchemy import exc, types
from sqlalchemy.engine import default
from sqlalchemy.engine.url import URL
from sqlalchemy.sql import compiler

import mongopipe
from mongopipe.connection import Connection
from mongopipe.errors import ProgrammingError
from mongopipe.schema import Table
from mongopipe.sql_types import SqlType


class DOUBLE(types.Float):  # type: ignore[misc]  # SQLAlchemy 1.4 is untyped
    """A double. SQLAlchemy 1.4 has no such type."""

    __visit_name__ = "DOUBLE"


class _Date(types.Date):  # type: ignore[misc]
    """A date. BSON stores it as a timestamp."""

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        """Removes the time of day."""
        return lambda value: value.date() if isinstance(value, datetime) else value


class BsonType(types.UserDefinedType):  # type: ignore[misc]
    """A type that only BSON has. mongopipe.results converts its values."""

    cache_ok = True

    def __init__(self, name: str = SqlType.MIXED.value) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """The name of the type."""
        return self.name


_TYPES: dict[SqlType, Any] = {
    SqlType.BOOLEAN: types.BOOLEAN(),
    SqlType.INTEGER: types.BIGINT(),
    SqlType.DOUBLE: DOUBLE(),
    SqlType.DECIMAL: types.DECIMAL(),
    SqlType.STRING: types.VARCHAR(),
    SqlType.DATE: types.DATE(),
    SqlType.TIMESTAMP: types.TIMESTAMP(),
    SqlType.BINARY: types.LargeBinary(),
    SqlType.NULL: types.NullType(),
}


class MongopipeCompiler(compiler.SQLCompiler):  # type: ignore[misc]
    """Renders SQL where mongopipe differs from SQLAlchemy's default."""

    def bindparam_string(self, name: str, **options: Any) -> str:
        """Makes parameter names of letters, digits and underscores. SQLAlchemy derives them from column names, which may have others."""
        plain = re.sub(r"\W", lambda found: f"_{ord(found[0]):x}_", name)
        plain = f"p{plain}" if plain[:1].isdigit() else plain
        if plain != name and not options.get("escaped_from"):
            options["escaped_from"] = name
        return str(super().bindparam_string(plain, **options))

    def limit_clause(self, select: Any, **options: Any) -> str:
        """Renders LIMIT and OFFSET. OFFSET may stand without LIMIT."""
        text = ""
        for word, clause in (("LIMIT", select._limit_clause), ("OFFSET", select._offset_clause)):
            if clause is not None:
                text += f" {word} {self.process(clause, **options)}"
        return text

    def visit_empty_set_expr(self, element_types: Iterable[Any], **_: Any) -> str:
        """Renders the empty set that IN () compares with: no rows, of any type."""
        return f"SELECT {', '.join('NULL' for _ in element_types) or 'NULL'} WHERE 1 != 1"

    def visit_ilike_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        """Renders ILIKE, which mongopipe supports."""
        return self._like(binary, "ILIKE", options)

    def visit_not_ilike_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        """Renders NOT ILIKE, which mongopipe supports."""
        return self._like(binary, "NOT ILIKE", options)

    def _like(self, binary: Any, word: str, options: dict[str, Any]) -> str:
        escape = binary.modifiers.get("escape")
        text = f"{self.process(binary.left, **options)} {word} {self.process(binary.right, **options)}"
        return text if escape is None else f"{text} ESCAPE {self.render_literal_value(escape, types.String())}"


class MongopipeTypeCompiler(compiler.GenericTypeCompiler):  # type: ignore[misc]
    """Renders the names of types in CAST."""

    def visit_DOUBLE(self, type_: Any, **_: Any) -> str:  # SQLAlchemy requires this name
        """DOUBLE, without a precision."""
        return "DOUBLE"

    def visit_large_binary(self, type_: Any, **_: Any) -> str:
        """BINARY."""
        return "BINARY"


def _dbapi(connection: Any) -> Connection:
    """Returns the DB-API connection. SQLAlchemy passes its own connection, a pool's proxy or, in 1.4 at first connect, the bare one."""
    for name in ("connection", "dbapi_connection"):
        connection = getattr(connection, name, connection) if not isinstance(connection, Connection) else connection
    if not isinstance(connection, Connection):
        connection = connection.dbapi_connection
    assert isinstance(connection, Connection)
    return connection


class MongopipeDialect(default.DefaultDialect):  # type: ignore[misc]
    """A read-only dialect. Tables are collections and views; the database is the only schema."""

    name = "mongopipe"
    driver = "mongopipe"
    default_paramstyle = "named"
    statement_compiler = MongopipeCompiler
    type_compiler = MongopipeTypeCompiler
    type_compiler_cls = MongopipeTypeCompiler
    colspecs = {types.Date: _Date}  # noqa: RUF012  # DefaultDialect declares it this way
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    supports_alter = False
    supports_sequences = False
    supports_simple_order_by_label = True
    div_is_floordiv = False
    postfetch_lastrowid = False
    max_identifier_length = 255
    scheme = "mongodb"

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Returns the DB-API module (SQLAlchemy 2)."""
        return mongopipe

    if sqlalchemy.__version__.startswith("1."):  # SQLAlchemy 2 warns about this method

        @classmethod
        def dbapi(cls) -> ModuleType:
            """Returns the DB-API module (SQLAlchemy 1.4)."""
            return cls.import_dbapi()

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """Converts SQLAlchemy's URL to MongoDB's. Additional hosts are options: ?host=second:27017&host=third:27017"""
        query = {name: [value] if isinstance(value, str) else list(value) for name, value in url.query.items()}
        hosts = [f"{url.host or 'localhost'}{f':{url.port}' if url.port else ''}", *query.pop("host", [])]
        user = ""
        if url.username is not None:
            secret = "" if url.password is None else f":{quote(str(url.password), safe='')}"
            user = f"{quote(url.username, safe='')}{secret}@"
        options = urlencode([(name, value) for name, values in query.items() for value in values], quote_via=quote)
        database = quote(url.database or "", safe="")
        return [f"{self.scheme}://{user}{','.join(hosts)}/{database}{'?' if options else ''}{options}"], {}

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Returns True if the server answers. Raises OperationalError if it does not."""
        return bool(_dbapi(dbapi_connection).ping())

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        return tuple(int(part) for part in _dbapi(connection).ping().split("-")[0].split("."))

    def _get_default_schema_name(self, connection: Any) -> str:
        return _dbapi(connection).reflection.database

    def get_default_isolation_level(self, dbapi_conn: Any) -> str:
        """Returns AUTOCOMMIT: each query reads one snapshot, and there are no transactions."""
        return "AUTOCOMMIT"

    def get_isolation_level(self, dbapi_connection: Any) -> str:
        """Returns AUTOCOMMIT."""
        return "AUTOCOMMIT"

    def _here(self, connection: Any, schema: str | None) -> bool:
        return schema is None or schema == _dbapi(connection).reflection.database

    def _table(self, connection: Any, name: str, schema: str | None) -> Table:
        if not self._here(connection, schema):
            raise exc.NoSuchTableError(f"{schema}.{name}")
        try:
            return _dbapi(connection).reflection.table(name)
        except ProgrammingError as error:
            raise exc.NoSuchTableError(name) from error

    def get_schema_names(self, connection: Any, **_: Any) -> list[str]:
        """Returns the database, the only schema."""
        return [_dbapi(connection).reflection.database]

    def get_table_names(self, connection: Any, schema: str | None = None, **_: Any) -> list[str]:
        """Returns the names of the collections."""
        return _dbapi(connection).reflection.names(views=False) if self._here(connection, schema) else []

    def get_view_names(self, connection: Any, schema: str | None = None, **_: Any) -> list[str]:
        """Returns the names of the views."""
        return _dbapi(connection).reflection.names(views=True) if self._here(connection, schema) else []

    def has_table(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> bool:
        """Returns whether a collection or a view has this name."""
        found = _dbapi(connection).reflection
        return self._here(connection, schema) and table_name in (*found.names(views=False), *found.names(views=True))

    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
        """Returns the columns. Nested fields have dotted names."""
        return [
            {
                "name": field.name,
                "type": _TYPES.get(field.type) or BsonType(field.type.value),
                "nullable": field.nullable,
                "default": None,
                "autoincrement": False,
                "comment": None,
            }
            for field in self._table(connection, table_name, schema).fields
        ]

    def get_pk_constraint(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> dict[str, Any]:
        """Returns _id, which MongoDB keeps unique. A view has no primary key."""
        table = self._table(connection, table_name, schema)
        return {"constrained_columns": [] if table.is_view else ["_id"], "name": None}

    def get_indexes(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
        """Returns the indexes whose keys are columns. A view has none."""
        table = self._table(connection, table_name, schema)
        found = []
        for name, index in _dbapi(connection).reflection.indexes(table.name).items():
            columns = [key for key, _ in index["key"]]
            if name != "_id_" and all(column in table.by_name for column in columns):
                found.append({"name": name, "column_names": columns, "unique": bool(index.get("unique", False))})
        return found

    def get_view_definition(self, connection: Any, view_name: str, schema: str | None = None, **_: Any) -> str:
        """Returns the view's collection and pipeline as JSON."""
        self._table(connection, view_name, schema)
        return json.dumps(_dbapi(connection).reflection.view(view_name), default=str)

    def get_table_comment(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> dict[str, Any]:
        """Returns the description in the validator's $jsonSchema."""
        return {"text": self._table(connection, table_name, schema).comment}

    def get_foreign_keys(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
        """Returns nothing: MongoDB has no foreign keys."""
        self._table(connection, table_name, schema)
        return []

    def get_unique_constraints(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
        """Returns nothing: get_indexes returns unique indexes."""
        self._table(connection, table_name, schema)
        return []

    def get_check_constraints(self, connection: Any, table_name: str, schema: str | None = None, **_: Any) -> list[dict[str, Any]]:
        """Returns nothing: MongoDB has no check constraints."""
        self._table(connection, table_name, schema)
        return []


class MongopipeSrvDialect(MongopipeDialect):
    """mongopipe+srv://: hosts and options come from DNS, as with mongodb+srv://."""

    driver = "srv"
    scheme = "mongodb+srv"
