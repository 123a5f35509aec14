"""Events as the rows that tasks get from Spark, judged by catalog/."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from support.events import CATEGORIES

from tidemark.catalog.cube import MEASURES, cell_of, contribution_of
from tidemark.catalog.events import INGESTION, Event
from tidemark.catalog.observations import CategoryObservation, ProductObservation, Rejection, category_observation, product_observation

_VERSION = ("observed_at", "registered_at", "position", "partition", "offset")
_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),
        *((name, pa.int32() if name == "partition" else pa.int64()) for name in _VERSION),
        *((name, pa.string()) for name in ("title", "imgUrl", "productURL", "category_name", "topic", "reason", "ingestion")),
        *((name, pa.float64()) for name in ("stars", "price", "listPrice")),
        *((name, pa.int32()) for name in ("category_id", "boughtInLastMonth", "price_level")),
        ("isBestSeller", pa.bool_()),
        ("timestamp", pa.int64()),
        ("raw", pa.binary()),
        *((measure, pa.int64()) for measure in MEASURES),
    ]
)


def rows(events: Iterable[Event]) -> pa.RecordBatch:
    """A row an event; at most one an ASIN, a category and a source, as transforms.newest leaves them."""
    return pa.RecordBatch.from_pylist([_row(event) for event in events], schema=_SCHEMA)


def _row(event: Event) -> dict[str, Any]:
    seen = category_observation(event) if event.topic == CATEGORIES else product_observation(event)
    common = {"topic": event.topic, "timestamp": event.timestamp, "ingestion": event.name(INGESTION)}
    version = {
        "observed_at": 0,
        "registered_at": event.registered_at,
        "position": event.position,
        "partition": event.partition,
        "offset": event.offset,
    }
    match seen:
        case Rejection():
            return {**common, **version, "kind": "rejection", "id": event.source, "reason": seen.reason, "raw": event.value}
        case CategoryObservation():
            return {**common, **version, "kind": "category", "id": str(seen.id), "category_id": seen.id, "category_name": seen.name}
        case ProductObservation():
            return {
                **common,
                **{**version, "kind": "product", "id": seen.asin, "observed_at": seen.observed_at},
                **{"title": seen.title, "imgUrl": seen.img_url, "productURL": seen.product_url},
                **{"stars": seen.stars, "price": seen.price, "listPrice": seen.list_price, "reviews": seen.reviews},
                **{"category_id": seen.category_id, "isBestSeller": seen.is_best_seller, "price_level": cell_of(seen).price_level},
                **{"boughtInLastMonth": seen.bought_in_last_month, **asdict(contribution_of(seen))},
            }
