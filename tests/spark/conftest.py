"""What tests of the raw history share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession
from support.environment import setting
from support.events import CATEGORIES, PRODUCTS
from support.places import Place

from tidemark.settings import settings
from tidemark.spark.lake import Lake


@pytest.fixture
def lake(place: Place, spark: SparkSession) -> Lake:
    return Lake(spark, settings().lake_url)


@pytest.fixture
def usual_topics(place: Place) -> Iterator[None]:
    """Topics of the names that generated events bear."""
    with setting(product_topic=PRODUCTS, category_topic=CATEGORIES):
        yield
