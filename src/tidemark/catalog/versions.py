"""Newest wins, by a total order whose tie-breakers have names. Arrival order decides nothing."""

from __future__ import annotations

from typing import NamedTuple

from tidemark.catalog.events import Event


class Version(NamedTuple):
    """Orders the observations of one product: the highest is its state.

    The newest moment wins; for one moment, what was told last; within one file, the later row; partition and offset
    decide between what is otherwise the same. Times are whole milliseconds since 1970 UTC.
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
    """Orders the names of one category. Categories have no moment of observation: what was told last wins."""

    registered_at: int
    position: int
    partition: int
    offset: int

    @classmethod
    def of(cls, event: Event) -> CategoryVersion:
        return cls(event.registered_at, event.position, event.partition, event.offset)
