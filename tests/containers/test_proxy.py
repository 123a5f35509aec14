"""The proxy of docker-compose.yaml before a real API: what clients can and cannot do through it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from support.apis import Api, api
from support.proxies import Proxy, missing_packages, proxy
from support.wording import Wording

from tidemark.ingest.api.document import CATEGORY
from tidemark.settings import CHECKOUT

SECONDS = 60  # only guards against hanging
CONNECTIONS = 30  # of one address
HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "
API_KEY = "the key"


@pytest.fixture(scope="module")
def behind() -> Iterator[Api]:
    """An API that trusts the proxy and allows few connections and wrong keys; nothing is stored, so it needs no Kafka."""
    with api(
        wait=False,
        kafka_bootstrap_servers="127.0.0.1:1",
        api_acknowledge_seconds="1",
        api_key=API_KEY,
        api_wrong_keys="3",
        api_connections_per_client="5",
        api_trusted_proxies="127.0.0.1",
        trusted_hosts="tidemark.example.com",
    ) as found:
        yield found


@pytest.fixture(scope="module")
def before(behind: Api) -> Iterator[Proxy]:
    if missing := missing_packages():
        message = f"Debian's {' and '.join(missing)} are not installed: apt-get install --no-install-recommends {' '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with proxy(connections=CONNECTIONS, api=behind.url.removeprefix("http://")) as found:
        yield found


def connect(url: str, source: str) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port), SECONDS, (source, 0))


def tls(before: Proxy, connection: socket.socket) -> ssl.SSLSocket:
    return ssl.create_default_context(cafile=str(before.certificate)).wrap_socket(connection, server_hostname="localhost")


@contextmanager
def half_sent(before: Proxy, source: str, count: int) -> Iterator[list[ssl.SSLSocket]]:
    with ExitStack() as stack:
        made = [stack.enter_context(tls(before, stack.enter_context(connect(before.api, source)))) for _ in range(count)]
        for one in made:
            one.sendall(HALF)
        yield made


def test_half_sent_headers_never_reach_the_service(before: Proxy, behind: Api) -> None:
    """Five would take all connections that the API allows one address, and Superset's threads."""
    with half_sent(before, "127.0.0.2", 20), before.client(before.api, "127.0.0.2") as same, before.client(before.api) as other:
        assert same.get("/").status_code == other.get("/").status_code == 200
        (connections,) = re.findall(r"^tidemark_api_connections (\S+)$", behind.http.get("/metrics").text, re.MULTILINE)
        assert float(connections) < 5


def test_one_address_cannot_take_all_connections(before: Proxy) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(before.api, "127.0.0.3")) for _ in range(2 * CONNECTIONS)]
        for one in silent[CONNECTIONS:]:
            with suppress(ConnectionError):
                assert one.recv(1) == b"", "closed at once, before anything is sent"
        with before.client(before.api, "127.0.0.4") as other:
            assert other.get("/").status_code == 200


def test_wrong_keys_are_counted_for_the_client_whatever_it_says_of_itself(before: Proxy, behind: Api) -> None:
    def post(http: httpx.Client, number: int, key: str) -> httpx.Response:
        forged = {"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": "198.51.100.1", "Forwarded": f"for=198.51.100.{number}"}
        return http.post("/Category", content=json.dumps(CATEGORY), headers={**forged, "X-API-Key": key})

    with before.client(before.api, "127.0.0.5") as guessing, before.client(before.api, "127.0.0.6") as other:
        assert [post(guessing, number, "guess").status_code for number in range(5)] == [401, 401, 401, 429, 429]
        assert post(guessing, 9, API_KEY).json()["detail"].startswith("too many wrong API keys from 127.0.0.5")
        assert post(other, 9, API_KEY).status_code == 503, "Kafka is away; the key is valid"


def test_requests_without_tls_are_redirected(before: Proxy) -> None:
    plain = before.api.replace("https", "http")
    with httpx.Client(base_url=plain, trust_env=False) as http:
        answer = http.get("/docs?page=1")
        assert (answer.status_code, answer.headers["Location"]) == (308, f"{before.api}/docs?page=1")


def test_public_names_are_passed_on_and_other_names_refused(before: Proxy) -> None:
    with before.client(before.api) as http:
        assert http.get("/", headers={"Host": "tidemark.example.com"}).status_code == 200
        assert http.get("/", headers={"Host": "other.example.com"}).status_code == 400


def test_tasks_do_not_come_this_way(before: Proxy) -> None:
    with before.client(before.airflow) as http:
        assert http.get("/execution/health").status_code == 404
        assert http.get("/").status_code == 502, "there is no Airflow here"


def test_the_log_names_clients_and_no_query(before: Proxy) -> None:
    with before.client(before.api, "127.0.0.7") as http:
        http.get("/?secret=1")
    lines = [line for line in before.log.read_text().splitlines() if " 127.0.0.7 " in line]
    assert re.search(r'"GET / HTTP/1.1" 200 ', lines[-1])
    assert "secret" not in before.log.read_text()


def test_without_a_certificate_it_does_not_start(tmp_path: Path, wording: Wording) -> None:
    environment = {**os.environ, "PROXY_CERTIFICATE": "/nowhere", "PROXY_FOLDER": str(tmp_path)}
    done = subprocess.run(["sh", str(CHECKOUT / "containers" / "proxy.sh")], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    wording.check(done.stderr)
