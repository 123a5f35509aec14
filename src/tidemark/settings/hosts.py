"""The host names that requests may bear: a page of another site can make a browser reach a server of this machine under its own name."""

from __future__ import annotations

from urllib.parse import urlsplit

from tidemark.settings.sections import LOOPBACK, NetworkSettings, separated


def trusted_hosts(of: NetworkSettings, host: str, *urls: str) -> list[str]:
    """The names under which a server that listens on `host` answers; none: any. `urls` are those under which people reach it.

    A server beyond loopback has passwords, and names that only its network knows, so it is restricted by the setting only.
    """
    named = separated(of.trusted_hosts)
    if not named and host not in LOOPBACK:
        return []
    # Some servers compare an IPv6 address with its brackets, some without.
    return list(dict.fromkeys([*named, *LOOPBACK, "[::1]", *(name for url in urls if (name := urlsplit(url).hostname))]))
