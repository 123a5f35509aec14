"""What the offsets of a database refer to: an epoch of the log, and the raw history that holds what came before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tidemark.catalog.epochs import epoch_of, first_of
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import offsets
from tidemark.serving.documents import AdoptionDocument, BindingDocument, WitnessDocument

# What to do where something that is needed cannot be restored; the end of a sentence.
ADOPT = "run `python -m tidemark.spark.batch adopt --dry-run`: it says what is lost, and how to go on with what is left"


class TopicsRecreated(Exception):
    """A topic is not the one that the stored offsets refer to."""


class Record(NamedTuple):
    """What is remembered of a record in Kafka: its own offset, its timestamp (milliseconds), and the CRC-32 of its value."""

    offset: int
    timestamp: int
    digest: int


Witness = Mapping[TopicPartition, Record]
"""For each partition of the current epoch, the record with the highest offset that was ever served."""


@dataclass(frozen=True)
class Binding:
    """`epoch` counts the logs that were adopted, `topics` are their ids by name. The epoch begins at the mark `origin`: the `events` events
    before it are only in the raw history, which reached `landed` then.
    """

    epoch: int = 0
    topics: Mapping[str, str] = field(default_factory=dict)
    origin: TideMark = field(default_factory=TideMark)
    landed: TideMark = field(default_factory=TideMark)
    events: int = 0

    def require_topics(self, found: Mapping[str, str]) -> None:
        """Raises TopicsRecreated if a topic's id is not the one that the offsets refer to."""
        for topic, identity in found.items():
            if self.topics.get(topic, identity) != identity:
                raise TopicsRecreated(
                    f"topic {topic} has id {identity}, but the ledger's offsets refer to id {self.topics[topic]}: the topic was deleted "
                    f"and recreated. Nothing has been changed. Restore the former topic. If it is lost, {ADOPT}"
                )

    def within(self, mark: TideMark, partitions: Iterable[TopicPartition]) -> TideMark:
        """The mark from which to read these partitions: one that was added in this epoch is read from its beginning."""
        added = {key: first_of(self.epoch) for key in partitions if key not in self.origin}
        return mark.joined(TideMark(added))

    def logical(self, offset: int) -> int:
        """The stored form of an offset of Kafka's current log."""
        return first_of(self.epoch) + offset

    def events_below(self, mark: TideMark) -> int:
        """About how many events lie below a mark. Offsets without events count, too."""
        if self.epoch and any(epoch_of(offset) == self.epoch for offset in mark.values()):
            return self.events + self.origin.behind(mark)
        return TideMark().behind(mark)


@dataclass(frozen=True)
class Adoption:
    """What the ledger's offsets refer to once a draft is served. Below the mark `certain` no event of the former log is missing."""

    binding: Binding
    witness: Witness
    certain: TideMark


def binding_of(document: BindingDocument) -> Binding:
    return Binding(
        document["epoch"],
        document["topics"],
        offsets.from_documents(document["origin"]),
        offsets.from_documents(document["landed"]),
        document["events"],
    )


def to_document(binding: Binding) -> BindingDocument:
    return {
        "epoch": binding.epoch,
        "topics": dict(binding.topics),
        "origin": offsets.to_documents(binding.origin),
        "landed": offsets.to_documents(binding.landed),
        "events": binding.events,
    }


def witness_of(documents: Iterable[WitnessDocument]) -> Witness:
    return {TopicPartition(one["topic"], one["partition"]): Record(one["offset"], one["timestamp"], one["digest"]) for one in documents}


def witness_documents(witness: Witness) -> list[WitnessDocument]:
    return [
        {"topic": topic, "partition": partition, "offset": of.offset, "timestamp": of.timestamp, "digest": of.digest}
        for (topic, partition), of in sorted(witness.items())
    ]


def adoption_of(document: AdoptionDocument) -> Adoption:
    return Adoption(binding_of(document["log"]), witness_of(document["witness"]), offsets.from_documents(document["certain"]))


def adoption_document(adoption: Adoption) -> AdoptionDocument:
    return {
        "log": to_document(adoption.binding),
        "witness": witness_documents(adoption.witness),
        "certain": offsets.to_documents(adoption.certain),
    }


def newest(one: Witness, other: Witness) -> Witness:
    """Of each partition the record with the higher offset."""
    return {key: max(witness[key] for witness in (one, other) if key in witness) for key in {*one, *other}}
