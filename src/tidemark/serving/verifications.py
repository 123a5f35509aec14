"""Verifications: what differs between the batch layer's result at a mark and what the speed layer has made of the same events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from pymongo.database import Database

from tidemark.serving import plausibility
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document
from tidemark.serving.publications import Publication
from tidemark.settings import settings

NAMED = 100  # differences of each kind that are named; the others are counted
SHOWN = 10  # of them in text
_LONGEST = 500  # characters of a difference


class DifferenceKind(StrEnum):
    CELL = "cell"
    PRODUCT = "product"
    CATEGORY = "category"
    QUARANTINE = "quarantine"
    INGESTION = "ingestion"


class Differences(NamedTuple):
    """How many there are of a kind, and the first of them: pairs of what differs and how."""

    total: int
    named: list[tuple[str, str]]


class NotVerified(LookupError):
    """The publication has not been verified yet."""


class Drifted(Exception):
    """Differences have been found, and they are not to be corrected."""


class Held(Exception):
    """A person is to decide whether it is published."""


def of_cells(expected: Cells, found: Cells) -> Differences:
    """How cells differ from what they should be. A cell whose sums are all 0 is no cell."""
    wrong = [
        (f"category {cell.category_id}, level {cell.price_level}, best seller {cell.is_best_seller}", f"{now} instead of {right}")
        for cell in sorted({*expected, *found}, key=lambda one: (one[0], -1 if one[1] is None else one[1], one[2]))
        for right, now in [(_sums(expected.get(cell)), _sums(found.get(cell)))]
        if right != now
    ]
    return first(wrong)


def first(differences: Iterable[tuple[str, str]]) -> Differences:
    """Counts all and keeps the first."""
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
    compared: Document,
) -> Document:
    """Keeps a verification, the newest of a publication; returns it as it is kept.

    `former` is the served publication, `reconciled` counts ingestions; `compared` is plausibility.compare() of what is served and the
    publication.
    """
    document = {
        "drift": sum(one.total for one in found.values()),
        "rules": publication.rules,
        "rules_changed": former.rules not in (None, publication.rules),
        "counts": {kind.value: one.total for kind, one in found.items()},
        "named": {kind.value: [{"what": what[:_LONGEST], "how": how[:_LONGEST]} for what, how in one.named] for kind, one in found.items()},
        "reconciled": reconciled,
        "compared": compared,
    }
    literal = {name: {"$literal": value} for name, value in document.items()}  # a title may look like an expression
    kept = [{"$replaceWith": {"_id": publication.number, "at": "$$NOW", **literal}}]
    database.verification.update_one({"_id": publication.number}, kept, upsert=True)
    return read(database, publication.number)


def read(database: Database[Document], number: int) -> Document:
    """The verification of a publication; NotVerified where there is none."""
    found = database.verification.find_one({"_id": number})
    if found is None:
        raise NotVerified(f"publication {number} has not been verified: run `python -m tidemark.spark.batch verify {number}` first")
    return {"compared": plausibility.compare({}, {}), **found}  # one that is older than the comparison has none


def lines(verification: Document) -> list[str]:
    """A verification for people: the first differences of each kind, then how many there are, and why they may be expected."""
    shown = []
    for kind, named in verification["named"].items():
        shown += [f"{kind} {one['what']}: {one['how']}" for one in named[:SHOWN]]
        if (more := verification["counts"][kind] - SHOWN) > 0:
            shown.append(f"and {more:,} more differences of this kind: collection verification, document {verification['_id']}")
    total = ", ".join(f"{count:,} {kind}" for kind, count in verification["counts"].items() if count)
    why = "; the rules have changed since the publication before" if is_expected(verification) else ""
    shown.append(
        f"publication {verification['_id']}: " + (f"{verification['drift']:,} differences ({total}){why}" if total else "no drift")
    )
    return shown


def is_expected(verification: Document) -> bool:
    """Is its drift what a change of the rules makes, until a night has passed? Not every difference need be, but what is wrong otherwise
    is found again by the next verification.
    """
    return bool(verification.get("rules_changed"))


def in_markdown(verification: Document) -> str:
    """What a person needs to know who decides whether it is published: figures beside those served, and the drift."""
    compared, drift = verification["compared"], "\n".join(lines(verification))
    return f"{plausibility.in_words(compared, plausibility.beyond(compared, settings()))}\n\n```\n{drift}\n```"


def asks(verification: Document, on_drift: str, hold: bool | None = None) -> bool:
    """Is a person to be asked before it is published?

    `hold` is always or never; None is where it is implausible. `on_drift` is correct, ask or fail: raises Drifted where it is to fail.
    """
    if on_drift == "fail" and verification["drift"]:
        raise Drifted(
            f"{lines(verification)[-1]}. The former publication stays served. To correct it run `python -m tidemark.spark.batch rebuild "
            f"{verification['_id']}`, or the nightly batch with on_drift=correct"
        )
    implausible = plausibility.beyond(verification["compared"], settings())
    return bool(hold or (hold is None and implausible) or (on_drift == "ask" and verification["drift"]))


def _sums(sums: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return sums if sums and any(sums) else None
