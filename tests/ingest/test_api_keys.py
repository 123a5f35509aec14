"""API keys: who has posted what, and how guesses are slowed down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from support.apis import Api, api
from support.places import Place, a_place
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.ingest.api.clients import Keys, WrongKeys, client_of
from tidemark.ingest.api.document import CATEGORY, PRODUCT

NDJSON = "application/x-ndjson"
PRODUCTS, BATCH = "/AmazonProduct", "/AmazonProduct/batch"
KEYS = {"shop": "the shop's key", "warehouse.2": "another"}
DEFAULT = "the single key"


def product(asin: str) -> bytes:
    return json.dumps({**PRODUCT, "asin": asin}).encode()


@pytest.fixture(scope="module")
def place(servers: None) -> Iterator[Place]:
    with a_place() as found:
        yield found


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Api]:
    with api(api_key=DEFAULT, api_keys=json.dumps(KEYS), api_wrong_keys="3", api_trusted_proxies="127.0.0.9") as found:
        yield found
        assert found.stop() == 0
        assert "Traceback" not in found.text()


def by_asin(place: Place) -> dict[str, Event]:
    return {(event.key or b"").decode(): event for event in place.log()}


@contextmanager
def client(running: Api, source: str, **headers: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, transport=httpx.HTTPTransport(local_address=source), headers=headers) as found:
        yield found


def post(http: httpx.Client, key: str, **headers: str) -> int:
    return http.post("/Category", content=json.dumps(CATEGORY), headers={"X-API-Key": key, **headers}).status_code


def figure(running: Api, name: str) -> float:
    lines = running.http.get("/metrics").text.splitlines()
    return next((float(line.removeprefix(f"{name} ")) for line in lines if line.startswith(f"{name} ")), 0)


@pytest.mark.servers
def test_an_event_names_the_key_it_was_posted_with(place: Place, running: Api) -> None:
    for number, (name, key) in enumerate({**KEYS, "default": DEFAULT}.items()):
        before = figure(running, f'tidemark_api_key_requests_total{{key="{name}"}}')
        assert running.post(PRODUCTS, product(f"B0SINGLE0{number}"), **{"X-API-Key": key}).status_code == 201
        assert running.post(BATCH, product(f"B0BATCH00{number}"), NDJSON, **{"X-API-Key": key}).status_code == 201
        assert figure(running, f'tidemark_api_key_requests_total{{key="{name}"}}') == before + 2
        events = by_asin(place)
        assert events[f"B0SINGLE0{number}"].header("tide-client") == events[f"B0BATCH00{number}"].header("tide-client") == name


@pytest.mark.servers
def test_a_client_with_wrong_keys_is_refused_for_a_while_and_others_are_not(running: Api, wording: Wording) -> None:
    before = figure(running, "tidemark_api_wrong_keys_total")
    with client(running, "127.0.0.2") as guessing, client(running, "127.0.0.3") as other:
        assert post(other, KEYS["shop"]) == 201
        assert [post(guessing, "") for _ in range(5)] == [401] * 5, "a request without a key is no guess"
        assert [post(guessing, f"guess {number}") for number in range(5)] == [401, 401, 401, 429, 429]
        refused = guessing.post("/Category", content=b"{}", headers={"X-API-Key": KEYS["shop"]})
        assert refused.status_code == 429, "the answer does not say that this key is valid"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        wording.check(refused.json()["detail"])
        assert post(other, KEYS["shop"]) == 201
        assert guessing.get("/health").status_code == 200
    assert figure(running, "tidemark_api_wrong_keys_total") == before + 8


@pytest.mark.servers
def test_clients_behind_a_trusted_proxy_are_told_apart(running: Api) -> None:
    with client(running, "127.0.0.9") as proxy, client(running, "127.0.0.4") as no_proxy:
        for _ in range(3):
            assert post(proxy, "wrong", **{"X-Forwarded-For": "198.51.100.1"}) == 401
        assert post(proxy, KEYS["shop"], **{"X-Forwarded-For": "203.0.113.7, 198.51.100.1"}) == 429
        assert post(proxy, KEYS["shop"], **{"X-Forwarded-For": "198.51.100.2"}) == 201
        for number in range(3):
            assert post(no_proxy, "wrong", **{"X-Forwarded-For": f"198.51.100.{number}"}) == 401
        assert post(no_proxy, KEYS["shop"], **{"X-Forwarded-For": "198.51.100.9"}) == 429


@pytest.mark.servers
def test_the_document_names_the_answers_of_a_server_with_keys(running: Api) -> None:
    posts = [route["post"] for route in running.http.get("/openapi.json").json()["paths"].values() if "post" in route]
    assert len(posts) == 4
    for route in posts:
        assert {"401", "429"} <= set(route["responses"])
        assert "Retry-After" in route["responses"]["429"]["headers"]
        assert route["security"] == [{"APIKeyHeader": []}]


def test_each_key_has_its_name() -> None:
    keys = Keys(KEYS)
    assert [keys.name_of(key.encode()) for key in KEYS.values()] == list(KEYS)
    assert keys.name_of(b"") is keys.name_of(b"the shop's ke") is Keys({}).name_of(b"") is None


def test_a_client_is_an_address_or_a_network_of_one_customer() -> None:
    assert client_of("203.0.113.7") == client_of("::ffff:203.0.113.7") == "203.0.113.7"
    assert client_of("2001:db8:1:2::1") == client_of("2001:db8:1:2:ffff::") != client_of("2001:db8:1:3::1")
    assert len(client_of("x" * 10_000)) == 100


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_refused_client_may_try_again_after_a_minute() -> None:
    clock = Clock()
    wrong = WrongKeys(2, clock)
    wrong.note("a")
    clock.now += 30
    assert wrong.refused_for("a") == 0
    wrong.note("a")
    assert (wrong.refused_for("a"), wrong.refused_for("b")) == (30, 0)
    clock.now += 29.5
    assert wrong.refused_for("a") == 1
    clock.now += 0.5
    assert wrong.refused_for("a") == 0
    wrong.note("a")
    assert wrong.refused_for("a") == 0, "a new minute has begun"


def test_the_clients_with_wrong_keys_take_bounded_memory() -> None:
    clock = Clock()
    wrong = WrongKeys(1, clock)
    for number in range(30_000):
        wrong.note(str(number))
    assert len(wrong) == 10_000
    assert (wrong.refused_for("0"), wrong.refused_for("29999")) == (0, 60)
    clock.now += 60
    wrong.note("another")
    assert len(wrong) == 1
