"""Stands between a client and MongoDB: loses requests and answers, and lets something happen before a request arrives."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tidemark.settings import settings

_HEADER = struct.Struct("<iiii")  # length, request id, id of the request that is answered, operation
_NAME_AT = _HEADER.size + 10  # flags, kind of section, document's length, type of the first element


class Proxy:
    """Listens on a port of its own. `lost` counts what has been lost, by command."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()  # still to be lost, by command
        self._answers: Counter[str] = Counter()
        self._meanwhile: dict[str, Callable[[], object]] = {}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"

    def lose_request(self, command: str, times: int = 1) -> None:
        """The next such requests never reach MongoDB, and the connection breaks."""
        self._requests[command] += times

    def lose_answer(self, command: str, times: int = 1) -> None:
        """The next such requests are carried out, but the connection breaks before the answer is there."""
        self._answers[command] += times

    def meanwhile(self, command: str, action: Callable[[], object]) -> None:
        """Something that happens after the next such request has been sent and before it arrives."""
        self._meanwhile[command] = action

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection. MongoDB answers each request before the next one comes."""
        with client, socket.create_connection(("127.0.0.1", settings().mongodb_port)) as server, suppress(OSError):
            while request := _message(client):
                command = request[_NAME_AT : request.index(b"\0", _NAME_AT)].decode()
                if self._loses(self._requests, command):
                    return
                if action := self._meanwhile.pop(command, None):
                    action()
                server.sendall(request)
                answer = _message(server)
                if self._loses(self._answers, command):
                    return
                client.sendall(answer)

    def _loses(self, due: Counter[str], command: str) -> bool:
        with self._lock:
            if not due[command]:
                return False
            due[command] -= 1
            self.lost[command] += 1
            return True


def _message(connection: socket.socket) -> bytes:
    """The next message; empty where the connection has ended."""
    start = connection.recv(_HEADER.size, socket.MSG_WAITALL)
    if len(start) < _HEADER.size:
        return b""
    return start + connection.recv(_HEADER.unpack(start)[0] - _HEADER.size, socket.MSG_WAITALL)


@contextmanager
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    try:
        yield running
    finally:
        running.close()
