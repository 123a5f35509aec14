"""What depends on a file's kind: its topic, and the function that validates its events."""

from __future__ import annotations

from collections.abc import Callable

from tidemark.catalog.observations import CategoryObservation, ProductObservation, Rejection, category_observation, product_observation
from tidemark.ingest.files import FileKind
from tidemark.settings.sections import KafkaSettings


def topic_of(kind: FileKind, of: KafkaSettings) -> str:
    return of.product_topic if kind is FileKind.PRODUCT else of.category_topic


def validator_of(kind: FileKind) -> Callable[..., ProductObservation | CategoryObservation | Rejection]:
    """The function of catalog.observations that validates an event of that kind."""
    return product_observation if kind is FileKind.PRODUCT else category_observation
