"""Epochs of the log. When a log that was lost is replaced by another one, the offsets of Kafka begin again; a new epoch keeps them apart.

Every stored offset is `epoch * OFFSETS + Kafka's offset`. So an offset of a later epoch is higher than all of earlier ones, and tide marks
and versions stay plain numbers.
"""

from __future__ import annotations

OFFSETS = 10**14  # of one epoch and partition. 90 epochs fit into the integers that JSON keeps exact


def epoch_of(offset: int) -> int:
    return offset // OFFSETS


def first_of(epoch: int) -> int:
    """The lowest offset of an epoch."""
    return epoch * OFFSETS


def kafka_offset(offset: int) -> int:
    """Kafka's own offset, within its epoch."""
    return offset % OFFSETS


def render_offset(offset: int) -> str:
    """For messages: Kafka's offset, and the epoch if it is not the first."""
    return f"{kafka_offset(offset)}" + (f" (epoch {epoch_of(offset)})" if epoch_of(offset) else "")
