"""A line to the broker that can be cut: events that are sent meanwhile arrive once it is mended, even if their sender has given up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Linux answers at every address of 127.0.0.0/8. The names that the broker gives in its answers are as long as ours, so ours fit in.
_BROKER, _OURS = b"127.0.0.1", b"127.0.0.2"
_PRODUCE = b"\0\0"  # the key of a request that carries events


class Line:
    """Leads to the broker at that port. Clients of `address` find no other way, because the broker's answers name that address too."""

    def __init__(self, port: int) -> None:
        self.address = f"{_OURS.decode()}:{port}"
        self._port = port
        self._whole = threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server((_OURS.decode(), port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """For events, and for what follows them on the same connection."""
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def close(self) -> None:
        self.mend()
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection((_BROKER.decode(), self._port))
                self._ends += [client, broker]
                threading.Thread(target=self._requests, args=(client, broker), daemon=True).start()
                threading.Thread(target=self._answers, args=(broker, client), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket) -> None:
        """The broker's side stays open when the client ends, as a network delivers what it has taken."""
        with suppress(OSError):
            while request := _frame(client):
                if request[4:6] == _PRODUCE:
                    self._whole.wait()
                broker.sendall(request)

    def _answers(self, broker: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answer := _frame(broker):
                client.sendall(answer.replace(_BROKER, _OURS))


def _frame(connection: socket.socket) -> bytes:
    """The next request or answer with its length; empty where the connection has ended."""
    size = connection.recv(4, socket.MSG_WAITALL)
    return size + connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL) if len(size) == 4 else b""


@contextmanager
def line(port: int) -> Iterator[Line]:
    found = Line(port)
    try:
        yield found
    finally:
        found.close()
