"""The Prometheus metrics of the API."""

from __future__ import annotations

import time
from itertools import product

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidemark.ingest.files import FileKind

ACKNOWLEDGED, REFUSED, NOT_ACKNOWLEDGED = OUTCOMES = ("acknowledged", "refused", "not acknowledged")

RECORDS = Counter("tidemark_api_records", "Records by outcome", ("kind", "outcome"))
SECONDS = Histogram(
    "tidemark_api_request_seconds",
    "Time from the start of a request to its answer",
    ("route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BODIES = Gauge("tidemark_api_body_bytes", "Bytes of request bodies in memory")
WAITING = Gauge("tidemark_api_unacknowledged_bytes", "Bytes of single records that Kafka has not acknowledged yet")
CONNECTIONS = Gauge("tidemark_api_connections", "Open connections")
CLOSED = Counter("tidemark_api_closed_connections", "Connections that the server refused or closed, by reason", ("reason",))
TOO_MANY, TOO_MANY_OF_CLIENT, TOO_SLOW = REASONS = ("too many", "too many of one client", "too slow")
KEYS = Counter("tidemark_api_key_requests", "Requests with a valid API key, by the name of the key", ("key",))
WRONG_KEYS = Counter("tidemark_api_wrong_keys", "Requests without a valid API key")

for _reason in REASONS:
    CLOSED.labels(_reason)
for _kind, _outcome in product(FileKind, OUTCOMES):
    RECORDS.labels(str(_kind), _outcome)  # so that it is exported as 0


class Measured:
    """Measures the duration of every request, by route and status."""

    ROUTES = frozenset(("/", "/health", "/metrics", "/Category", "/Category/batch", "/AmazonProduct", "/AmazonProduct/batch"))

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = scope["path"] if scope["path"] in self.ROUTES else "other"
            SECONDS.labels(route, status).observe(time.perf_counter() - started)
