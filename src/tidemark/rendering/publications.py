"""Publications, and the effect of rebuilding one."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tidemark.catalog.marks import TideMark
from tidemark.catalog.words import counted


class Publication(Protocol):
    """What is rendered of a publication."""

    @property
    def number(self) -> int: ...
    @property
    def mark(self) -> TideMark: ...
    @property
    def published_at(self) -> datetime | None: ...
    @property
    def rules(self) -> str | None: ...


def render_publication(publication: Publication, served: int, back: int) -> str:
    """A publication as a line of plain text, which a terminal and Airflow's form show alike.

    `back` is the number of offsets that a rebuild would set the stream back.
    """
    state = "served" if publication.number == served else "" if publication.published_at or not publication.number else "draft"
    when = f"{publication.published_at:%Y-%m-%d %H:%M} UTC" if publication.published_at else "-"
    rules, mark = publication.rules or "-", publication.mark
    return f"{publication.number:>6}  {state:<6}  published {when}  {counted(back, 'offset')} back  rules {rules}  at {mark}"


def render_rebuild(publication: Publication, served: int, now: TideMark, back: int) -> str:
    """The effect of rebuilding a publication. `served` is the served one, `now` the stream's offsets, `back` by how many they go back."""
    return (
        f"publication {served} is served, with the stream at {now}. The rebuild serves publication "
        f"{publication.number} at {publication.mark}: the stream stops, goes back {counted(back, 'offset')} and serves them again. "
        "Until then the reports are older; nothing is lost"
    )
