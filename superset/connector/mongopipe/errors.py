"""The exceptions of PEP 249, and the conversion of MongoDB's errors to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo import errors as mongo


class Warning(Exception):
    """An important warning. mongopipe raises none."""


class Error(Exception):
    """The base class of all errors of mongopipe."""


class InterfaceError(Error):
    """The interface is used incorrectly: a closed cursor, a malformed URL."""


class DatabaseError(Error):
    """The base class of errors of the database."""


class DataError(DatabaseError):
    """A value cannot be processed: a cast fails, a number is out of range."""


class OperationalError(DatabaseError):
    """The server cannot be reached, exceeds its time or memory limit, or shuts down."""


class IntegrityError(DatabaseError):
    """Never raised: mongopipe does not write."""


class InternalError(DatabaseError):
    """The cursor or the translator is in an invalid state."""


class ProgrammingError(DatabaseError):
    """The statement is invalid: a syntax error, an unknown table or column, a type mismatch."""


class NotSupportedError(DatabaseError):
    """The statement may be valid but has a construct without a translation. The message names the construct."""


class QueryCancelled(OperationalError):
    """The query was cancelled, or exceeded its time limit (maxTimeMS)."""


_CANCELLED = frozenset({50, 237, 262, 11601})  # MaxTimeMSExpired, CursorKilled, ExceededTimeLimit, Interrupted
_DATA = frozenset({241, 2, 16608, 16609, 16554, 28765, 28714, 28680, 40485, 4848401})  # ConversionFailure and arithmetic on bad values


def from_mongo(error: Exception) -> Error:
    """Converts an exception of pymongo or bson to a DB-API error."""
    text = str(error)
    if isinstance(error, mongo.OperationFailure):
        if isinstance(error.details, dict):
            text = str(error.details.get("errmsg", text))
        text = f"{text} (MongoDB code {error.code})"
        if error.code in _CANCELLED:
            return QueryCancelled(text)
        return DataError(text) if error.code in _DATA else OperationalError(text)
    if isinstance(error, mongo.ConfigurationError | mongo.InvalidURI | mongo.InvalidOperation):
        return InterfaceError(text)
    if isinstance(error, mongo.PyMongoError):
        return OperationalError(text)
    return DataError(text)


@contextmanager
def translated() -> Iterator[None]:
    """Converts exceptions of MongoDB's client inside the block to errors of this module."""
    try:
        yield
    except (mongo.PyMongoError, BSONError, OverflowError) as error:
        raise from_mongo(error) from error
