"""The state as pages look at it, many and often: one question at a time, and an answer soon, also where MongoDB gives none."""

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
from tidemark.serving.ledger import NotPrepared
from tidemark.serving.status import state
from tidemark.settings import settings

MOST_SECONDS = 3.0  # that MongoDB may take to answer
FRESH_SECONDS = 1.0  # for which an answer serves all who ask
OLD_SECONDS = 10.0  # after which it serves nobody


class Look(NamedTuple):
    """The state, or what stands in the way of it in words for people."""

    state: Document | None
    problem: str | None


class CachedStatus:
    """CachedStatus of one process. Its client stays: it finds a MongoDB that was away again by itself."""

    def __init__(self) -> None:
        self._one_at_a_time = Lock()
        self._client: MongoClient[Document] | None = None
        self._last = Look(None, None)
        self._taken = -math.inf

    def now(self) -> Look:
        """Of this moment, or not much older. Who comes while somebody looks takes the last one: a silent MongoDB keeps one waiting."""
        if not self._one_at_a_time.acquire(blocking=self._age() > OLD_SECONDS):
            return self._last
        try:
            if self._age() > FRESH_SECONDS:
                self._last = self._look()
                self._taken = time.monotonic()
            return self._last
        finally:
            self._one_at_a_time.release()

    def _age(self) -> float:
        return time.monotonic() - self._taken

    def _look(self) -> Look:
        try:
            if self._client is None:
                self._client = connect(within_seconds=MOST_SECONDS)
            with pymongo.timeout(MOST_SECONDS):
                return Look(state(database_of(self._client)), None)
        except NotPrepared as reason:
            return Look(None, str(reason))
        except PyMongoError as error:
            return Look(None, in_words(error))


def in_words(error: PyMongoError) -> str:
    """What MongoDB's silence or refusal means, and what to do."""
    if error.timeout or isinstance(error, ConnectionFailure):
        hosts = urlsplit(settings().mongodb).netloc.rpartition("@")[2]
        return f"MongoDB ({hosts}) does not answer within {MOST_SECONDS:.0f} s: see `make status` and `make logs PROGRAM=mongodb`"
    return f"MongoDB refuses to tell: {error}"
