"""The API's connections: one client can neither take all of them nor hold them by sending or reading nothing."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import httpx
import pytest
from support.apis import Api, api
from support.broker import wait_for
from support.wording import Wording

SECONDS = 60  # only guards against hanging
LONG = "300"  # a timeout that does not end within a test
HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "


def lone_api(**limits: str) -> AbstractContextManager[Api]:
    """An API that needs no Kafka, because nothing is posted."""
    return api(wait=False, kafka_bootstrap_servers="127.0.0.1:1", api_acknowledge_seconds="1", **limits)


def connect(running: Api, source: str = "127.0.0.1") -> socket.socket:
    host, _, port = running.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), SECONDS, (source, 0))


@contextmanager
def silent(running: Api, source: str, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(running, source)) for _ in range(count)]


def received(connection: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    found = b""
    with suppress(ConnectionError):
        while data := connection.recv(65_536):
            found += data
    return found


def status_of(answer: bytes) -> str:
    return answer.split(b" ", 2)[1].decode() if answer else "nothing"


def get(connection: socket.socket, path: str = "/") -> bytes:
    """The answer to a request on a connection that stays open."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    found = b""
    while not found.endswith(b"}"):
        found += next_bytes(connection)
    return found


def next_bytes(connection: socket.socket) -> bytes:
    """Raises ConnectionError if the server has ended the connection."""
    if data := connection.recv(65_536):
        return data
    raise ConnectionError


def figure(running: Api, name: str) -> float:
    lines = running.http.get("/metrics").text.splitlines()
    return next(float(line.removeprefix(f"{name} ")) for line in lines if line.startswith(f"{name} "))


def test_silent_connections_of_one_client_keep_nobody_out(wording: Wording) -> None:
    with lone_api(api_headers_seconds=LONG, api_idle_seconds=LONG) as running:
        with silent(running, "127.0.0.2", 600) as connections:
            refused = connections[100:]
            assert Counter(status_of(received(one)) for one in refused) == {"429": 500}
            assert running.http.get("/").status_code == 200
            with httpx.Client(base_url=running.url, transport=httpx.HTTPTransport(local_address="127.0.0.3")) as other:
                assert other.get("/").status_code == 200
            # Those of the client that are within the limit are served.
            assert status_of(get(connections[0])) == status_of(get(connections[99])) == "200"
            with connect(running, "127.0.0.2") as one_more:
                head, _, detail = received(one_more).decode().partition("\r\n\r\n")
                assert "Retry-After: 5" in head
                wording.check(detail)
            assert figure(running, 'tidemark_api_closed_connections_total{reason="too many of one client"}') == 501
        wait_for(lambda: figure(running, "tidemark_api_connections") == 1)
        with connect(running, "127.0.0.2") as again:
            assert status_of(get(again)) == "200"


def test_too_many_connections_of_all_clients_disturb_no_open_one(wording: Wording) -> None:
    limits = {"api_connections": "30", "api_connections_per_client": "12"}
    with lone_api(api_headers_seconds=LONG, api_idle_seconds=LONG, **limits) as running, ExitStack() as stack:
        assert running.http.get("/").status_code == 200
        assert [len(stack.enter_context(silent(running, f"127.0.0.{number}", 10))) for number in (2, 3, 4)] == [10, 10, 10]
        with connect(running, "127.0.0.5") as one_more:
            answer = received(one_more)
            assert status_of(answer) == "503"
            wording.check(answer.decode().partition("\r\n\r\n")[2])
        assert running.http.get("/").status_code == 200
        assert figure(running, 'tidemark_api_closed_connections_total{reason="too many"}') >= 1
        assert running.stop() == 0


def trickle(connection: socket.socket) -> None:
    """Sends a byte after the other until the server ends the connection."""
    until = time.monotonic() + SECONDS
    with suppress(ConnectionError):
        while time.monotonic() < until:
            connection.sendall(b"x")
            time.sleep(0.02)
        raise AssertionError("the server takes one byte after the other, for ever")


@pytest.fixture(scope="module")
def impatient() -> Iterator[Api]:
    with lone_api(api_headers_seconds="1", api_idle_seconds="1", api_body_seconds="1") as found:
        yield found
        assert "Traceback" not in found.text()


def nothing(_: socket.socket) -> None:
    pass


def half_a_request(connection: socket.socket) -> None:
    connection.sendall(HALF)


def half_of_another_request(connection: socket.socket) -> None:
    get(connection)
    connection.sendall(HALF)


def one_request(connection: socket.socket) -> None:
    get(connection)


def one_byte_after_the_other(connection: socket.socket) -> None:
    connection.sendall(HALF)
    trickle(connection)


def half_in_the_packet_of_a_request(connection: socket.socket) -> None:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + HALF)
    assert status_of(next_bytes(connection)) == "200"


def a_body_that_has_been_answered(connection: socket.socket) -> None:
    connection.sendall(b"POST /Category HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n")
    assert status_of(next_bytes(connection)) == "415"
    trickle(connection)


@pytest.mark.parametrize(
    "send",
    [
        nothing,
        half_a_request,
        one_request,
        half_of_another_request,
        half_in_the_packet_of_a_request,
        one_byte_after_the_other,
        a_body_that_has_been_answered,
    ],
)
def test_a_slow_client_is_disconnected(impatient: Api, send: Callable[[socket.socket], None]) -> None:
    with connect(impatient) as connection:
        with suppress(ConnectionError):  # on a busy machine the end may come before everything is sent
            send(connection)
        received(connection)


@pytest.mark.parametrize("send", [half_a_request, half_of_another_request])
def test_half_a_request_is_answered(impatient: Api, send: Callable[[socket.socket], None], wording: Wording) -> None:
    for _ in range(60):  # on a busy machine the first half may come too late for an answer
        with connect(impatient) as connection, suppress(ConnectionError):
            send(connection)
            if left := received(connection):
                assert status_of(left) == "408"
                wording.check(left.decode().partition("\r\n\r\n")[2])
                return
    raise AssertionError("the connection is closed without an answer")


def test_a_client_that_reads_nothing_is_disconnected(impatient: Api) -> None:
    with connect(impatient) as connection, suppress(ConnectionError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            connection.settimeout(SECONDS)
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        raise AssertionError("the server answers for ever")


def test_a_trusted_proxy_opens_any_number_of_connections() -> None:
    limits = {"api_connections_per_client": "2", "api_trusted_proxies": "127.0.0.3, 10.0.0.0/8"}
    with lone_api(api_headers_seconds=LONG, **limits) as running:
        with silent(running, "127.0.0.3", 10) as connections:
            assert {status_of(get(one)) for one in connections} == {"200"}
        with silent(running, "127.0.0.2", 3) as connections:
            assert status_of(received(connections[2])) == "429"


BODY = 100_000


def begin_body(connection: socket.socket, count: int) -> None:
    """A post of which the server receives so many bytes and waits for more."""
    head = f"POST /Category/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n"
    connection.sendall(head.encode() + b" " * count)


def test_unfinished_bodies_of_one_client_keep_nobody_out(wording: Wording) -> None:
    limits = {"api_body_bytes": str(BODY), "api_memory_bytes": str(5 * BODY), "api_memory_bytes_per_client": str(2 * BODY)}
    with lone_api(api_body_seconds=LONG, **limits) as running, ExitStack() as stack:

        def held() -> float:
            return figure(running, "tidemark_api_body_bytes")

        def begin(source: str, bodies: int) -> None:
            for one in stack.enter_context(silent(running, source, bodies)):
                before = held()
                begin_body(one, BODY - 10_000)
                wait_for(lambda before=before: held() >= before + BODY - 10_000)

        begin("127.0.0.2", 2)
        with connect(running, "127.0.0.2") as one_more:
            begin_body(one_more, BODY - 10_000)
            head, _, detail = next_bytes(one_more).decode().partition("\r\n\r\n")
            assert status_of(head.encode()) == "429"
            assert "retry-after: 5" in head.lower()
            wording.check(detail or next_bytes(one_more).decode(), "one client")
        begin("127.0.0.3", 2)
        begin("127.0.0.4", 1)
        with connect(running, "127.0.0.5") as one_more:
            begin_body(one_more, BODY - 10_000)
            head, _, detail = next_bytes(one_more).decode().partition("\r\n\r\n")
            assert status_of(head.encode()) == "503"
            assert "retry-after: 5" in head.lower()
            wording.check(detail or next_bytes(one_more).decode(), "all clients")
        stack.close()
        wait_for(lambda: held() == 0)
        with connect(running, "127.0.0.2") as again:
            begin_body(again, BODY)
            assert status_of(next_bytes(again)) == "422", "a whole body, of a client that holds nothing any more"
