"""Recomputation on generated events of every kind: whatever way it takes, it is what the contract says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from pymongo.database import Database
from pyspark.sql import SparkSession
from support.events import CATEGORIES, PRODUCTS, any_log
from support.load import updates
from support.manual_stream import kafka
from support.places import Place
from support.recompute import MEASURES, Recomputed
from support.recompute import recompute as oracle
from support.states import numbered
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.serving import offsets, publications
from tidemark.serving.database import Document
from tidemark.serving.publications import NoPublication, Publication, StaleDraft
from tidemark.settings import Settings
from tidemark.spark import recompute as module
from tidemark.spark.lake import Lake
from tidemark.spark.recompute import Mode, NotLanded, recompute
from tidemark.spark.transforms import events
from tidemark.spark.verify import names, products, rejections

pytestmark = pytest.mark.servers

USUAL = Settings(product_topic=PRODUCTS, category_topic=CATEGORIES)  # the topics that generated events bear


def end_of(log: Sequence[Event]) -> TideMark:
    return TideMark({(event.topic, event.partition): event.offset + 1 for event in sorted(log, key=lambda event: event.offset)})


def draft_at(database: Database[Document], mark: TideMark, rules: str = RULES.fingerprint()) -> int:
    """A draft of a stream that has come to that mark."""
    database.state.update_one({"_id": "ledger"}, {"$set": {"offsets": offsets.to_documents(mark), "rules": rules}})
    return publications.cut(database, rules).number


def serve(database: Database[Document], number: int) -> None:
    """As if nothing had been in the speed layer."""
    assert publications.publish(database, number, RULES.fingerprint())


def wrong(lake: Lake, database: Database[Document], publication: Publication, truth: Recomputed) -> list[str]:
    """What a publication holds, against the recomputation."""
    cells = {tuple(cell): dict(zip(MEASURES, sums, strict=True)) for cell, sums in publications.cells(database, publication.number).items()}
    found = {row["id"]: row.asDict() for row in products(lake, publication).collect()}
    sources = {(row["id"], one["reason"]) for row in rejections(lake, publication).collect() for one in row["events"]}
    categories = {number: category.name for number, category in names(lake, publication).items()}
    expected = {asin: dict(truth.products[asin]) for asin in truth.products}
    return [
        *([] if cells == truth.cube else [f"cells {cells} instead of {truth.cube}"]),
        *([] if found.keys() == expected.keys() else [f"products {sorted(found)} instead of {sorted(expected)}"]),
        *(
            f"{asin}: {name}"
            for asin, one in expected.items()
            for name in (
                "title",
                "imgUrl",
                "productURL",
                "stars",
                "reviews",
                "price",
                "listPrice",
                "category_id",
                "isBestSeller",
                "price_level",
            )
            if found[asin][name] != one[name]
        ),
        *([] if sources == truth.rejections else [f"rejections {sources ^ truth.rejections}"]),
        *([] if categories == truth.categories else [f"categories {categories}"]),
    ]


def test_incremental_and_full_recomputation_are_equal(
    place: Place, spark: SparkSession, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of every kind of event; layers are written together on the way; all days are also recomputed from the raw history."""
    monkeypatch.setattr(module, "MAX_LAYERS", 2)
    random = Random(81)
    log = numbered([event for _ in range(3) for event in (*any_log(random, 120), *updates(random, 80, keys=30))])
    cuts = [0, 200, 330, len(log)]
    layers = []
    for landing, (start, end) in enumerate(pairwise(cuts), 1):
        lake.append(events(kafka(spark, log[start:end])), landing)
        truth = oracle(log[:end])
        number = draft_at(place.database, end_of(log[:end]))
        one = recompute(lake, place.database, number, USUAL, Mode.INCREMENTAL)
        assert wrong(lake, place.database, one, truth) == []
        assert one.since_full == (landing - 1 if landing > 1 else 0)
        layers.append(len(one.layers or ()))
        serve(place.database, number)
        if end != cuts[-1]:
            continue
        again = draft_at(place.database, end_of(log[:end]))
        full = recompute(lake, place.database, again, USUAL, Mode.FULL)
        assert wrong(lake, place.database, full, truth) == []
        assert publications.cells(place.database, number) == publications.cells(place.database, again)
        assert (full.newest_event, full.newest_observation) == (one.newest_event, one.newest_observation)
        assert full.since_full == 0
    assert layers == [1, 2, 1]
    assert lake.layers() >= {layer for one in publications.listing(place.database) for layer in one.layers or ()}


def test_times_of_the_newest_event_and_observation(place: Place, spark: SparkSession, lake: Lake) -> None:
    log = numbered(updates(Random(82), 50, keys=5))
    log = [event._replace(timestamp=1_700_000_000_000 + event.offset) for event in log]
    lake.append(events(kafka(spark, log)), 1)
    one = recompute(lake, place.database, draft_at(place.database, end_of(log)), USUAL)
    assert one.newest_event is not None
    assert one.newest_observation is not None
    assert round(one.newest_event.timestamp() * 1000) == 1_700_000_000_000 + log[-1].offset
    assert one.newest_observation == max(product["date"] for product in oracle(log).products.values())


def test_only_events_below_the_mark_count(place: Place, spark: SparkSession, lake: Lake) -> None:
    log = numbered(any_log(Random(83), 200))
    lake.append(events(kafka(spark, log)), 1)
    one = recompute(lake, place.database, draft_at(place.database, end_of(log[:120])), USUAL)
    assert wrong(lake, place.database, one, oracle(log[:120])) == []
    serve(place.database, one.number)
    # Nothing new: the states are those of the served one.
    two = recompute(lake, place.database, draft_at(place.database, end_of(log[:120])), USUAL)
    assert two.layers == one.layers
    assert wrong(lake, place.database, two, oracle(log[:120])) == []
    assert publications.publish(place.database, two.number, RULES.fingerprint()) is False, "nothing is new"
    assert publications.served(place.database) == one.number


def test_when_a_full_recomputation_is_chosen(place: Place, spark: SparkSession, lake: Lake, wording: Wording) -> None:
    log = numbered(updates(Random(84), 120, keys=20))
    lake.append(events(kafka(spark, log)), 1)
    ends = [end_of(log[: 30 * count]) for count in range(1, 5)]

    def since_full(number: int, of: Settings = USUAL, **rules: Any) -> int:
        return recompute(lake, place.database, number, of, **rules).since_full

    every_other = Settings(full_every=2, product_topic=PRODUCTS, category_topic=CATEGORIES)
    found = []
    for end in ends[:3]:
        number = draft_at(place.database, end)
        found.append(since_full(number, every_other))
        serve(place.database, number)
    assert found == [0, 1, 0]
    # Other rules than those of the served one.
    other = replace(RULES, edition=99)
    number = draft_at(place.database, ends[3], other.fingerprint())
    with pytest.raises(StaleDraft) as refused:
        recompute(lake, place.database, number, USUAL)
    wording.check(str(refused.value), other=other.fingerprint(), rules=RULES.fingerprint())
    assert since_full(number, rules=other) == 0
    assert wrong(lake, place.database, publications.read(place.database, number), oracle(log)) == []
    # Lost layers.
    number = draft_at(place.database, ends[3])
    lake.drop_layers(set(publications.read(place.database, publications.served(place.database)).layers or ()))
    assert since_full(number) == 0
    assert wrong(lake, place.database, publications.read(place.database, number), oracle(log)) == []


def test_impossible_recomputations_are_refused(place: Place, spark: SparkSession, lake: Lake, wording: Wording) -> None:
    log = numbered(updates(Random(85), 20, keys=5))
    lake.append(events(kafka(spark, log[:10])), 1)
    number = draft_at(place.database, end_of(log))
    with pytest.raises(NotLanded) as refused:
        recompute(lake, place.database, number, USUAL)
    wording.check(str(refused.value), landed=lake.landed().mark, needed=end_of(log))
    with pytest.raises(NoPublication, match=r"\b99\b"):
        recompute(lake, place.database, 99, USUAL)
    lake.append(events(kafka(spark, log[10:])), 2)
    one = recompute(lake, place.database, number, USUAL)
    assert recompute(lake, place.database, number, USUAL) == one, "once is enough"


def test_no_events_give_an_empty_publication(place: Place, spark: SparkSession, lake: Lake) -> None:
    one = recompute(lake, place.database, draft_at(place.database, TideMark()), USUAL)
    assert wrong(lake, place.database, one, oracle([])) == []
    assert (one.layers, one.newest_event) == ((), None)
    assert asdict(one)["mark"] == TideMark()
    assert TopicPartition(PRODUCTS, 0) not in one.mark
