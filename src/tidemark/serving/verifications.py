"""Verifications: the differences between the batch layer's result at a mark and the speed layer's result for the same events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple, cast

from pymongo.database import Database

from tidemark.catalog.cube import MEASURES, Cell, label
from tidemark.rendering.verifications import render_verification
from tidemark.serving import plausibility
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document
from tidemark.serving.documents import ComparisonDocument, VerificationDocument, VerificationFields
from tidemark.serving.publications import Publication
from tidemark.settings.sections import BatchSettings

NAMED = 100  # differences of each kind that are stored by name; the others are only counted
_LONGEST = 500  # characters of a difference


class DifferenceKind(StrEnum):
    CELL = "cell"
    PRODUCT = "product"
    CATEGORY = "category"
    QUARANTINE = "quarantine"
    INGESTION = "ingestion"


class Differences(NamedTuple):
    """The number of differences of a kind, and the first of them as pairs: what differs, and how."""

    total: int
    named: list[tuple[str, str]]


class NotVerified(LookupError):
    """The publication has not been verified yet."""


class Drifted(Exception):
    """Differences have been found and must not be corrected automatically."""


class ApprovalRequired(Exception):
    """A person must decide whether it is published."""


def of_cells(expected: Cells, found: Cells) -> Differences:
    """The cells that differ from the expected ones. A cell whose sums are all 0 counts as absent."""
    wrong = [
        (_render_cell(cell), f"{_render_sums(now)} instead of {_render_sums(right)}")
        for cell in sorted({*expected, *found}, key=lambda one: (one[0], -1 if one[1] is None else one[1], one[2]))
        for right, now in [(_sums(expected.get(cell)), _sums(found.get(cell)))]
        if right != now
    ]
    return first(wrong)


def _render_cell(cell: Cell) -> str:
    return f"category {cell.category_id}, price level {label(cell.price_level)}, best seller {'yes' if cell.is_best_seller else 'no'}"


def _render_sums(sums: tuple[int, ...] | None) -> str:
    return ", ".join(f"{measure} {value}" for measure, value in zip(MEASURES, sums, strict=True)) if sums else "no cell"


def first(differences: Iterable[tuple[str, str]]) -> Differences:
    """Counts all differences and keeps the first NAMED."""
    count, named = 0, []
    for count, one in enumerate(differences, 1):
        if count <= NAMED:
            named.append(one)
    return Differences(count, named)


def store(
    database: Database[Document],
    publication: Publication,
    former: Publication,
    found: Mapping[DifferenceKind, Differences],
    reconciled: int,
    compared: ComparisonDocument,
) -> VerificationDocument:
    """Stores a verification in place of the publication's previous one, and returns it as stored.

    `former` is the served publication, `reconciled` a number of ingestions, `compared` the result of plausibility.compare() for the
    served publication and this one.
    """
    document: VerificationFields = {
        "_id": publication.number,
        "drift": sum(one.total for one in found.values()),
        "rules": publication.rules,
        "rules_changed": former.rules not in (None, publication.rules),
        "counts": {kind.value: one.total for kind, one in found.items()},
        "named": {kind.value: [{"what": what[:_LONGEST], "how": how[:_LONGEST]} for what, how in one.named] for kind, one in found.items()},
        "reconciled": reconciled,
        "compared": compared,
    }
    literal = {name: {"$literal": value} for name, value in document.items() if name != "_id"}  # a title may look like an expression
    kept = [{"$replaceWith": {"_id": publication.number, "at": "$$NOW", **literal}}]
    database.verification.update_one({"_id": publication.number}, kept, upsert=True)
    return read(database, publication.number)


def read(database: Database[Document], number: int) -> VerificationDocument:
    """The verification of a publication. Raises NotVerified if there is none."""
    found = database.verification.find_one({"_id": number})
    if found is None:
        raise NotVerified(f"publication {number} has not been verified: run `python -m tidemark.spark.batch verify {number}` first")
    # Verifications of earlier versions have no comparison.
    return {"compared": plausibility.compare({}, {}), **cast(VerificationDocument, found)}


def is_expected(verification: VerificationFields) -> bool:
    """Is the drift expected because the rules have changed since the previous publication? Differences with another cause are found again
    by the next verification.
    """
    return bool(verification.get("rules_changed"))


def requires_approval(verification: VerificationFields, on_drift: str, of: BatchSettings, hold: bool | None = None) -> bool:
    """Must a person approve it before it is published?

    `hold`: True is always, False never, None if it is implausible. `on_drift` is correct, ask or fail; with fail, drift raises Drifted.
    """
    if on_drift == "fail" and verification["drift"]:
        raise Drifted(
            f"{render_verification(verification)[-1]}. The previous publication stays served. To correct the drift, run "
            f"`python -m tidemark.spark.batch rebuild {verification['_id']}`, or the nightly batch with on_drift=correct"
        )
    implausible = plausibility.beyond(verification["compared"], of)
    return bool(hold or (hold is None and implausible) or (on_drift == "ask" and verification["drift"]))


def _sums(sums: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return sums if sums and any(sums) else None
