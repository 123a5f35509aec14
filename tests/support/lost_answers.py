"""A proxy that loses answers: what was asked has been done, and who asked does not hear of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Losing:
    """Loses the answers whose number, from 0, `lost` says. `answers` counts them all."""

    url: str
    lost: Callable[[int], bool]
    answers: int = 0
    swallowed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def passes(self, data: bytes) -> bool:
        """Does this piece of what the server sends go on to the client?"""
        if not data.startswith(b"HTTP/1.1 "):
            return True
        with self.lock:
            number = self.answers
            self.answers += 1
            self.swallowed += self.lost(number)
            return not self.lost(number)


@contextmanager
def losing(url: str, lost: Callable[[int], bool]) -> Iterator[Losing]:
    """A proxy before the server at that URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    found = Losing(f"http://127.0.0.1:{listener.getsockname()[1]}", lost)

    def forward(source: socket.socket, target: socket.socket, passes: Callable[[bytes], bool]) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not passes(data):
                    break
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            threading.Thread(target=forward, args=(client, server, lambda _: True), daemon=True).start()
            threading.Thread(target=forward, args=(server, client, found.passes), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
