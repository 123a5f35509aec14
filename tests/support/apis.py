"""The HTTP API as tests run it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from support.servers import free_ports

START_SECONDS = 90


@dataclass
class Api:
    """A running API."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def post(self, path: str, content: bytes, kind: str = "application/json", **headers: str) -> httpx.Response:
        return self.http.post(path, content=content, headers={"Content-Type": kind, **headers})

    def stop(self) -> int:
        """SIGTERM, as supervisor does; the exit status."""
        self.process.terminate()
        return self.process.wait(60)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def api(*, wait: bool = True, port: int | None = None, **environment: str) -> Iterator[Api]:
    """Starts the API with the settings of this process and these; waits until records can be posted."""
    number = port or free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="tidemark-api-") as home:
        log = Path(home) / "log"
        variables: dict[str, Any] = {
            **os.environ,
            "TIDEMARK_API_PORT": str(number),
            **{f"TIDEMARK_{name.upper()}": value for name, value in environment.items()},
        }
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", "tidemark.ingest.api"], env=variables, stdout=output, stderr=output)
        running = Api(process, f"http://127.0.0.1:{number}", log)
        try:
            _wait_until_up(running, healthy=wait)
            yield running
        finally:
            running.http.close()
            process.kill()
            process.wait()


def _wait_until_up(running: Api, *, healthy: bool) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            if running.http.get("/health").is_success or not healthy:
                return
        except httpx.HTTPError:
            pass
        if running.process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"the API has not started:\n{running.text()[-3000:]}")
        time.sleep(0.1)
