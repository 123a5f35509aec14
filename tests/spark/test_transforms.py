"""Spark's columns must say of every event what catalog/ says of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple
from random import Random
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession
from support.events import CATEGORIES, NOW, PRODUCTS, any_log
from support.recompute import recompute

from tidemark.catalog.cube import MEASURES, cell_of, contribution_of
from tidemark.catalog.events import MAX_NAME_CHARACTERS, Event
from tidemark.catalog.observations import (
    CategoryObservation,
    ProductObservation,
    Reason,
    Rejection,
    category_observation,
    product_observation,
)
from tidemark.catalog.posts import Posts
from tidemark.catalog.rules import KEYED, RULES, Rules
from tidemark.spark import transforms

pytestmark = pytest.mark.servers

SCHEMA = (
    "topic string, partition int, offset bigint, timestamp bigint, key binary, value binary, "
    "headers array<struct<key: string, value: binary>>"
)


def as_row(event: Event) -> tuple[Any, ...]:
    def binary(value: bytes | None) -> bytearray | None:
        return None if value is None else bytearray(value)

    headers = [(name, binary(value)) for name, value in event.headers] or None
    return (event.topic, event.partition, event.offset, event.timestamp, binary(event.key), binary(event.value), headers)


def by_catalog(event: Event, rules: Rules = RULES) -> tuple[Any, ...]:
    seen = category_observation(event, rules) if event.topic == CATEGORIES else product_observation(event, rules)
    match seen:
        case Rejection():
            return ("rejection", event.source, seen.reason.value, event.value)
        case CategoryObservation():
            return ("category", str(seen.id), (0, *seen.version), seen.name)
        case ProductObservation():
            return (
                *("product", seen.asin, tuple(seen.version), seen.title, seen.img_url, seen.product_url),
                *(seen.stars, seen.price, seen.list_price, seen.reviews, seen.bought_in_last_month),
                *(tuple(cell_of(seen)), astuple(contribution_of(seen))),
            )


def by_spark(row: Row) -> tuple[Any, ...]:
    match row.kind:
        case "rejection":
            return ("rejection", row.id, row.reason, None if row.raw is None else bytes(row.raw))
        case "category":
            return ("category", row.id, tuple(row.version), row.category_name)
        case _:
            return (
                *("product", row.id, tuple(row.version), row.title, row.imgUrl, row.productURL, row.stars, row.price, row.listPrice),
                *(row.reviews, row.boughtInLastMonth, (row.category_id, row.price_level, row.isBestSeller)),
                tuple(row[measure] for measure in MEASURES),
            )


def observed(spark: SparkSession, events: Iterable[Event], rules: Rules = RULES) -> list[Row]:
    log = spark.createDataFrame([as_row(event) for event in events], SCHEMA)
    return transforms.with_contributions(transforms.observed(log, CATEGORIES, rules)).orderBy("version.offset").collect()


def compare(spark: SparkSession, seed: int, length: int) -> None:
    log = list(any_log(Random(seed), length))
    kinds = set()
    for event, row in zip(log, observed(spark, log), strict=True):
        expected = by_catalog(event)
        kinds.add((expected[0], expected[2] if expected[0] == "rejection" else None))
        assert by_spark(row) == expected, event
    # The generator reaches every kind and every reason, so that the comparison is one.
    assert len(kinds) == 2 + 13


def test_each_event_is_validated_as_in_the_catalog_package(spark: SparkSession) -> None:
    compare(spark, seed=1, length=4_000)


def test_withdrawn_events_are_always_rejected(spark: SparkSession) -> None:
    posts = (Posts("other", NOW + 1, NOW + 1000), Posts("shop", NOW - 1, NOW + 1))
    rules, log = Rules(withdrawn=("a1", "ü"), withdrawn_posts=posts), list(any_log(Random(8), 2_000))
    found = [by_spark(row) for row in observed(spark, log, rules)]
    assert found == [by_catalog(event, rules) for event in log]
    rejections = {row[1:3] for row in found if row[0] == "rejection"}
    assert rejections == recompute(log, withdrawn=rules.withdrawn, withdrawn_posts=posts).rejections
    withdrawn = {event.offset: event for event, row in zip(log, found, strict=True) if row[2] == "withdrawn"}
    assert {event.ingestion for event in withdrawn.values()} > {"a1", "ü"}
    posted = [event for event in withdrawn.values() if event.ingestion not in rules.withdrawn]
    assert {(event.header("tide-client"), event.timestamp - NOW) for event in posted} == {("shop", -1), ("shop", 0), ("other", 1)}


def test_the_key_must_be_the_asin_where_others_write(spark: SparkSession) -> None:
    log = list(any_log(Random(9), 2_000))
    found = [by_spark(row) for row in observed(spark, log, KEYED)]
    assert found == [by_catalog(event, KEYED) for event in log]
    rejections = {row[1:3] for row in found if row[0] == "rejection"}
    assert rejections == recompute(log, keyed=True).rejections
    assert {row[2] for row in found if row[0] == "rejection"} == {*Reason} - {Reason.WITHDRAWN}
    assert all(event.key == row[1].encode() for event, row in zip(log, found, strict=True) if row[0] == "product")


@pytest.mark.soak(proof="validation")
@pytest.mark.timeout(1800)
def test_many_more_events_are_validated_as_in_the_catalog_package(spark: SparkSession) -> None:
    for seed in range(2, 42):
        compare(spark, seed, length=10_000)


def test_the_newest_version_of_each_id_is_kept(spark: SparkSession) -> None:
    log = list(any_log(Random(7), 2_000))
    newest: dict[tuple[str, str], tuple[int, ...]] = {}
    for event in log:
        seen = by_catalog(event)
        if seen[0] != "rejection":
            key = seen[0], seen[1]
            newest[key] = max(newest.get(key, seen[2]), seen[2])
    rows = transforms.newest(transforms.observed(spark.createDataFrame([as_row(event) for event in log], SCHEMA), CATEGORIES)).collect()
    assert {(row.kind, row.id): tuple(row.version) for row in rows if row.kind != "rejection"} == newest
    rejected = [row.id for row in rows if row.kind == "rejection"]
    assert sorted(rejected) == sorted({event.source for event in log if by_catalog(event)[0] == "rejection"})


def test_limits_equal_those_of_the_catalog_package(spark: SparkSession) -> None:
    """What MongoDB could not hold is a rejection, and on the limit itself it is none."""
    most, name, header = RULES.max_bytes, RULES.max_name_length, MAX_NAME_CHARACTERS
    product = {"asin": "B0T0000001", "title": "", "stars": 0, "reviews": 0, "price": 1, "listPrice": 0, "category_id": 1}
    product |= {"isBestSeller": True, "boughtInLastMonth": 0, "date": "2023-01-01"}
    empty = len(json.dumps(product))

    def event_of(topic: str, record: object, *headers: tuple[str, bytes | None]) -> Event:
        value = record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode()
        return Event(topic, 0, 0, NOW, None, value, headers)

    position = ("tide-position", b"1")
    events = [
        event_of(PRODUCTS, product | {"title": "x" * (most - empty)}),
        event_of(PRODUCTS, product | {"title": "x" * (most - empty + 1)}),
        event_of(PRODUCTS, product | {"title": "x\0y"}),
        event_of(PRODUCTS, product | {"x": {"😀" * (RULES.max_key_length // 2): 1}}),
        event_of(PRODUCTS, product | {"x": {"😀" * (RULES.max_key_length // 2) + "k": 1}}),
        event_of(PRODUCTS, product | {"price": "1" + "0" * 100_000}),
        event_of(PRODUCTS, product | {"price": "0." + "0" * 100_000 + "1"}),
        event_of(CATEGORIES, {"id": 1, "category_name": "日" * name}),
        event_of(CATEGORIES, {"id": 1, "category_name": "😀" * name}),
        event_of(CATEGORIES, {"id": 1, "category_name": "😀" * (name + 1)}),
        *(event_of(PRODUCTS, {}, ("tide-ingestion", ("ü" * length).encode()), position) for length in (header, header + 1)),
        *(event_of(PRODUCTS, {}, ("tide-replay-of", b"r" * length)) for length in (header, header + 1)),
        event_of(PRODUCTS, {}, ("tide-ingestion", b"i" * (header + 1)), position, ("tide-replay-of", b"r")),
    ]
    log = [event._replace(offset=offset) for offset, event in enumerate(events)]
    found = [by_spark(row) for row in observed(spark, log)]
    for event, row in zip(log, found, strict=True):
        expected = by_catalog(event)
        if expected[0] == "rejection" and event.value is not None:
            expected = (*expected[:3], event.value[:most])
        assert row == expected, (event.offset, [str(part)[:80] for part in row])
        rejections = recompute([event]).rejections
        assert rejections == ({(row[1], row[2])} if row[0] == "rejection" else set())
    kinds = {"rejection": {1, 4, 5, *range(9, 15)}, "category": {7, 8}, "product": {0, 2, 3, 6}}
    assert {kind: {offset for offset, row in enumerate(found) if row[0] == kind} for kind in kinds} == kinds
