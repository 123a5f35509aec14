"""Who a client is: its address, and the API key that it sends."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil

_WINDOW_SECONDS = 60.0
_MAX_CLIENTS = 10_000
_MAX_NAME = 100  # characters
_IPV6_PREFIX = 64  # what a provider gives to one customer


def client_of(host: str) -> str:
    """What limits apply to: an IPv4 address, or a network of IPv6, whose owner has all of its addresses."""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:_MAX_NAME]  # a proxy may name its clients in another way
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), _IPV6_PREFIX), strict=False))


class Keys:
    """The API keys by name."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}

    def name_of(self, given: bytes) -> str | None:
        """The name of a key; None if it is not valid. It takes the same time whatever is given."""
        digest, found = _digest(given), None
        for name, known in self._digests.items():
            if secrets.compare_digest(digest, known):
                found = name
        return found


class WrongKeys:
    """The clients that have sent wrong keys, at most _MAX_CLIENTS of them.

    A client that has sent `most` wrong keys is refused until _WINDOW_SECONDS after the first of them: also with a valid key, because
    otherwise it would learn which one is valid.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()  # of wrong keys, with the end of the window; oldest first

    def refused_for(self, client: str) -> int:
        """Seconds until the client may try again; 0 if it may now."""
        count, end = self._counts.get(client, (0, 0.0))
        return max(0, ceil(end - self._clock())) if count >= self._most else 0

    def note(self, client: str) -> None:
        """Counts a wrong key."""
        now = self._clock()
        while self._counts and next(iter(self._counts.values()))[1] <= now:
            self._counts.popitem(last=False)
        count, end = self._counts.get(client, (0, now + _WINDOW_SECONDS))
        self._counts[client] = count + 1, end
        if len(self._counts) > _MAX_CLIENTS:
            self._counts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._counts)


def _digest(key: bytes) -> bytes:
    """Of equal length for all keys, so that a comparison reveals no length."""
    return sha256(key).digest()
