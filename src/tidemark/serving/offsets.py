"""Tide marks as stored in MongoDB: an array of {topic, partition, offset}, offsets exclusive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving.database import Document


def to_documents(mark: TideMark) -> list[Document]:
    return [{"topic": topic, "partition": partition, "offset": offset} for (topic, partition), offset in mark.items()]


def from_documents(documents: Iterable[Mapping[str, Any]] | None) -> TideMark:
    return TideMark({TopicPartition(one["topic"], one["partition"]): one["offset"] for one in documents or ()})
