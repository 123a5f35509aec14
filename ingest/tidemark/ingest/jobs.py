"""The work of the tasks of the DAG `tidemark_ingest`. Each task is idempotent.

Files are given as paths or URLs. The caller passes the function that opens them, the database and the producer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from confluent_kafka import Producer
from pymongo.database import Database

from tidemark.catalog.observations import moment
from tidemark.catalog.words import counted
from tidemark.ingest import archives
from tidemark.ingest.files import FileKind, Readable, UnfitFile
from tidemark.ingest.kinds import topic_of
from tidemark.ingest.layouts import AS_THEY_ARE, Columns, columns_of
from tidemark.ingest.plan import Planned
from tidemark.ingest.plan import plan as plan_file
from tidemark.ingest.preview import Told, beyond, preview
from tidemark.ingest.produce import UnsafeProducer, produce_chunk, require_safe
from tidemark.ingest.records import Origin
from tidemark.rendering.previews import render_preview
from tidemark.serving import ingestions, ledger, withdrawals
from tidemark.serving.database import Document
from tidemark.settings import Settings
from tidemark.settings.sections import AirflowSettings, HomeSettings, IngestionSettings

log = logging.getLogger(__name__)

MOMENT_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].+)?$"
PLAN, APPROVE = "plan", "approve"  # task ids
_WILDCARDS = frozenset("*?[")


class Unclear(Exception):
    """The run's parameters do not determine the files or their date."""


# Errors that a retry would raise again.
PERMANENT_ERRORS: tuple[type[Exception], ...] = (
    *(Unclear, UnfitFile, UnsafeProducer, LookupError, withdrawals.Withdrawn),
    *(FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
)


class Path(Readable, Protocol):
    """A file or folder of a file system."""

    def is_file(self) -> bool: ...

    def glob(self, pattern: str) -> Any: ...


Paths = Callable[[str], Path]


class File(NamedTuple):
    kind: FileKind
    path: Path
    observed_at: datetime


class Ahead(NamedTuple):
    """The next task of a run (None: none), with the preview, if one was made, as data and as Markdown."""

    step: str | None
    preview: Document | None = None
    words: str = ""


class Plan(NamedTuple):
    """The distinct ids of a run's ingestions, and the chunks still to be produced, as arguments of produce()."""

    ingestions: list[str]
    chunks: list[dict[str, Any]]


def files_of(day: str | None, parameters: Mapping[str, Any], of: IngestionSettings, paths: Paths) -> list[File]:
    """The files of a run: those given as parameters, otherwise those that the patterns of the settings find for its day.

    `day` (YYYY-MM-DD) is None for a run by hand. Raises Unclear if dates and files do not match, FileNotFoundError if a given file
    does not exist.
    """
    products: Sequence[str] = parameters.get("products") or []
    categories: Sequence[str] = parameters.get("categories") or []
    dates = [_moment(text) for text in parameters.get("observed_at") or ([day] if day else [])]
    if not products and not categories:
        if not day:
            raise Unclear("no files and no day given: set products or categories, or give a day as the partition key (YYYY-MM-DD)")
        if len(dates) > 1:
            raise Unclear(f"{len(dates)} dates but no files given: give one date for the day's files, or name the files")
        found = {FileKind.CATEGORY: _found(of.categories_pattern, day, paths), FileKind.PRODUCT: _found(of.products_pattern, day, paths)}
        return [File(kind, path, dates[0]) for kind, those in found.items() for path in those]
    if not dates:
        raise Unclear("no date of observation given: set observed_at to one date, or to one date per product file")
    if len(dates) not in (1, len(products)):
        files_given = counted(len(products), "product file")
        raise Unclear(f"{files_given} but {len(dates)} dates: give one date for all files, or one date per product file")
    each = dates if len(dates) == len(products) else dates * len(products)
    files = [File(FileKind.CATEGORY, paths(name), max(dates)) for name in categories]
    files += [File(FileKind.PRODUCT, paths(name), date) for name, date in zip(products, each, strict=True)]
    if missing := [str(file.path) for file in files if not file.path.is_file()]:
        raise FileNotFoundError(f"no such file: {', '.join(missing)}. Check the paths: they refer to the machine that runs the task")
    return files


def columns(parameters: Mapping[str, Any], of: IngestionSettings) -> Columns:
    """The column mapping of a run: that of its parameters, otherwise that of the settings. Raises Unclear."""
    try:
        return columns_of(parameters.get("columns") or of.columns)
    except ValueError as reason:
        raise Unclear(f"invalid column mapping: {reason}") from None


def look_ahead(database: Database[Document], files: Sequence[File], parameters: Mapping[str, Any], of: Settings) -> Ahead:
    """Previews the files if the run is a dry run or may have to wait for approval. Raises Unclear, UnfitFile."""
    trial, hold = parameters.get("dry_run"), parameters.get("hold")
    limits = (of.hold_rejected_share, of.hold_products_shift, of.hold_price_shift)
    if not files or not (trial or hold or (hold is None and any(limit is not None for limit in limits))):
        return Ahead(PLAN)
    named = columns(parameters, of)
    with ExitStack() as unpacked:
        told = [
            Told(unpacked.enter_context(archives.plain(path, kind, named, of.work)), kind, observed_at) for kind, path, observed_at in files
        ]
        found = preview(database, told, of, named)
    passed = beyond(found["shifts"], of)
    words = render_preview(found, passed)
    log.info("preview:\n%s", words)
    if trial:
        return Ahead(None, found, words)
    return Ahead(APPROVE if hold or (passed and hold is None) else PLAN, found, words)


def plan(database: Database[Document], files: Sequence[File], chunk_bytes: int, of: AirflowSettings, named: Columns = AS_THEY_ARE) -> Plan:
    """Plans and registers all files before any event is produced. Unpacks compressed files.

    Raises UnfitFile, and Withdrawn if one of the files has been withdrawn.
    """
    planned: dict[str, tuple[Path, str | None, Planned]] = {}
    for kind, path, observed_at in files:
        with archives.plain(path, kind, named, of.work) as file:
            found = plan_file(file, kind, observed_at, chunk_bytes, named)
            ingestion = found.ingestion
            size = f"{counted(ingestion.rows, 'row')}, {counted(ingestion.bytes, 'byte')}, {counted(len(found.chunks), 'chunk')}"
            log.info("%s: %s, observed at %s", file, size, _utc(observed_at))
            if ingestion.id in planned:
                log.warning("%s has the same content as %s and is ingested once", file, planned[ingestion.id][2].ingestion.file)
                continue
            member = None
            if isinstance(file, archives.Unpacked):
                member = file.member
                file.local.rename(archives.kept(of.work, ingestion.id))
            planned[ingestion.id] = (path, member, found)
    withdrawals.require_none(database, planned, of.airflow_names)
    to_do = []
    for path, member, (ingestion, layout, chunks) in planned.values():
        registered_at = ingestions.register(database, ingestion, chunks)
        numbers = ingestions.chunks_to_do(database, ingestion.id)
        to_send = counted(len(numbers), "chunk")
        log.info("%s is ingestion %s, registered at %s: %s to send", ingestion.file, ingestion.id, _utc(registered_at), to_send)
        to_do += [
            {
                "ingestion": ingestion.id,
                "number": number,
                "file": str(path),
                "member": member,
                "columns": list(layout.columns),
                "separator": layout.separator,
                "label": f"{ingestion.name} {number + 1}",
            }
            for number in numbers
        ]
    return Plan(list(planned), to_do)


def produce(
    database: Database[Document],
    producer: Callable[[], Producer],
    configuration: Mapping[str, Any],
    chunk: Mapping[str, Any],
    paths: Paths,
    of: Settings,
) -> None:
    """Produces one chunk of a plan unless it is already done. `configuration` is the producer's, which must be safe.

    Raises UnsafeProducer, NotAcknowledged, and UnfitFile if the file differs from the plan.
    """
    require_safe(configuration)
    identity, number = chunk["ingestion"], chunk["number"]
    file: Readable = paths(chunk["file"])
    if chunk["member"] is not None:
        file = archives.Unpacked(file, chunk["member"], archives.kept(of.work, identity))
    planned, done = ingestions.read_chunk(database, identity, number)
    if done:
        log.info("chunk %d of ingestion %s is already done", number, identity)
        return
    ingestion, registered_at = ingestions.read(database, identity)
    kind = FileKind(ingestion.kind)
    origin = Origin(identity, kind, tuple(chunk["columns"]), ingestion.observed_at, registered_at, chunk["separator"])
    topic = topic_of(kind, of)
    acknowledged = produce_chunk(producer(), topic, file, ingestion.bytes, planned, origin, of.acknowledge_seconds)
    ingestions.finish_chunk(database, identity, number, acknowledged.events, acknowledged.ends)
    log.info("chunk %d of %s: %s acknowledged", number, file, counted(acknowledged.events, "event"))


def reconcile(database: Database[Document], identities: Sequence[str], of: HomeSettings) -> Document:
    """Raises Incomplete unless every row of every ingestion is an acknowledged event. Deletes the unpacked files.

    Returns a query on collection `state` that matches once the stream has served all of them.
    """
    for identity in identities:
        now = ingestions.reconcile(database, identity)
        log.info("ingestion %s: %s, all acknowledged", identity, counted(now.rows, "row"))
        archives.kept(of.work, identity).unlink(missing_ok=True)
    return ledger.reached(ingestions.ends(database, identities))


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _moment(text: str) -> datetime:
    milliseconds = moment(text)
    if milliseconds is None:
        raise Unclear(f"'{text}' is not a valid date: write it as 2023-12-31 or 2023-12-31T18:00:00Z")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _found(pattern: str, day: str, paths: Paths) -> list[Path]:
    """The files that a pattern such as /in/{day}/products_*.csv matches for a day, sorted by name; none for an empty pattern."""
    if not pattern:
        return []
    name = pattern.replace("{day}", day)
    if _WILDCARDS.isdisjoint(name):
        path = paths(name)
        return [path] if path.is_file() else []
    parts = name.split("/")
    fixed = next(index for index, part in enumerate(parts) if not _WILDCARDS.isdisjoint(part))
    base = paths("/".join(parts[:fixed]) or ("/" if fixed else "."))
    return sorted((path for path in base.glob("/".join(parts[fixed:])) if path.is_file()), key=str)
