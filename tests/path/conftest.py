"""The batch layer on a place of the test's own."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from support.places import Place

from tidemark.spark.batch import Batch


@pytest.fixture
def work(place: Place, spark: SparkSession) -> Batch:
    return Batch(place.database, place.settings, spark)
