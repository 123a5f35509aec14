"""The exceptions of PEP 249, and the translation of MongoDB's own errors into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo import errors as mongo


class Warning(Exception):
    """An important warning; mongopipe raises none."""


class Error(Exception):
    """Any error of this package."""


class InterfaceError(Error):
    """The interface was used wrongly: a closed cursor, a malformed URL."""


class DatabaseError(Error):
    """Anything that concerns the database."""


class DataError(DatabaseError):
    """A value could not be processed: a cast that fails, a number out of range."""


class OperationalError(DatabaseError):
    """The server could not be reached, ran out of time or memory, or was told to stop."""


class IntegrityError(DatabaseError):
    """Never raised: nothing is written."""


class InternalError(DatabaseError):
    """The cursor or the translator is in a state it should not be in."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, an unknown table or column, a type that does not fit."""


class NotSupportedError(DatabaseError):
    """The statement may be right, but has a construct that is not translated; the message names it."""


class QueryCancelled(OperationalError):
    """The query was cancelled, or ran longer than it may (maxTimeMS)."""


_CANCELLED = frozenset({50, 237, 262, 11601})  # MaxTimeMSExpired, CursorKilled, ExceededTimeLimit, Interrupted
_DATA = frozenset({241, 2, 16608, 16609, 16554, 28765, 28714, 28680, 40485, 4848401})  # ConversionFailure and arithmetic on bad values


def from_mongo(error: Exception) -> Error:
    """The DB-API error that says what pymongo's `error` says."""
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
    """Raises what MongoDB's client raises inside as errors of this module."""
    try:
        yield
    except (mongo.PyMongoError, BSONError, OverflowError) as error:
        raise from_mongo(error) from error
