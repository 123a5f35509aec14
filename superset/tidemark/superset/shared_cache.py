"""A cache that coalesces concurrent queries: many viewers of one live chart cost MongoDB one query.

The first request that misses the cache claims the key until it stores the answer or ends. Other requests for the key, in any process,
wait for that answer. The configuration is that of Flask-Caching's Redis cache (if CACHE_REDIS_URL is set) or its file cache.

dogpile.cache cannot replace the claims: it merges queries inside `get_or_create`, but Superset calls get and set separately. Its mutex for
files is one for all keys and waits without limit, so viewers of one chart would wait for another.
"""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any

from flask import Flask, g, has_request_context
from flask_caching.backends.base import BaseCache
from flask_caching.backends.filesystemcache import FileSystemCache

from tidemark.superset.lenient_redis import LenientRedis

# Lifetime of a claim, in case its process dies, and the longest wait; a request that has waited this long queries by itself.
WAIT_SECONDS = 60
POLL_SECONDS = 0.02
_CLAIMED = "tidemark_asked"  # attribute of a request: the keys it has claimed


class Files(FileSystemCache):
    """Makes add() as atomic as in Redis, across threads and processes; expired entries are replaced."""

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        beside = Path(self._path).with_suffix(".lock")  # outside the folder, whose files all count as entries
        with beside.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return not self.has(key) and bool(self.set(key, value, timeout))


class SharedCache(BaseCache):
    def __init__(self, answers: BaseCache, seconds: int) -> None:
        super().__init__(seconds)
        self._answers = answers

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], options: dict[str, Any]) -> SharedCache:
        kind = LenientRedis if config.get("CACHE_REDIS_URL") else Files
        made = cls(kind.factory(app, config, args, options), config["CACHE_DEFAULT_TIMEOUT"])
        app.teardown_request(lambda _: made.release_all())
        return made

    def get(self, key: str) -> Any:
        until = time.monotonic() + WAIT_SECONDS
        while (found := self._answers.get(key)) is None and has_request_context():
            if self._claims(key):
                # The answer may have been stored between the lookup and the claim.
                found = self._answers.get(key)
                if found is not None:
                    self._release(key)
                break
            if time.monotonic() > until:
                break
            time.sleep(POLL_SECONDS)
        return found

    def set(self, key: str, value: Any, timeout: int | None = None) -> bool | None:
        done: bool | None = self._answers.set(key, value, timeout)
        self._release(key)
        return done

    def add(self, key: str, value: Any, timeout: int | None = None) -> bool:
        return bool(self._answers.add(key, value, timeout))

    def has(self, key: str) -> bool:
        return bool(self._answers.has(key))

    def delete(self, key: str) -> bool:
        return bool(self._answers.delete(key))

    def clear(self) -> bool:
        return bool(self._answers.clear())

    def release_all(self) -> None:
        """Releases all claims at the end of a request, so that others can query if there is no answer."""
        for key in list(g.get(_CLAIMED, ())):
            self._release(key)

    def _claims(self, key: str) -> bool:
        claimed: set[str] = g.setdefault(_CLAIMED, set())
        if key not in claimed and self._answers.add(_claim(key), True, WAIT_SECONDS):
            claimed.add(key)
        return key in claimed

    def _release(self, key: str) -> None:
        claimed: set[str] = g.get(_CLAIMED, set()) if has_request_context() else set()
        if key in claimed:
            claimed.discard(key)
            self._answers.delete(_claim(key))


def _claim(key: str) -> str:
    return f"asked-{key}"
