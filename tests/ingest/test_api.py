"""The HTTP API before a real broker: what is stored and how it is answered, what is refused and how that is named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, permutations
from pathlib import Path
from random import Random
from string import ascii_letters
from typing import Any

import httpx
import pytest
from kafka.errors import KafkaError
from support.apis import Api, api
from support.broker import wait_for
from support.environment import setting
from support.events import CATEGORIES, any_event
from support.places import Place, a_place
from support.recompute import recompute
from support.servers import free_ports
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.catalog.observations import Reason
from tidemark.catalog.words import rule
from tidemark.ingest import topics
from tidemark.ingest.api.bodies import MAX_RECORDS
from tidemark.ingest.api.document import CATEGORY, PRODUCT
from tidemark.settings.sections import KafkaSettings

pytestmark = pytest.mark.servers

NDJSON = "application/x-ndjson"
PRODUCTS, BATCH = "/AmazonProduct", "/AmazonProduct/batch"
KEY = "a key with an ü"


@pytest.fixture(scope="module")
def place(servers: None) -> Iterator[Place]:
    with a_place() as found:
        yield found


@pytest.fixture(scope="module")
def running(place: Place) -> Iterator[Api]:
    with api() as found:
        yield found
        assert found.stop() == 0
        assert "Traceback" not in found.text()


class New:
    """Events that have come since this was made."""

    def __init__(self, place: Place) -> None:
        self._place, self._mark = place, place.ends()

    def __call__(self) -> list[Event]:
        mark: TideMark = self._mark
        return [event for event in self._place.log() if not mark.covers(event)]


@pytest.fixture
def new(place: Place) -> New:
    return New(place)


def product(**fields: Any) -> bytes:
    return json.dumps({**PRODUCT, **fields}).encode()


def named(answer: httpx.Response) -> list[tuple[Any, ...]]:
    """Where the faults of a 422 are."""
    assert answer.status_code == 422, answer.text
    return [tuple(fault["loc"][1:]) for fault in answer.json()["detail"]]


def figure(running: Api, name: str) -> float:
    """What /metrics shows under that name and labels."""
    lines = running.http.get("/metrics").text.splitlines()
    return next(float(line.removeprefix(f"{name} ")) for line in lines if line.startswith(f"{name} "))


def test_root_and_health_endpoints(place: Place, running: Api) -> None:
    assert running.http.get("/").json() == {"message": "Hello World"}
    health = running.http.get("/health")
    assert (health.status_code, health.json()["healthy"], health.json()["detail"]) == (200, True, "")
    assert health.json()["topics"] == {place.settings.product_topic: place.settings.product_partitions, place.settings.category_topic: 1}


def test_other_host_names_are_refused(place: Place, running: Api) -> None:
    """As of a page of another site that has made its name one of this machine's."""
    ends = place.ends()
    for path in ("/", "/health", "/metrics", "/docs", "/openapi.json"):
        assert running.http.get(path, headers={"Host": "shop.example"}).status_code == 400, path
    assert running.post("/Category", b'{"id": 1, "category_name": "Lamps"}', Host="127.0.0.1.shop.example:8000").status_code == 400
    assert place.ends() == ends
    for host in ("localhost", "127.0.0.1:1", "[::1]:8000"):
        assert running.http.get("/", headers={"Host": host}).status_code == 200, host


def test_a_product_is_sent_unchanged_and_the_answer_shows_the_stored_values(place: Place, running: Api, new: New) -> None:
    """As clients of the Kaggle fields post it: a date of their form, no Content-Type."""
    body = (
        b' {"date": "31/12/2023 00:00",\n'
        + product(stars=4.10, asin="B0T00000AA").replace(b', "date": "31/12/2023 00:00"', b"")[1:]
        + b"\n"
    )
    answer = running.http.post(PRODUCTS, content=body)
    assert answer.status_code == 201, answer.text
    (event,) = new()
    assert (event.key, event.value) == (b"B0T00000AA", body)
    headers = dict(event.headers)
    latest, half = int(headers.pop("tide-registered-by") or b"0"), place.settings.api_acknowledge_seconds * 500
    assert headers == {"tide-source": b"api", "tide-format": b"json"}
    assert event.registered_at == event.timestamp <= latest <= event.timestamp + half
    stored = answer.json()
    coordinates = (stored.pop("topic"), stored.pop("partition"), stored.pop("offset"))
    assert coordinates == (place.settings.product_topic, event.partition, event.offset)
    assert stored.pop("date") == "2023-12-31T00:00:00.000Z"
    assert stored == {**{name: value for name, value in PRODUCT.items() if name != "date"}, "asin": "B0T00000AA", "stars": 4.1}


def test_a_category_is_sent_with_its_id_as_key(place: Place, running: Api, new: New) -> None:
    answer = running.post("/Category", b'{"id": "7.0", "category_name": "Caf\xc3\xa9"}')
    (event,) = new()
    assert (answer.status_code, event.topic, event.key) == (201, place.settings.category_topic, b"7")
    assert answer.json() == {"id": 7, "category_name": "Café", "topic": event.topic, "partition": 0, "offset": event.offset}


def test_a_key_has_the_same_partition_as_in_file_ingestion(place: Place, running: Api, new: New) -> None:
    """One ASIN, one partition, by whatever way it comes: single, in a batch, from a file."""
    records = [product(asin=f"B0T00000{number:02d}") for number in range(20)]
    for record in records:
        assert running.post(PRODUCTS, record).status_code == 201
    assert running.post(BATCH, b"\n".join(records), NDJSON).status_code == 201
    place.send(Event("ingest-product", 0, 0, 0, json.loads(record)["asin"].encode(), record) for record in records)
    places: dict[bytes | None, set[int]] = {}
    for event in new():
        places.setdefault(event.key, set()).add(event.partition)
    assert len(places) == 20
    assert all(len(partitions) == 1 for partitions in places.values())
    assert len(set.union(*places.values())) > 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        *(({"asin": asin}, "asin") for asin in ("b014tmv5ye", "B014TMV5Y", None)),
        *(({"title": title}, "title") for title in (None, 5, ["x"])),
        *(({"stars": stars}, "stars") for stars in (5.1, -1, "many", None, True)),
        *(({"reviews": reviews}, "reviews") for reviews in (-1, 1.5, 2**31, "")),
        *(({"price": price}, "price") for price in (-0.01, 1_000_001, "1e400", "1" * 5000, {})),
        ({"listPrice": "free"}, "listPrice"),
        ({"category_id": 0}, "category_id"),
        ({"isBestSeller": "yes"}, "isBestSeller"),
        ({"boughtInLastMonth": None}, "boughtInLastMonth"),
        *(({"date": date}, "date") for date in ("31/02/2023 00:00", "1994-12-31", "yesterday", None, "2123-01-01")),
    ],
)
def test_an_invalid_field_is_named_with_its_rule(running: Api, fields: dict[str, Any], field: str) -> None:
    answer = running.post(PRODUCTS, product(**fields))
    assert named(answer) == [(field,)]
    assert answer.json()["detail"][0]["msg"] == f"{field}: must be {rule(Reason(field))}"


def test_a_missing_field_and_a_category_without_a_name_are_named(running: Api) -> None:
    assert named(running.post(PRODUCTS, json.dumps({key: value for key, value in PRODUCT.items() if key != "price"}).encode())) == [
        ("price",)
    ]
    assert named(running.post("/Category", b'{"id": 1, "category_name": ""}')) == [("category_name",)]
    assert named(running.post("/Category", b'{"category_name": "x"}')) == [("id",)]


def test_a_date_up_to_one_day_ahead_is_accepted(running: Api) -> None:
    def ahead(seconds: float) -> httpx.Response:
        return running.post(PRODUCTS, product(date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))))

    assert ahead(86_400 - 60).status_code == 201
    assert named(ahead(86_400 + 60)) == [("date",)]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", ()),
        (b"{", ()),
        (b"[]", ()),
        (b"5", ()),
        (b"\xff\xfe{}", ()),
        (b"\xef\xbb\xbf" + product(), ()),
        (product().replace(b"139.99", b"NaN"), ()),
        (product().replace(b"139.99", b"-Infinity"), ()),
        (product(more="half \ud800 a pair"), ()),
        (product()[:-1] + b', "more": ' + b"[" * 101 + b"]" * 101 + b"}", ()),
        (b"[" * 100_000, ()),
        (b'{"a":' * 100_000, ()),
        (product()[:-1] + b', "price": 1}', ("price",)),
        (product()[:-1] + b', "more": {"a": 1, "a": 1}}', ("a",)),
        (product()[:-1] + b', "more": 1, "more": 2}', ("more",)),
    ],
)
def test_a_body_that_is_no_record_is_refused(running: Api, body: bytes, where: tuple[str, ...]) -> None:
    assert named(running.post(PRODUCTS, body)) == [where]


def test_harmless_deviations_are_stored(running: Api, new: New) -> None:
    bodies = [
        product(more=[1, {"deep": [2]}], asin="B0T0000001"),
        product(asin="B0T0000002")[:-1] + b', "more": ' + b"9" * 5_000 + b"}",
        product(asin="B0T0000003", title="", imgUrl=None, stars="5.0", isBestSeller="FALSE", reviews="1.2e3"),
        product(asin=1234567890, title="\x00 😀 NULL"),
    ]
    assert [running.post(PRODUCTS, body).status_code for body in bodies] == [201] * 4
    assert {event.value for event in new()} == set(bodies)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json; charset=UTF-8"}, 201),
        ({}, 201),
        ({"Origin": "https://elsewhere.example"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": NDJSON}, 415),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    ],
    ids=["JSON", "none", "none, from another site", "text", "a form", "lines", "Latin-1", "compressed"],
)
def test_content_types_of_a_body(running: Api, headers: dict[str, str], status: int, wording: Wording) -> None:
    answer = running.http.post(PRODUCTS, content=product(), headers=headers)
    assert answer.status_code == status
    if status != 201:
        wording.check(answer.json()["detail"])


def rejection_reason(value: bytes, topic: str) -> str | None:
    """The oracle's, for an event that comes just now; None where it is an observation."""
    reasons = [reason for _, reason in recompute([Event(topic, 0, 0, time.time_ns() // 1_000_000, None, value)]).rejections]
    return reasons[0] if reasons else None


def any_bodies(random: Random, count: int) -> list[tuple[str, bytes]]:
    """Generated values that fit on a line, with the topic they are made for."""
    events = (any_event(random) for _ in range(count))
    return [(event.topic, event.value) for event in events if event.value and b"\n" not in event.value and event.value.strip()]


def has_duplicate_name(value: bytes) -> bool:
    twice = False

    def check_names(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        names = [name for name, _ in pairs]
        twice |= len(set(names)) < len(names)

    try:
        json.loads(value, object_pairs_hook=check_names)
    except (ValueError, RecursionError):
        return False
    return twice


def test_generated_batches_are_validated_like_the_oracle(place: Place, running: Api, new: New) -> None:
    """Each record that the oracle takes is taken, each other is named with its reason; then what is left is stored, byte for byte."""
    sent: list[bytes] = []
    reasons = set()
    for seed in range(4):
        some = any_bodies(Random(seed), 500)
        for topic, path in (("ingest-product", BATCH), (CATEGORIES, "/Category/batch")):
            values = [value for of, value in some if of == topic]
            wrong = {number: reason for number, value in enumerate(values) if (reason := rejection_reason(value, topic))}
            twice = {number for number, value in enumerate(values) if has_duplicate_name(value)}
            answer = running.post(path, b"\n".join(values), NDJSON)
            assert answer.status_code == 422
            found = {fault["loc"][1]: fault["type"] for fault in answer.json()["detail"]}
            assert set(found) == set(wrong) | twice
            for number in set(wrong) - twice:
                assert found[number] == wrong[number], values[number]
                reasons.add(wrong[number])
            left = [value for number, value in enumerate(values) if number not in found]
            assert running.post(path, b"\n".join(left), NDJSON).json()["acknowledged"] == len(left)
            sent += [value.strip(b" \t\r\n") for value in left]
    assert reasons == {*Reason} - {Reason.WITHDRAWN, Reason.KEY}  # which no post can have
    events = new()
    assert sorted(event.value or b"" for event in events) == sorted(sent)
    assert recompute(events, place.settings.category_topic).rejections == set()


def test_answers_to_generated_records_equal_the_oracles_states(place: Place, running: Api, new: New) -> None:
    answers: dict[tuple[int, int], dict[str, Any]] = {}
    for topic, value in any_bodies(Random(9), 150):
        if topic != CATEGORIES and (answer := running.post(PRODUCTS, value)).status_code == 201:
            stored = answer.json()
            answers[stored["partition"], stored["offset"]] = stored
    assert len(answers) > 20
    for event in new():
        (expected,) = recompute([event], place.settings.category_topic).products.values()
        expected["date"] = expected["date"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        stored = answers.pop((event.partition, event.offset))
        assert {name: value for name, value in stored.items() if name not in ("topic", "partition", "offset")} == {
            name: value for name, value in expected.items() if name not in ("_id", "category_name", "price_level")
        }
    assert not answers


def test_a_batch_is_accepted_or_refused_as_a_whole(running: Api, new: New) -> None:
    records = [product(asin=f"B0T000001{number}") for number in range(4)]
    for body, kind in ((b"[" + b" ,\n".join(records) + b"]", "application/json"), (b"\r\n\n".join(records) + b"\n", NDJSON)):
        answer = running.post(BATCH, body, kind)
        assert answer.status_code == 201, answer.text
        assert answer.json()["acknowledged"] == 4
    events = new()
    assert sorted(event.value or b"" for event in events) == sorted(records * 2)
    reached = TideMark({(end["topic"], end["partition"]): end["offset"] for end in answer.json()["ends"]})  # type: ignore[misc]
    assert all(reached.covers(event) for event in events)
    # An array counts its records, lines are counted as lines.
    corrupted = [records[0], product(price=-1), b"{}", records[1]]
    assert named(running.post(BATCH, b"[" + b",".join(corrupted) + b"]")) == [(1, "price"), (2, "asin")]
    assert named(running.post(BATCH, b"\n\n".join(corrupted), NDJSON)) == [(2, "price"), (4, "asin")]
    assert len(new()) == len(events)


def test_each_malformed_record_of_an_array_is_named(running: Api, new: New) -> None:
    half_a_pair, open_object = product(more="\ud800"), b'{"asin": 1,}'
    records = [product(), open_object, b"", product(price=-1), half_a_pair, b'{"a": [{"b": "]},{[\\\\"}]}', product(title='\\"],[{')]
    assert named(running.post(BATCH, b"[" + b",".join(records) + b"]")) == [(1,), (2,), (3, "price"), (4,), (5, "asin")]
    assert not new()


def test_bodies_that_trigger_quadratic_scans_are_refused(running: Api) -> None:
    assert named(running.post(BATCH, b'["' + b'\\"' * 1_000_000)) == [()]
    names = ["".join(name) for name in islice(permutations(ascii_letters, 3), 120_000)]
    assert named(running.post(PRODUCTS, ("{" + ",".join(f'"{name}":1' for name in [*names, names[-1]]) + "}").encode())) == [(names[-1],)]


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[{}", b"[{}] {}", b'[{"a]', b"null", b"\xff[]", b"[]", b"[ ]"])
def test_a_body_that_is_no_batch_is_refused(running: Api, body: bytes) -> None:
    assert named(running.post(BATCH, body)) == [()]


def test_an_empty_batch_is_refused(running: Api) -> None:
    assert named(running.post(BATCH, b"\n \r\n", NDJSON)) == [()]


def test_a_batch_has_a_maximum_size(running: Api, new: New) -> None:
    record = product()
    answer = running.post(BATCH, b"\n".join([record] * MAX_RECORDS), NDJSON)
    assert answer.json()["acknowledged"] == MAX_RECORDS
    assert running.post(BATCH, b"\n".join([record] * (MAX_RECORDS + 1)), NDJSON).status_code == 413
    assert running.post(BATCH, b"[" + b",".join([record] * (MAX_RECORDS + 1)) + b"]").status_code == 413
    assert len(new()) == MAX_RECORDS


def test_metrics_count_the_outcome_of_records(running: Api) -> None:
    def counted() -> dict[tuple[str, str], float]:
        return {
            (kind, outcome): figure(running, f'tidemark_api_records_total{{kind="{kind}",outcome="{outcome}"}}')
            for kind in ("product", "category")
            for outcome in ("acknowledged", "refused", "not acknowledged")
        }

    before = counted()
    running.post(PRODUCTS, product())
    running.post(BATCH, b"\n".join([product()] * 3), NDJSON)
    running.post(BATCH, b"\n".join([product(), b"{}", b"x"]), NDJSON)
    running.post("/Category", b"{}")
    assert {name: count - before[name] for name, count in counted().items() if count != before[name]} == {
        ("product", "acknowledged"): 4,
        ("product", "refused"): 2,
        ("category", "refused"): 1,
    }
    shown = running.http.get("/metrics").text
    assert 'tidemark_api_request_seconds_count{route="/Category",status="422"}' in shown
    assert figure(running, "tidemark_api_body_bytes") == 0


def pieces(count: int, size: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * size


def resident_bytes(running: Api) -> int:
    fields = (Path("/proc") / str(running.process.pid) / "statm").read_text().split()
    return int(fields[1]) * 4096


def test_api_key_and_memory_limits_are_enforced(place: Place) -> None:
    """Its key, its largest body and its room for bodies, which end requests before they are read."""
    with api(api_body_bytes="1000000", api_memory_bytes="1500000", api_key=KEY) as small:
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "another"}):
            for path in (PRODUCTS, BATCH, "/Category", "/Category/batch"):
                assert small.http.post(path, content=product(), headers=headers).status_code == 401
        assert small.http.get("/health").status_code == small.http.get("/metrics").status_code == 200
        small.http.headers["X-API-Key"] = KEY
        assert small.post(PRODUCTS, product()).status_code == 201

        before = resident_bytes(small)
        for path in (PRODUCTS, BATCH):
            assert small.http.post(path, content=b" " * 1_000_001).status_code == 413
            # Without a length nothing tells how much will come.
            assert small.http.post(path, content=pieces(2_000, 100_000)).status_code == 413
        assert resident_bytes(small) - before < 60_000_000
        assert small.post(BATCH, b"\n".join([product()] * 10), NDJSON).status_code == 201
        _two_bodies_at_once(small)
        assert small.stop() == 0
        assert "Traceback" not in small.text()


def _two_bodies_at_once(small: Api) -> None:
    """While one large body is coming another finds no room, is told when to come again, and then finds room."""
    body = b"\n".join([product()] * 2_500)
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body[:-1_000]
        go_on.wait(60)
        yield body[-1_000:]

    answers: list[httpx.Response] = []

    def post() -> None:
        with httpx.Client(base_url=small.url, timeout=60) as http:
            http.headers["X-API-Key"], http.headers["Content-Type"] = KEY, NDJSON
            answers.append(http.post(BATCH, content=slowly()))

    thread = threading.Thread(target=post)
    thread.start()
    wait_for(lambda: figure(small, "tidemark_api_body_bytes") >= len(body) - 1_000)
    answer = small.post(BATCH, body, NDJSON)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert small.post(PRODUCTS, product()).status_code == 201
    go_on.set()
    thread.join()
    assert [one.status_code for one in answers] == [201]
    assert small.post(BATCH, body, NDJSON).status_code == 201


def exchange(running: Api, *pieces: bytes) -> bytes:
    """What the server says to these bytes until it ends the connection."""
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        found = b""
        with suppress(ConnectionError):
            while data := connection.recv(65_536):
                found += data
        return found


def test_an_unfinished_request_times_out(place: Place) -> None:
    with api(api_body_seconds="1", wait=False) as short_timeout:
        posted = f"POST {PRODUCTS} HTTP/1.1\r\nHost: localhost\r\n".encode()
        assert b" 408 " in exchange(short_timeout, posted, b"Content-Length: 100\r\n\r\n{")
        before = resident_bytes(short_timeout)
        assert b" 400 " in exchange(short_timeout, posted, *(b"X: " + b"x" * 1_000_000 for _ in range(100)))
        exchange(short_timeout, posted, *(f"X-{number}: {'x' * 1_000}\r\n".encode() for number in range(50_000)))
        assert resident_bytes(short_timeout) - before < 20_000_000
        assert short_timeout.http.get("/").status_code == 200


def test_a_disconnected_client_leaves_nothing_behind(running: Api, new: New) -> None:
    host, _, port = running.url.removeprefix("http://").partition(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"POST {PRODUCTS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{{".encode())
    wait_for(lambda: figure(running, "tidemark_api_body_bytes") == 0)
    assert new() == []


def test_examples_in_the_openapi_document_are_accepted(running: Api) -> None:
    described = running.http.get("/openapi.json").json()
    posts = {path: routes["post"] for path, routes in described["paths"].items() if "post" in routes}
    assert sorted(posts) == [PRODUCTS, BATCH, "/Category", "/Category/batch"]
    for path, route in posts.items():
        for kind, content in route["requestBody"]["content"].items():
            for example in content["examples"].values():
                value = example["value"]
                body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                assert running.post(path, body, kind).status_code == 201, (path, kind)
    assert running.http.get("/docs").status_code == 200
    assert CATEGORY["id"] == PRODUCT["category_id"]


def test_a_missing_topic_is_named_and_used_once_it_exists(place: Place, wording: Wording) -> None:
    with setting(product_topic=f"{place.settings.product_topic}-later") as of, api(api_acknowledge_seconds="2", wait=False) as early:
        wait_for(lambda: early.http.get("/health").json()["topics"] == {place.settings.category_topic: 1})
        health = early.http.get("/health")
        assert (health.status_code, health.json()["healthy"]) == (503, False)
        wording.check(health.json()["detail"])
        assert early.post(PRODUCTS, product()).status_code == early.post(BATCH, product(), NDJSON).status_code == 503
        wait_for(lambda: early.post("/Category", b'{"id": 1, "category_name": "x"}').status_code == 201)
        topics.create(of)
        until = time.monotonic() + 60
        for path in (PRODUCTS, BATCH):
            while (answer := early.post(path, product(), "application/json" if path == PRODUCTS else NDJSON)).status_code != 201:
                assert time.monotonic() < until, answer.text
        with topics.admin(of) as admin:
            admin.delete_topics([of.product_topic])


@pytest.mark.parametrize("value", ["none", "taken"])
def test_a_port_in_use_is_named(running: Api, value: str) -> None:
    port = running.url.rpartition(":")[2] if value == "taken" else value
    environment = {**os.environ, "TIDEMARK_API_PORT": port}
    done = subprocess.run([sys.executable, "-m", "tidemark.ingest.api"], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "TIDEMARK_API_PORT" in done.stdout) == (1, True), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_health_checks_of_an_unreachable_kafka_leak_no_threads() -> None:
    of = KafkaSettings(kafka_port=free_ports(1)[0])
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(KafkaError):
            topics.partitions(of, within_seconds=0.3)
    assert threading.active_count() <= before
