"""Nightly runs in a test's own process, and what their verifications have found."""

from __future__ import annotations

from tidemark.serving import publications, verifications
from tidemark.serving.database import Document
from tidemark.spark.batch import Batch
from tidemark.spark.recompute import Mode

KEPT = 7


def night(work: Batch, mode: Mode = Mode.AUTO) -> Document:
    """One nightly run; its verification."""
    work.nightly(mode.value, "correct", KEPT)
    return verifications.read(work.database, max(one.number for one in publications.listing(work.database)))


def named(verification: Document) -> dict[str, dict[str, str]]:
    """What a verification names, by kind; it must name all that it has counted."""
    found = {kind: {one["what"]: one["how"] for one in named} for kind, named in verification["named"].items() if named}
    assert {kind: len(named) for kind, named in found.items()} == {kind: count for kind, count in verification["counts"].items() if count}
    return found
