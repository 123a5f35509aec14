"""HTTP to servers on this machine: without loading certificates, which takes longer than a request, and without proxies."""

from __future__ import annotations

from collections.abc import Mapping

import httpx


def client(base_url: str = "", *, timeout: float, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client that threads may share; `timeout` is in seconds."""
    return httpx.Client(base_url=base_url, timeout=timeout, headers=headers, verify=False, trust_env=False)
