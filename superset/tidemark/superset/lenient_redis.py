"""A cache in Redis that may be away: what it does not answer is not in the cache, and pages go on. Flask-Caching's raises an error."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask
from flask_caching.backends.rediscache import RedisCache
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

# Seconds. A request asks several times; whoever waits for a page must not wait for a cache.
_TIMEOUTS = {"socket_connect_timeout": 0.5, "socket_timeout": 2.0}


class LenientRedis(RedisCache):
    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], options: dict[str, Any]) -> RedisCache:
        found: RedisCache = super().factory(app, config, args, {**_TIMEOUTS, **options})
        return found

    def get(self, key: str) -> Any:
        return self._asked(super().get, None, key)

    def get_many(self, *keys: str) -> list[Any]:
        found: list[Any] = self._asked(super().get_many, [None for _ in keys], *keys)
        return found

    def has(self, key: str) -> bool:
        return bool(self._asked(super().has, False, key))

    def set(self, key: str, value: Any, timeout: int | None = None) -> Any:
        return self._asked(super().set, False, key, value, timeout)

    def set_many(self, mapping: Any, timeout: int | None = None) -> Any:
        return self._asked(super().set_many, [], mapping, timeout)

    def add(self, key: str, value: Any, timeout: int | None = None) -> Any:
        """True if Redis is away, as for somebody who finds nothing there."""
        return self._asked(super().add, True, key, value, timeout)

    def delete(self, key: str) -> bool:
        return bool(self._asked(super().delete, False, key))

    def delete_many(self, *keys: str) -> Any:
        return self._asked(super().delete_many, [], *keys)

    def clear(self) -> bool:
        return bool(self._asked(super().clear, False))

    def _asked(self, ask: Any, otherwise: Any, *arguments: Any) -> Any:
        try:
            return ask(*arguments)
        except RedisError as error:
            log.warning("Redis does not answer: %s", error)
            return otherwise
