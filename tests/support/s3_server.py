"""An S3 server in memory: `python s3_server.py PORT`, with the packages of s3-server.lock.

It treats one write after the other, so that a condition and its write are one step, as in S3. A test steers it by POST /steer:
`meet` holds writes of keys that end so until two have come, `heed` says whether conditions count. GET /steer tells the writes so far.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BARRIER_SECONDS = 300  # a driver that fails never comes


class Steered:
    """moto's server, and what a test does to it."""

    def __init__(self) -> None:
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.RLock()
        self._came = threading.Condition()
        self._waiting: Counter[str] = Counter()
        self._meet, self._heed = "", True
        self._writes: list[tuple[str, str, int]] = []

    def __call__(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        key, is_write = request["PATH_INFO"], request["REQUEST_METHOD"] == "PUT"
        if key == "/steer":
            return self._steer(request, respond)
        if is_write and self._meet and key.endswith(self._meet):
            with self._came:
                self._waiting[key] += 1
                self._came.notify_all()
                self._came.wait_for(lambda: self._waiting[key] > 1, BARRIER_SECONDS)
        condition = request.get("HTTP_IF_NONE_MATCH", "")
        if not self._heed:
            request.pop("HTTP_IF_NONE_MATCH", None)
        found: list[str] = []

        def noting(status: str, *rest: Any) -> Any:
            found.append(status)
            return respond(status, *rest)

        with self._one_at_a_time:
            answer = [*self._s3(request, noting)]
            if is_write:
                self._writes.append((key, condition, int(found[-1].split()[0])))
        return answer

    def _steer(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if request["REQUEST_METHOD"] == "POST":
            given = json.load(io.BytesIO(request["wsgi.input"].read(int(request["CONTENT_LENGTH"]))))
            self._meet, self._heed = given.get("meet", ""), given.get("heed", True)
        respond("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self._writes).encode()]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), Steered(), threaded=True, request_handler=Quiet).serve_forever()
