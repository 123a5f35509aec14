"""The tide mark: an exclusive offset per partition. Events below it belong to the batch layer, the others to the stream.

Offsets are those of tidemark.catalog.epochs: Kafka's own, as long as the log has never been replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tidemark.catalog.epochs import epoch_of, kafka_offset, render_offset
from tidemark.catalog.events import Event


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class TideMark(Mapping[TopicPartition, int]):
    """Offsets by partition. A partition that is not named is at 0; naming it at 0 is equivalent."""

    def __init__(self, offsets: Mapping[TopicPartition, int] | None = None) -> None:
        self._offsets = {TopicPartition(*key): offset for key, offset in sorted((offsets or {}).items()) if offset}
        if any(offset < 0 for offset in self._offsets.values()):
            raise ValueError(f"a tide mark must not have negative offsets: {self}")

    def __getitem__(self, key: TopicPartition) -> int:
        return self._offsets.get(key, 0)

    def __iter__(self) -> Iterator[TopicPartition]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, key: object) -> bool:
        return key in self._offsets

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TideMark) and self._offsets == other._offsets

    def __hash__(self) -> int:
        return hash(tuple(self._offsets.items()))

    def __repr__(self) -> str:
        return f"TideMark({self._listed()})"

    def __str__(self) -> str:
        """For messages."""
        return self._listed() or "the beginning of the log"

    def _listed(self) -> str:
        return ", ".join(f"{topic}/{partition}@{render_offset(offset)}" for (topic, partition), offset in self.items())

    def covers(self, event: Event) -> bool:
        """Is the event below the mark?"""
        return event.offset < self[TopicPartition(event.topic, event.partition)]

    def reaches(self, other: TideMark) -> bool:
        """Is the mark at or beyond the other in every partition?"""
        return all(self[key] >= offset for key, offset in other.items())

    def joined(self, other: TideMark) -> TideMark:
        """The lowest mark that reaches both."""
        return TideMark({key: max(self[key], other[key]) for key in {*self, *other}})

    def behind(self, other: TideMark) -> int:
        """The number of offsets from this mark to the other, over all partitions. A partition that is ahead counts as 0.

        Where the other is in a later epoch, only the offsets of that epoch count.
        """
        return sum(
            max(0, offset - self[key]) if epoch_of(offset) == epoch_of(self[key]) else kafka_offset(offset)
            for key, offset in other.items()
            if offset > self[key]
        )
