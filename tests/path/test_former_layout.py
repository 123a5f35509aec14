"""A backup of an earlier layout, restored by the current version, beside a Kafka that is another one since: the reports go on, exact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support import broker
from support.databases import emptied
from support.environment import setting
from support.layouts import CATEGORIES, PRODUCTS, saved
from support.load import updates
from support.manual_stream import serve
from support.nights import named, night
from support.places import Place

from tidemark.ingest import topics
from tidemark.serving import backup, ledger
from tidemark.spark.batch import Batch

pytestmark = pytest.mark.servers


@pytest.fixture
def with_its_topics(place: Place) -> Iterator[Place]:
    with setting(product_topic=PRODUCTS, category_topic=CATEGORIES, database=place.settings.database) as of:
        topics.create(of)
        yield Place(place.database, of)
        with topics.admin(of) as admin:
            admin.delete_topics(list(of.topics))


@pytest.mark.soak(proof="losses")
def test_a_former_layout_is_restored_adopted_and_continued(with_its_topics: Place, spark: SparkSession, tmp_path: Path) -> None:
    place = with_its_topics
    emptied(place.database)
    backup.restore(place.database, place.settings.lake_url, saved(1, tmp_path))
    products = place.database.product.count_documents({})
    work = Batch(place.database, place.settings, spark)
    assert work.adopt(dry_run=True)["continues"] is False
    work.adopt()
    assert ledger.read(place.database).binding.epoch == 1
    landed = place.database.product.count_documents({})
    assert 0 < landed <= products, "what was served and not landed is lost with the former Kafka"
    place.send(updates(Random(7), 30, keys=10))
    serve(place, spark)
    assert named(night(work)) == {}
    assert place.database.product.count_documents({}) > landed

    # And a partition that is added to this log, of a later epoch.
    before = ledger.read(place.database).offsets
    broker.add_partitions(PRODUCTS, sum(key.topic == PRODUCTS for key in before) + 2)
    place.send(updates(Random(8), 60, keys=60))
    serve(place, spark)
    assert len(ledger.read(place.database).offsets) > len(before)
    assert named(night(work)) == {}
