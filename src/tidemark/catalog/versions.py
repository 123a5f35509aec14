"""Newest wins: a total order with named tie-breakers. Arrival order is irrelevant."""

from __future__ import annotations

from typing import NamedTuple

from tidemark.catalog.events import Event


class Version(NamedTuple):
    """Orders the observations of one product: the highest version is its state.

    The newest moment of observation wins; then the latest registration; then, within a file, the later row. Partition and offset
    break the remaining ties. Times are whole milliseconds since 1970 UTC.
    """

    observed_at: int
    registered_at: int
    position: int
    partition: int
    offset: int

    @classmethod
    def of(cls, event: Event, observed_at: int) -> Version:
        return cls(observed_at, event.registered_at, event.position, event.partition, event.offset)


class CategoryVersion(NamedTuple):
    """Orders the names of one category. Categories have no moment of observation: the latest registration wins."""

    registered_at: int
    position: int
    partition: int
    offset: int

    @classmethod
    def of(cls, event: Event) -> CategoryVersion:
        return cls(event.registered_at, event.position, event.partition, event.offset)
