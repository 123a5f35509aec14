"""Several replicas of the API: what one of them delivers late overtakes nothing that was posted after its answer, through whichever."""

from __future__ import annotations

import json

import pytest
from support.apis import Api, api
from support.broker import wait_for
from support.lines import line
from support.places import Place
from support.posts import BATCH, SINGLE, send

from tidemark.catalog.events import Event
from tidemark.catalog.observations import CategoryObservation, ProductObservation
from tidemark.ingest.api.document import PRODUCT
from tidemark.ingest.files import FileKind
from tidemark.ingest.kinds import validator_of

pytestmark = pytest.mark.servers

SECONDS = 1  # that a post waits for Kafka
CATEGORY = "/Category"
KEYS = {SINGLE: "B0SINGLE01", BATCH: "B0BATCH001", CATEGORY: "7"}


def record(path: str, name: str) -> bytes:
    key = KEYS[path]
    return json.dumps({"id": key, "category_name": name} if path == CATEGORY else {**PRODUCT, "asin": key, "title": name}).encode()


def until(status: int, api: Api, path: str, name: str) -> None:
    """Posts until the answer is that; on a busy machine it need not be the first."""
    for _ in range(60):
        if send(api.http, path, [record(path, name)]).status == status:
            return
    raise AssertionError(f"{path} is never answered {status}")


def newest_name(path: str, events: list[Event]) -> str:
    """By the rules of the catalog."""
    judge = validator_of(FileKind.CATEGORY if path == CATEGORY else FileKind.PRODUCT)
    seen = [one for one in map(judge, events) if isinstance(one, ProductObservation | CategoryObservation)]
    newest = max(seen, key=lambda one: one.version)
    return newest.title if isinstance(newest, ProductObservation) else newest.name


def test_what_a_replica_delivers_late_overtakes_nothing(place: Place) -> None:
    """One is cut off from Kafka, answers 503, and delivers when another's record has been acknowledged."""
    seconds = {"api_acknowledge_seconds": str(SECONDS)}
    with (
        line(place.settings.kafka_port) as wire,
        api(kafka_bootstrap_servers=wire.address, **seconds) as one,
        api(**seconds) as another,
    ):
        for path in KEYS:
            until(201, one, path, "first")
        wire.cut()
        for path in KEYS:
            until(503, one, path, "late")
            until(201, another, path, "newer")
        wire.mend()

        def names(path: str) -> list[str]:
            events = [event for event in place.log() if event.key == KEYS[path].encode()]
            return [json.loads(event.value or b"{}").get("category_name" if path == CATEGORY else "title") for event in events]

        wait_for(lambda: all("late" in names(path) for path in KEYS))
        for path in KEYS:
            said = names(path)
            assert said.index("late") > said.index("newer"), "what the test is about"
        log, truth = place.log(), place.truth()
        for path, key in KEYS.items():
            assert newest_name(path, [event for event in log if event.key == key.encode()]) == "newer"
        assert truth.categories[7] == "newer"
        assert {truth.products[KEYS[path]]["title"] for path in (SINGLE, BATCH)} == {"newer"}
