"""The server's protocol with limits: of open connections, and of the time that a client may take for each part of a request.

uvicorn limits neither: it waits for ever for the headers of a request, and answers everybody 503 once too many connections are open.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum, auto
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import h11
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tidemark.ingest.api import metrics
from tidemark.ingest.api.bodies import RETRY_AFTER
from tidemark.ingest.api.clients import client_of
from tidemark.settings.sections import ApiSettings


class Connections:
    """The open connections of a server, by client."""

    def __init__(self, of: ApiSettings) -> None:
        self.of = of
        self.total = 0
        self._by_client: Counter[str] = Counter()

    def open(self, host: str) -> bytes | None:
        """Counts a new connection. One that exceeds a limit is not counted: the result is the answer to it."""
        client = client_of(host)
        if self._by_client[client] >= self.of.api_connections_per_client and not _is_in(host, self.of.trusted_proxies):
            metrics.CLOSED.labels(metrics.TOO_MANY_OF_CLIENT).inc()
            return _answer(HTTPStatus.TOO_MANY_REQUESTS, f"{client} has too many open connections: close some, or send it again later")
        if self.total >= self.of.api_connections:
            metrics.CLOSED.labels(metrics.TOO_MANY).inc()
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the server has too many open connections: send it again later")
        self.total += 1
        self._by_client[client] += 1
        return None

    def close(self, host: str) -> None:
        client = client_of(host)
        self.total -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]


class Awaited(Enum):
    """What a connection waits for."""

    HEADERS = auto()  # the rest of a request's headers
    ANSWER = auto()  # the application, which has timeouts of its own
    NEXT = auto()  # the first byte of another request
    REST = auto()  # the rest of a body that has been answered already
    READER = auto()  # the client reads what has been written
    END = auto()  # the client reads the last bytes, and the connection ends


class LimitedProtocol(H11Protocol):
    """One connection. Each state has a timeout, which no byte in between extends; at its end the connection is closed."""

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._open_connections, of = connections, connections.of
        self._seconds = {
            Awaited.HEADERS: of.api_headers_seconds,
            Awaited.NEXT: of.api_idle_seconds,
            Awaited.REST: of.api_body_seconds,
            Awaited.READER: of.api_body_seconds,
            Awaited.END: of.api_body_seconds,
        }
        self._awaited: Awaited | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._counted_host: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        refusal = self._open_connections.open(host)
        if refusal is None:
            self._counted_host = host
            self._wait_for(Awaited.HEADERS)
        else:
            self.connections.discard(self)  # no reason for uvicorn to answer others 503
            self._end(refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        if self._counted_host is not None:
            self._open_connections.close(self._counted_host)
            self._counted_host = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for(self._state(between_requests=Awaited.HEADERS))

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's timeout would end a connection whose client is still reading
        self._wait_for(self._state(between_requests=Awaited.NEXT))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for(self._state(between_requests=Awaited.NEXT))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._wait_for(self._state(between_requests=Awaited.NEXT))

    def _state(self, *, between_requests: Awaited) -> Awaited:
        if self.transport.is_closing():
            return Awaited.END
        if self.flow.write_paused:
            return Awaited.READER
        if self.cycle is not None and not self.cycle.response_complete:
            return Awaited.ANSWER
        return Awaited.REST if self.conn.their_state is h11.SEND_BODY else between_requests

    def _wait_for(self, awaited: Awaited) -> None:
        """Starts the timeout of a state when the connection enters it."""
        if awaited is self._awaited:
            return
        self._awaited = awaited
        self._cancel_timer()
        if awaited in self._seconds:
            self._timer = self.loop.call_later(self._seconds[awaited], self._time_out)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        if self._awaited is Awaited.NEXT:
            self._end()
            return
        metrics.CLOSED.labels(metrics.TOO_SLOW).inc()
        if self._awaited is not Awaited.HEADERS:
            self.transport.abort()
        elif self.conn.trailing_data[0]:
            seconds = self._seconds[Awaited.HEADERS]
            self._end(_answer(HTTPStatus.REQUEST_TIMEOUT, f"the headers were not received within {seconds:g} s: send the request again"))
        else:
            self._end()

    def _end(self, answer: bytes = b"") -> None:
        self.transport.write(answer)
        self.transport.close()
        self._wait_for(Awaited.END)


def protocol(of: ApiSettings) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn's option `http`."""
    connections = Connections(of)
    metrics.CONNECTIONS.set_function(lambda: connections.total)

    class Protocol(LimitedProtocol):
        def __init__(
            self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
        ) -> None:
            super().__init__(connections, config, server_state, app_state, _loop)

    return Protocol


def _is_in(host: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _answer(status: HTTPStatus, detail: str) -> bytes:
    """A whole response, for a connection that the application does not see."""
    body = orjson.dumps({"detail": detail})
    headers = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close", **RETRY_AFTER}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body
