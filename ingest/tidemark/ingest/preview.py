"""Previews an ingestion: what the files would change if they were ingested now. Nothing is registered, nothing is sent.

Rows are validated by the rules in force, as the events that they would become, and compared with the served state. Events that the
stream has not served yet are not part of the comparison; `events_behind` is their number.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import orjson
from pymongo.database import Database

from tidemark.catalog.events import Event
from tidemark.catalog.observations import CategoryObservation, ProductObservation, Reason, Rejection
from tidemark.catalog.words import rule
from tidemark.ingest import archives
from tidemark.ingest.files import File, FileKind, Readable, Record
from tidemark.ingest.kept_plans import KeptPlan
from tidemark.ingest.kinds import topic_of, validator_of
from tidemark.ingest.layouts import UNMAPPED, Columns
from tidemark.ingest.newest import Newest
from tidemark.ingest.plan import Planned, planning
from tidemark.ingest.records import Message, Origin, messages_of, milliseconds
from tidemark.ingest.shifts import Shift
from tidemark.serving import ingestions, withdrawals
from tidemark.serving.database import Document
from tidemark.serving.figures import exceeded_thresholds, moved
from tidemark.serving.snapshot import Snapshot, snapshot
from tidemark.settings import Settings
from tidemark.settings.sections import IngestionSettings

log = logging.getLogger(__name__)

EXAMPLES = 3  # rows per reason
EXAMPLE_CHARACTERS = 300
CATEGORIES = 10  # listed in a preview
_PROGRESS_ROWS, _PROGRESS_SECONDS = 1_000, 5.0


def preview(
    database: Database[Document],
    files: Iterable[File],
    chunk_bytes: int,
    of: Settings,
    named: Columns = UNMAPPED,
    *,
    keep: bool = False,
) -> Document:
    """The effect of ingesting these files, as a JSON-serializable document. Money is in dollars, shares are fractions of 1.

    Withdrawn files are validated as if they were not withdrawn; `refused` lists why they would be refused. With `keep`, the plans and what
    has been unpacked are kept for the run that ingests the files.

    Raises InvalidFile as a plan does, and LookupError if the database is not prepared.
    """
    rows = _Rows(of)
    with Newest(of.work) as newest:
        for file in files:
            kept_plan = KeptPlan(of.work, file, chunk_bytes, named)
            with archives.plain(file.path, file.kind, named, of.work) as plain:
                planned = rows.validate(database, file, plain, chunk_bytes, named, newest)
                if keep:
                    member = archives.keep(plain, of.work, planned.ingestion["_id"])
                    kept_plan.keep(planned._replace(member=member))
        with snapshot(database) as served:
            return _compared(served, rows, newest)


def beyond(shifts: Document, of: IngestionSettings) -> list[str]:
    """Descriptions of the settings' thresholds that a preview's shifts exceed."""
    limits = {
        "rejected": (of.hold_rejected_share, "of rows rejected"),
        "products": (of.hold_products_shift, "change in the number of products"),
        "average_price": (of.hold_price_shift, "change in the average price"),
    }
    return exceeded_thresholds(shifts, limits)


class _Rows:
    """Validation results of all files, apart from the products' states."""

    def __init__(self, of: Settings) -> None:
        self._of = of
        self.files: list[Document] = []
        self.refused: list[str] = []
        self.rejections: Counter[Reason] = Counter()
        self.examples: dict[Reason, list[Document]] = {}
        self.categories: dict[int, CategoryObservation] = {}
        self._of_file: dict[int, CategoryObservation] = {}  # categories of the file that is being read

    def validate(
        self, database: Database[Document], file: File, plain: Readable, chunk_bytes: int, named: Columns, newest: Newest
    ) -> Planned:
        """Validates every row of a file as the event that it would become, and plans the file in the same pass."""
        now = datetime.now(UTC)
        before = self.rejections.total()
        with planning(plain, file.kind, file.observed_at, chunk_bytes, named) as reading:
            # Which ingestion it is, and when it was registered, is known once the file has been read. Validation needs neither.
            origin = Origin("", file.kind, reading.layout.columns, file.observed_at, now, reading.layout.separator)
            rows = messages_of(_logged(reading.rows(), plain.name), origin)
            newest.add(one for row in rows if (one := self._product(file.kind, plain.name, row)) is not None)
            planned = reading.planned()
        ingestion = planned.ingestion
        registered_at = ingestions.registered_at(database, ingestion["_id"])
        # Files of one run are registered one after another.
        newest.end_file(milliseconds(registered_at or now))
        self._end_file(milliseconds(registered_at or now))
        self.refused += withdrawals.refusals(database, [ingestion["_id"]], self._of.airflow_names)
        self.files.append(
            {
                "file": str(plain),
                "kind": ingestion["kind"],
                "observed_at": file.observed_at.isoformat(),
                "rows": ingestion["rows"],
                "rejected": self.rejections.total() - before,
                "ingested_before": registered_at is not None,
            }
        )
        return planned

    def _product(self, kind: FileKind, name: str, row: Message) -> ProductObservation | None:
        """The product of a row; None for a category, which is stored here, and for a rejected row, which is counted."""
        event = Event(topic_of(kind, self._of), 0, 0, time.time_ns() // 1_000_000, row.key, row.value, tuple(row.headers))  # type: ignore[arg-type]
        found = validator_of(kind)(event)
        match found:
            case ProductObservation():
                return found
            case CategoryObservation():
                self._of_file[found.id] = found
            case Rejection():
                self.rejections[found.reason] += 1
                examples = self.examples.setdefault(found.reason, [])
                if len(examples) < EXAMPLES:
                    text = _field(row, found.reason)[:EXAMPLE_CHARACTERS]
                    examples.append({"file": name, "byte": event.position, "key": (row.key or b"").decode(), "text": text})
        return None

    def _end_file(self, registered_at: int) -> None:
        """Compares the categories of a file, which was registered at `registered_at` (ms since 1970), with those of other files."""
        for one in self._of_file.values():
            version = one.version._replace(registered_at=registered_at)
            known = self.categories.get(one.id)
            if known is None or known.version <= version:
                self.categories[one.id] = one._replace(version=version)
        self._of_file.clear()


def _logged(rows: Iterator[Record], name: str) -> Iterator[Record]:
    """The same rows; logs how far it is."""
    logged_at = time.monotonic()
    for number, row in enumerate(rows):
        yield row
        if number % _PROGRESS_ROWS == 0 and time.monotonic() - logged_at > _PROGRESS_SECONDS:
            logged_at = time.monotonic()
            log.info("%s: %d rows validated", name, number + 1)


def _field(row: Message, reason: Reason) -> str:
    """The text of a rejected row that breaks the rule; the whole value if the row as a whole is malformed."""
    if reason is Reason.MALFORMED:
        return row.value.decode(errors="backslashreplace")
    return str(orjson.loads(row.value).get(str(reason), ""))


def _compared(served: Snapshot, rows: _Rows, newest: Newest) -> Document:
    freshness = served.one("report_freshness")
    if freshness is None:
        raise LookupError(f"database {served.database.name} is not prepared: run `python -m tidemark.serving.schema`")
    shift, products = Shift(served), Counter[str]()
    for states in newest.batches():
        found = {one["_id"]: one for one in served.rows("product", {"$match": {"_id": {"$in": list(states)}}})}
        products.update(shift.replace(state, found.get(asin)) for asin, state in states.items())
    held = {one["_id"]: one for one in served.rows("category")}
    categories = Counter(_name_change(one, held.get(one.id)) for one in rows.categories.values())
    names = {number: one["category_name"] for number, one in held.items()} | {one.id: one.name for one in rows.categories.values()}
    before, after = shift.summary()
    count = sum(one["rows"] for one in rows.files)
    return {
        "files": rows.files,
        "refused": rows.refused,
        "rows": count,
        "rejected": [
            {"reason": str(reason), "rows": number, "rule": rule(reason), "examples": rows.examples[reason]}
            for reason, number in rows.rejections.most_common()
        ],
        "products": {name: products[name] for name in ("new", "changed", "unchanged", "older")},
        "categories": {name: categories[name] for name in ("new", "changed", "unchanged", "older")},
        "before": before,
        "after": after,
        "by_category": shift.by_category(names, CATEGORIES),
        "shifts": {
            "rejected": rows.rejections.total() / count,
            "products": moved(before["products"], after["products"]),
            "average_price": moved(before["average_price"], after["average_price"]),
        },
        "events_behind": freshness["events_behind"],
    }


def _name_change(category: CategoryObservation, held: Document | None) -> str:
    """How a category's name compares with the served one: new, changed, unchanged or older."""
    if held is None:
        return "new"
    version = tuple(held["_tide"]["version"][name] for name in ("registered_at", "position"))
    if category.version[:2] < version:
        return "older"
    return "unchanged" if category.name == held["category_name"] else "changed"
