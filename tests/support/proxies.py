"""The proxy of docker-compose.yaml, natively: nginx with the project's configuration, on ports of its own."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from support.servers import free_ports

from tidemark.local import certificate
from tidemark.settings import CHECKOUT, Settings

START_SECONDS = 60
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
PACKAGES = {"nginx-light": lambda: bool(shutil.which("nginx")), "libnginx-mod-stream": MODULE.exists}
# What the image has by itself: Debian's loads the module from a file, and root's workers would be another user.
DIRECTIVES = f"load_module {MODULE};{' user root;' if os.getuid() == 0 else ''}"


def missing_packages() -> list[str]:
    """Debian's packages that this machine does not have."""
    return [name for name, is_there in PACKAGES.items() if not is_there()]


@dataclass(frozen=True)
class Proxy:
    airflow: str  # its URL here, as those of the others
    superset: str
    api: str
    certificate: Path
    log: Path

    def client(self, url: str, source: str = "127.0.0.1") -> httpx.Client:
        """A client that trusts the certificate, with an address of its own."""
        transport = httpx.HTTPTransport(local_address=source, verify=ssl.create_default_context(cafile=str(self.certificate)))
        return httpx.Client(base_url=url, transport=transport, timeout=60)


@contextmanager
def proxy(*, connections: int = 100, **served: str) -> Iterator[Proxy]:
    """Before these servers (`airflow`, `superset`, `api`: HOST:PORT), with a certificate made for it."""
    names = ("airflow", "superset", "api")
    health, *ports = free_ports(1 + len(names))
    with tempfile.TemporaryDirectory(prefix="tidemark-proxy-") as home:
        folder = certificate.provide(Settings(home=home), datetime.now(UTC))
        log = Path(home) / "log"
        environment = {
            **os.environ,
            **{f"PROXY_LISTEN_{name.upper()}": f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)},
            **{f"PROXY_{name.upper()}": served.get(name, "127.0.0.1:1") for name in names},
            "PROXY_HEALTH_PORT": str(health),
            "PROXY_CONNECTIONS": str(connections),
            "PROXY_CERTIFICATE": str(folder),
            "PROXY_RESOLVER": "127.0.0.1",
            "PROXY_FOLDER": f"{home}/proxy",
            "PROXY_DIRECTIVES": DIRECTIVES,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(["sh", str(CHECKOUT / "containers" / "proxy.sh")], env=environment, stdout=output, stderr=output)
        try:
            _wait_until_up(process, health, log)
            yield Proxy(*(f"https://127.0.0.1:{port}" for port in ports), certificate=folder / certificate.CERTIFICATE, log=log)
        finally:
            process.terminate()
            process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"nginx has not started:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
