"""The work of the tasks of the DAG `tidemark_ingest`. Each task is idempotent.

Files are given as paths or URLs. The caller passes the function that opens them, the database and the producer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

from confluent_kafka import Producer
from pymongo.database import Database

from tidemark.catalog.epochs import first_of
from tidemark.catalog.marks import TideMark
from tidemark.catalog.observations import moment
from tidemark.catalog.words import counted
from tidemark.ingest import archives
from tidemark.ingest.files import File, FileKind, InvalidFile, Path, Readable
from tidemark.ingest.kept_plans import KeptPlan
from tidemark.ingest.kinds import topic_of
from tidemark.ingest.layouts import UNMAPPED, Columns, columns_of
from tidemark.ingest.plan import Planned
from tidemark.ingest.plan import plan as plan_file
from tidemark.ingest.preview import beyond, preview
from tidemark.ingest.produce import UnsafeProducer, explaining_refusals, produce_chunk, require_safe
from tidemark.ingest.records import Origin
from tidemark.ingest.sources import DAY, WILDCARDS, ForbiddenFile, split
from tidemark.rendering.previews import render_preview
from tidemark.serving import ingestions, ledger, withdrawals
from tidemark.serving.database import Document
from tidemark.serving.ingestions import Location
from tidemark.settings import Settings
from tidemark.settings.sections import AirflowSettings, HomeSettings, IngestionSettings

log = logging.getLogger(__name__)

MOMENT_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].+)?$"
PLAN, APPROVE = "plan", "approve"  # task ids


class InvalidParameters(Exception):
    """The run's parameters do not determine the files or their date."""


# Errors that a retry would raise again.
PERMANENT_ERRORS: tuple[type[Exception], ...] = (
    *(InvalidParameters, InvalidFile, ForbiddenFile, UnsafeProducer, LookupError, withdrawals.Withdrawn),
    *(FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
)


Paths = Callable[[str], Path]


class PreviewDecision(NamedTuple):
    """The next task of a run (None: none), with the preview, if one was made, as data and as Markdown."""

    step: str | None
    preview: Document | None = None
    text: str = ""


class ChunkKey(TypedDict):
    """A chunk of a registered ingestion."""

    ingestion: str
    number: int


class Plan(NamedTuple):
    """The distinct ids of a run's ingestions, and the chunks still to be produced."""

    ingestions: list[str]
    chunks: list[ChunkKey]


def files_of(day: str | None, parameters: Mapping[str, Any], of: IngestionSettings, paths: Paths) -> list[File]:
    """The files of a run: those given as parameters, otherwise those that the patterns of the settings find for its day.

    `day` (YYYY-MM-DD) is None for a manual run. Raises InvalidParameters if dates and files do not match, FileNotFoundError if a given
    file does not exist.
    """
    products: Sequence[str] = parameters.get("products") or []
    categories: Sequence[str] = parameters.get("categories") or []
    dates = [_moment(text) for text in parameters.get("observed_at") or ([day] if day else [])]
    if not products and not categories:
        if not day:
            raise InvalidParameters(
                "no files and no day given: set products or categories, or give a day as the partition key (YYYY-MM-DD)"
            )
        if len(dates) > 1:
            raise InvalidParameters(f"{len(dates)} dates but no files given: give one date for the day's files, or name the files")
        found = {FileKind.CATEGORY: _found(of.categories_pattern, day, paths), FileKind.PRODUCT: _found(of.products_pattern, day, paths)}
        return [File(kind, path, dates[0]) for kind, those in found.items() for path in those]
    if not dates:
        raise InvalidParameters("no date of observation given: set observed_at to one date, or to one date per product file")
    if len(dates) not in (1, len(products)):
        files_given = counted(len(products), "product file")
        raise InvalidParameters(f"{files_given} but {len(dates)} dates: give one date for all files, or one date per product file")
    each = dates if len(dates) == len(products) else dates * len(products)
    files = [File(FileKind.CATEGORY, paths(name), max(dates)) for name in categories]
    files += [File(FileKind.PRODUCT, paths(name), date) for name, date in zip(products, each, strict=True)]
    if missing := [str(file.path) for file in files if not file.path.is_file()]:
        raise FileNotFoundError(f"no such file: {', '.join(missing)}. Check the paths: they refer to the machine that runs the task")
    return files


def columns(parameters: Mapping[str, Any], of: IngestionSettings) -> Columns:
    """The column mapping of a run: that of its parameters, otherwise that of the settings. Raises InvalidParameters."""
    try:
        return columns_of(parameters.get("columns") or of.columns)
    except ValueError as reason:
        raise InvalidParameters(f"invalid column mapping: {reason}") from None


def chunk_bytes_of(parameters: Mapping[str, Any], of: IngestionSettings) -> int:
    """The size of a run's chunks: that of its parameters, otherwise that of the settings."""
    return parameters.get("chunk_bytes") or of.chunk_bytes


def preview_run(database: Database[Document], files: Sequence[File], parameters: Mapping[str, Any], of: Settings) -> PreviewDecision:
    """Previews the files if the run is a dry run or may have to wait for approval. Raises InvalidParameters, InvalidFile."""
    trial, hold = parameters.get("dry_run"), parameters.get("hold")
    limits = (of.hold_rejected_share, of.hold_products_shift, of.hold_price_shift)
    if not files or not (trial or hold or (hold is None and any(limit is not None for limit in limits))):
        return PreviewDecision(PLAN)
    found = preview(database, files, chunk_bytes_of(parameters, of), of, columns(parameters, of), keep=not trial)
    passed = beyond(found["shifts"], of)
    text = render_preview(found, passed)
    log.info("preview:\n%s", text)
    if trial:
        return PreviewDecision(None, found, text)
    return PreviewDecision(APPROVE if hold or (passed and hold is None) else PLAN, found, text)


def plan(database: Database[Document], files: Sequence[File], chunk_bytes: int, of: AirflowSettings, named: Columns = UNMAPPED) -> Plan:
    """Plans and registers all files before any event is produced. Unpacks compressed files.

    Raises InvalidFile, and Withdrawn if one of the files has been withdrawn.
    """
    planned: dict[str, tuple[Location, Planned]] = {}
    for file in files:
        found = KeptPlan(of.work, file, chunk_bytes, named).take() or _planned(file, chunk_bytes, of, named)
        ingestion, location = found.ingestion, Location(str(file.path), found.member)
        size = f"{counted(ingestion['rows'], 'row')}, {counted(ingestion['bytes'], 'byte')}, {counted(len(found.chunks), 'chunk')}"
        log.info("%s: %s, observed at %s", location, size, _utc(file.observed_at))
        first, _ = planned.setdefault(ingestion["_id"], (location, found))
        if first is not location:
            log.warning("%s has the same content as %s and is ingested once", location, first)
    withdrawals.require_none(database, planned, of.airflow_names)
    to_do: list[ChunkKey] = []
    for identity, (location, (ingestion, chunks, _)) in planned.items():
        registered_at = ingestions.register(database, ingestion, chunks, location)
        numbers = ingestions.chunks_to_do(database, identity)
        to_send = counted(len(numbers), "chunk")
        log.info("%s is ingestion %s, registered at %s: %s to send", location, identity, _utc(registered_at), to_send)
        to_do += [{"ingestion": identity, "number": number} for number in numbers]
    return Plan(list(planned), to_do)


def chunk_name(database: Database[Document], ingestion: str, number: int) -> str:
    """What people call a chunk. Raises LookupError."""
    return f"{ingestions.read(database, ingestion)['name']} {number + 1}"


def produce(
    database: Database[Document],
    producer: Callable[[], Producer],
    configuration: Mapping[str, Any],
    paths: Paths,
    of: Settings,
    ingestion: str,
    number: int,
) -> None:
    """Produces one chunk of a registered ingestion unless it is already done. `configuration` is the producer's, which must be safe.

    Raises UnsafeProducer, NotAcknowledged, LookupError, and InvalidFile if the file differs from the plan.
    """
    require_safe(configuration)
    planned, done = ingestions.read_chunk(database, ingestion, number)
    if done:
        log.info("chunk %d of ingestion %s is already done", number, ingestion)
        return
    known = ingestions.read(database, ingestion)
    file: Readable = paths(known["file"])
    if known["member"] is not None:
        file = archives.Unpacked(file, known["member"], archives.kept(of.work, ingestion))
    kind, sent_in = FileKind(known["kind"]), ingestions.epoch(database)
    origin = Origin(ingestion, kind, tuple(known["columns"]), known["observed_at"], known["registered_at"], known["separator"])
    topic = topic_of(kind, of)
    with explaining_refusals(configuration):
        acknowledged = produce_chunk(producer(), topic, file, known["bytes"], planned, origin, of.acknowledge_seconds)
    ends = TideMark({key: first_of(sent_in) + end for key, end in acknowledged.ends.items()})
    ingestions.finish_chunk(database, ingestion, number, acknowledged.events, ends, sent_in)
    log.info("chunk %d of %s: %s acknowledged", number, file, counted(acknowledged.events, "event"))


def lost_chunks(database: Database[Document]) -> list[ChunkKey]:
    """The chunks whose events may be lost with a former log, and that have not been sent again."""
    return [
        {"ingestion": identity, "number": number} for identity, numbers in ingestions.lost_chunks(database).items() for number in numbers
    ]


def reconcile(database: Database[Document], identities: Sequence[str], of: HomeSettings) -> Document:
    """Raises Incomplete unless every row of every ingestion is an acknowledged event. Deletes the unpacked files.

    Returns a query on collection `state` that matches once the stream has served all of them.
    """
    for identity in identities:
        now = ingestions.reconcile(database, identity)
        log.info("ingestion %s: %s, all acknowledged", identity, counted(now.rows, "row"))
        archives.kept(of.work, identity).unlink(missing_ok=True)
    return ledger.reached(ingestions.ends(database, identities))


def _planned(file: File, chunk_bytes: int, of: HomeSettings, named: Columns) -> Planned:
    """Plans a file, and keeps what has been unpacked for its chunks."""
    with archives.plain(file.path, file.kind, named, of.work) as plain:
        found = plan_file(plain, file.kind, file.observed_at, chunk_bytes, named)
        return found._replace(member=archives.keep(plain, of.work, found.ingestion["_id"]))


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _moment(text: str) -> datetime:
    milliseconds = moment(text)
    if milliseconds is None:
        raise InvalidParameters(f"'{text}' is not a valid date: write it as 2023-12-31 or 2023-12-31T18:00:00Z")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _found(pattern: str, day: str, paths: Paths) -> list[Path]:
    """The files that a pattern such as /in/{day}/products_*.csv matches for a day, sorted by name; none for an empty pattern."""
    if not pattern:
        return []
    name = pattern.replace(DAY, day)
    if WILDCARDS.isdisjoint(name):
        path = paths(name)
        return [path] if path.is_file() else []
    folder, rest = split(name)
    # Each is opened by name, because one that is found may be a link to another folder.
    return sorted((paths(str(path)) for path in paths(folder).glob(rest) if path.is_file()), key=str)
