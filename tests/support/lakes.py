"""What the raw history holds, beside what Kafka does."""

from __future__ import annotations

from support.places import Place

from tidemark.catalog.marks import TideMark
from tidemark.spark.lake import Lake

Row = tuple[object, ...]


def landed(lake: Lake) -> list[Row]:
    """Every event that the table holds, as often as it does."""
    rows = lake.events(TideMark(), lake.landed().mark).collect()
    return sorted(
        (row["topic"], row["partition"], row["offset"], row["timestamp"], bytes(row["key"] or b""), bytes(row["value"] or b""))
        for row in rows
    )


def sent(place: Place) -> list[Row]:
    return sorted((*event[:4], event.key or b"", event.value or b"") for event in place.log())
