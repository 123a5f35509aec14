"""Connection URLs: MongoDB's URLs with additional options for mongopipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pymongo.uri_parser import parse_uri

from mongopipe.errors import InterfaceError, translated


@dataclass(frozen=True)
class Options:
    """The options of mongopipe.

    `max_time_ms`: time limit of a query on the server in milliseconds; 0 means no limit.
    `batch_size`: documents in one round trip.
    `sample_size`: documents in the sample that determines the columns of a collection without a $jsonSchema; 0 means all documents.
    `schema_seconds`: lifetime of cached columns in seconds.
    `snapshot`: whether each query reads one snapshot, if the server supports it (replica sets and sharded clusters).
    """

    max_time_ms: int = 0
    batch_size: int = 1000
    sample_size: int = 1000
    schema_seconds: float = 300.0
    snapshot: bool = True

    def changed(self, values: Mapping[str, Any]) -> Options:
        """Returns these options with some replaced. Values have the option's type or are text from a URL. Raises InterfaceError."""
        try:
            return replace(self, **{name: _PARSERS[name](value) for name, value in values.items()})
        except (KeyError, ValueError) as error:
            raise InterfaceError(f"invalid option: {error}") from error


def _flag(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return text == "true"


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "max_time_ms": int,
    "batch_size": int,
    "sample_size": int,
    "schema_seconds": float,
    "snapshot": _flag,
}
NAMES = frozenset(each.name for each in fields(Options))


def split(url: str) -> tuple[str, str, Options]:
    """Splits a URL into MongoDB's own URL, the database and mongopipe's options. Raises InterfaceError for an invalid URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("mongodb", "mongodb+srv"):
        raise InterfaceError(f"the URL must start with mongodb:// or mongodb+srv://, not {parts.scheme}://")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = Options().changed({name: value for name, value in pairs if name in NAMES})
    plain = parts._replace(query=urlencode([pair for pair in pairs if pair[0] not in NAMES], quote_via=quote)).geturl()
    database = parts.path.lstrip("/")
    if not database:
        raise InterfaceError("the URL must name a database: mongodb://host:port/database")
    if parts.scheme == "mongodb":
        try:
            with translated():
                database = parse_uri(plain)["database"] or database
        except ValueError as error:
            raise InterfaceError(f"invalid URL: {error}") from error
    return plain, database, options
