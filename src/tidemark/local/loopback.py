"""HTTP to servers on this machine: no certificates are read for it, which costs more than a request, and no proxy is asked."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


def client(base_url: str = "", *, timeout: float, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client that threads may share; its timeout is in seconds."""
    return httpx.Client(base_url=base_url, timeout=timeout, headers=headers, verify=False, trust_env=False)
