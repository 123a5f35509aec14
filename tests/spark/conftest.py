"""What tests of the raw history share."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession
from support.places import Place

from tidemark.spark.lake import Lake


@pytest.fixture
def lake(place: Place, spark: SparkSession) -> Lake:
    return Lake(spark, place.settings.lake_url)
