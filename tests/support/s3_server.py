"""An S3 server in memory: `python s3_server.py PORT`, with the packages of s3-server.lock.

It treats one write after the other, so that a condition and its write are one step, as in S3. A test controls it by POST /control:
`barrier` holds writes of keys with that suffix until two have arrived, `conditional_writes` says whether conditions count. GET /control
returns the writes so far.
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


class ControlledServer:
    """moto's server under the control of a test."""

    def __init__(self) -> None:
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.RLock()
        self._came = threading.Condition()
        self._waiting: Counter[str] = Counter()
        self._barrier, self._conditional_writes = "", True
        self._writes: list[tuple[str, str, int]] = []

    def __call__(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        key, is_write = request["PATH_INFO"], request["REQUEST_METHOD"] == "PUT"
        if key == "/control":
            return self._configure(request, respond)
        if is_write and self._barrier and key.endswith(self._barrier):
            with self._came:
                self._waiting[key] += 1
                self._came.notify_all()
                self._came.wait_for(lambda: self._waiting[key] > 1, BARRIER_SECONDS)
        condition = request.get("HTTP_IF_NONE_MATCH", "")
        if not self._conditional_writes:
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

    def _configure(self, request: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if request["REQUEST_METHOD"] == "POST":
            given = json.load(io.BytesIO(request["wsgi.input"].read(int(request["CONTENT_LENGTH"]))))
            self._barrier, self._conditional_writes = given.get("barrier", ""), given.get("conditional_writes", True)
        respond("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self._writes).encode()]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), ControlledServer(), threaded=True, request_handler=Quiet).serve_forever()
