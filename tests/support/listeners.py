"""Whom alerts are sent to: a mail server and an HTTP server that keep what they get, or refuse it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

Server = TypeVar("Server", bound=socketserver.BaseServer)


class MailServer(socketserver.ThreadingTCPServer):
    """An SMTP server without encryption or accounts. `refuses` makes it turn away every message."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MailSession)
        self.mails: list[EmailMessage] = []
        self.refuses = False

    @property
    def connection(self) -> str:
        """As Airflow takes a connection from the environment."""
        plain = {"disable_ssl": True, "disable_tls": True, "retry_limit": 0, "from_email": "tidemark@shop.example"}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.server_address[1], "extra": plain})


class _MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._reply("220 tests")
        while line := self.rfile.readline():
            match line.split()[0].upper():
                case b"EHLO" | b"HELO" | b"MAIL" | b"RSET":
                    self._reply("250 yes")
                case b"RCPT":
                    self._reply("451 not now" if self.server.refuses else "250 yes")
                case b"DATA":
                    self._reply("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    content = b"".join(one.removeprefix(b".") for one in lines)
                    self.server.mails.append(message_from_bytes(content, policy=policy.default))
                    self._reply("250 taken")
                case _:
                    self._reply("221 farewell")
                    return

    def _reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class Webhook(ThreadingHTTPServer):
    """Takes posts of JSON. `refuses` makes it answer 503."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.posts: list[tuple[str, dict[str, Any]]] = []  # path and content
        self.headers: list[dict[str, str]] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Post(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.refuses:
            self.server.posts.append((self.path, content))
            self.server.headers.append(dict(self.headers))
        self.send_response(503 if self.server.refuses else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def listening(server: Server) -> Iterator[Server]:
    """Lets a server answer meanwhile."""
    with server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()
