"""The state for pages with many viewers: one query at a time, and a timely answer even if MongoDB gives none."""

from __future__ import annotations

import math
import time
from threading import Lock
from typing import NamedTuple
from urllib.parse import urlsplit

import pymongo
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, PyMongoError

from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.documents import StatusDocument
from tidemark.serving.ledger import NotPrepared
from tidemark.serving.status import state
from tidemark.settings.sections import MongodbSettings

MAX_SECONDS = 3.0  # timeout of MongoDB
FRESH_SECONDS = 1.0  # for this long an answer is returned to every caller
OLD_SECONDS = 10.0  # after this time callers wait for a new answer


class Answer(NamedTuple):
    """The state, or the problem that prevents reading it, as text."""

    state: StatusDocument | None
    problem: str | None


class CachedStatus:
    """The cached state of one process. Its client is kept: it reconnects to MongoDB by itself."""

    def __init__(self, of: MongodbSettings) -> None:
        self._of = of
        self._one_at_a_time = Lock()
        self._client: MongoClient[Document] | None = None
        self._last = Answer(None, None)
        self._taken = -math.inf

    def now(self) -> Answer:
        """The current state, or a recent one. During a query other callers get the last answer, so a silent MongoDB blocks only one."""
        if not self._one_at_a_time.acquire(blocking=self._age() > OLD_SECONDS):
            return self._last
        try:
            if self._age() > FRESH_SECONDS:
                self._last = self._query()
                self._taken = time.monotonic()
            return self._last
        finally:
            self._one_at_a_time.release()

    def _age(self) -> float:
        return time.monotonic() - self._taken

    def _query(self) -> Answer:
        try:
            if self._client is None:
                self._client = connect(self._of.mongodb, within_seconds=MAX_SECONDS)
            with pymongo.timeout(MAX_SECONDS):
                return Answer(state(database_of(self._client, self._of.database)), None)
        except NotPrepared as reason:
            return Answer(None, str(reason))
        except PyMongoError as error:
            return Answer(None, explain(error, self._of.mongodb))


def explain(error: PyMongoError, url: str) -> str:
    """An error of the MongoDB of a URL as text: what happened, and what to do."""
    if error.timeout or isinstance(error, ConnectionFailure):
        hosts = urlsplit(url).netloc.rpartition("@")[2]
        return f"MongoDB ({hosts}) does not answer within {MAX_SECONDS:.0f} s: see `make status` and `make logs PROGRAM=mongodb`"
    return f"MongoDB returned an error: {error}"
