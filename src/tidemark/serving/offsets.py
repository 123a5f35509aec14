"""Tide marks as stored in MongoDB: an array of {topic, partition, offset}, offsets exclusive."""

from __future__ import annotations

from collections.abc import Iterable

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving.documents import OffsetDocument


def to_documents(mark: TideMark) -> list[OffsetDocument]:
    return [{"topic": topic, "partition": partition, "offset": offset} for (topic, partition), offset in mark.items()]


def from_documents(documents: Iterable[OffsetDocument] | None) -> TideMark:
    return TideMark({TopicPartition(one["topic"], one["partition"]): one["offset"] for one in documents or ()})
