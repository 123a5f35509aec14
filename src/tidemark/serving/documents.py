"""The fields of stored documents and of the status, as types. They exist for mypy: at run time each of them is a dict.

tests/serving/test_documents.py compares the documents of collections with the validators of tidemark.serving.schema. The documents of
collection `state` have no validator but `_id`. Moments of stored documents are in UTC; moments of the status are ISO 8601 texts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NotRequired, TypedDict


class OffsetDocument(TypedDict):
    """An exclusive offset of a partition. An array of these is a tide mark."""

    topic: str
    partition: int
    offset: int


# Collection `publication`


class CutDocument(TypedDict):
    """The served publication at the cut, the number of rebuilds finished by then, the one that was interrupted, and the number of cells
    of the served cube.
    """

    served: int
    rebuilds: int
    rebuilding: int | None
    cells: NotRequired[int]


class BindingDocument(TypedDict):
    """What the ledger's offsets refer to, as in tidemark.serving.bindings. `topics` are ids by name."""

    epoch: int
    topics: dict[str, str]
    origin: list[OffsetDocument]
    landed: list[OffsetDocument]
    events: int


class WitnessDocument(OffsetDocument):
    """The record with the highest offset of a partition that was ever served. `offset` is Kafka's, and is the record's own."""

    timestamp: int
    digest: int


class AdoptionDocument(TypedDict):
    """What the ledger's offsets refer to once a draft is served, and up to which mark of the former log no event is missing."""

    log: BindingDocument
    witness: list[WitnessDocument]
    certain: list[OffsetDocument]


class PublicationDocument(TypedDict):
    """A publication or draft. Publication 0 has the required fields only."""

    _id: int
    mark: list[OffsetDocument]
    published_at: datetime | None
    rules: str | None
    cut: NotRequired[CutDocument | None]
    layers: NotRequired[list[str] | None]
    since_full: NotRequired[int]
    newest_event: NotRequired[datetime | None]
    newest_observation: NotRequired[datetime | None]
    rebuilds: NotRequired[int]
    adoption: NotRequired[AdoptionDocument]


# Collection `verification`


class FiguresDocument(TypedDict):
    """Figures of some cells. Averages are in dollars and stars; None if nothing is counted."""

    products: int
    average_price: float | None
    unpriced: int
    average_stars: float | None
    unrated: int
    discounted: int


class CubeFiguresDocument(FiguresDocument):
    """Figures of a whole cube."""

    categories: int


class ShiftsDocument(TypedDict):
    """How much figures have changed: a relative change, or the absolute change of a share. None if there was nothing before."""

    products: float | None
    average_price: float | None
    categories: float | None
    unpriced: float | None
    unrated: float | None


class ComparisonDocument(TypedDict):
    """The figures of the served publication and of a draft, and the shifts between them. `new_cells` is the number of cells of the draft
    that the served cube lacked at the cut.
    """

    before: CubeFiguresDocument
    after: CubeFiguresDocument
    shifts: ShiftsDocument
    new_cells: NotRequired[int]


class DifferenceDocument(TypedDict):
    """A difference: what differs, and how."""

    what: str
    how: str


class VerificationFields(TypedDict):
    """A verification without its moment. `_id` is the publication's number; `counts` and `named` are by kind of difference.

    Verifications of earlier versions have no `rules_changed` and no `compared`.
    """

    _id: int
    drift: int
    rules: str | None
    rules_changed: NotRequired[bool]
    counts: dict[str, int]
    named: dict[str, list[DifferenceDocument]]
    reconciled: int
    compared: NotRequired[ComparisonDocument]


class VerificationDocument(VerificationFields):
    """A verification as stored."""

    at: datetime


# Collections `ingestion` and `ingestion_chunk`


class WithdrawalDocument(TypedDict):
    """Who withdrew an ingestion, when, and why."""

    by: str
    at: datetime
    reason: str


class WithdrawnPostsDocument(WithdrawalDocument):
    """Withdrawn posts. `_id` is their name (tidemark.catalog.posts)."""

    _id: str


class IngestionFields(TypedDict):
    """What the plan of a file determines. `_id` is the ingestion's id, `name` the name of the file that was registered first.

    `content` is the hexadecimal SHA-256; `columns` are our names, in the file's order; `chunks` is their number.
    """

    _id: str
    kind: str
    name: str
    bytes: int
    rows: int
    content: str
    observed_at: datetime
    columns: list[str]
    separator: str
    chunks: int


class IngestionDocument(IngestionFields):
    """An ingestion as stored. `file` is the path or URL with which it was registered last.

    `member` is None for a file that is not compressed, the name in a zip archive, or empty for gzip.
    """

    file: str
    member: str | None
    registered_at: datetime
    reconciled: NotRequired[bool]
    withdrawn: NotRequired[WithdrawalDocument | None]


class ChunkDocument(TypedDict):
    """A chunk of an ingestion. `acknowledged` and `ends` are None until it is done. `lost`: it was done, and must be sent again."""

    _id: str
    ingestion: str
    number: int
    start: int
    end: int
    rows: int
    content: str
    status: Literal["planned", "done"]
    acknowledged: NotRequired[int | None]
    ends: NotRequired[list[OffsetDocument] | None]
    lost: NotRequired[bool]


# Collection `state`


class ProgressDocument(TypedDict):
    """The newest micro-batch. `behind` is the number of events that the stream was behind after it; None if it is unknown."""

    batch: int
    events: int
    rejected: int
    seconds: float
    events_per_second: int
    behind: int | None


class RenamingDocument(TypedDict):
    """The categories whose products are being renamed, and how many products have been, by micro-batches that are not committed."""

    categories: list[int]
    products: int


class LedgerDocument(TypedDict):
    """The ledger. `layout` is the version of all that is stored, `identity` the database's; `committed` is by generation, written as text;
    `published` is the newest publication.
    """

    _id: str
    layout: int
    identity: str
    generation: int
    committed: dict[str, int]
    offsets: list[OffsetDocument]
    log: BindingDocument
    witness: list[WitnessDocument]
    rules: str | None
    rebuilding: int | None
    rebuilds: int
    renaming: NotRequired[RenamingDocument]
    started_at: NotRequired[datetime]
    heartbeat: NotRequired[datetime]
    committed_at: NotRequired[datetime]
    newest_event: NotRequired[datetime | None]
    newest_observation: NotRequired[datetime | None]
    progress: NotRequired[ProgressDocument]
    published: NotRequired[int]
    rules_changed_at: NotRequired[datetime]


class ServedDocument(TypedDict):
    """The number of the served publication."""

    _id: str
    publication: int


class PauseDocument(TypedDict):
    """Who paused the stream, since when, why, and whether the stream first serves what the log held."""

    by: str
    since: datetime
    reason: str
    drain: bool


class HeldDocument(TypedDict):
    """A micro-batch that waits for a person: the mark that it would reach, and how many new cells it would make."""

    mark: list[OffsetDocument]
    new_cells: int


class ControlDocument(TypedDict):
    """The desired state of the stream. `accepted` is the mark below which events may make any number of new cells."""

    _id: str
    restarts: int
    pause: PauseDocument | None
    stopped_at: datetime | None
    held: NotRequired[HeldDocument | None]
    accepted: NotRequired[list[OffsetDocument]]


class BeginFields(TypedDict):
    """From which of Kafka's offsets on a partition of an adopted log is read."""

    topic: str
    partition: int
    offset: int


class ServedOnlyFields(TypedDict):
    """Offsets, both inclusive and Kafka's, whose events were served and are not in the raw history."""

    topic: str
    partition: int
    first: int
    last: int
    count: int


class UncertainFields(TypedDict):
    """An ingestion whose events may be lost: how many of its chunks, and their rows."""

    ingestion: str
    name: str
    lost: int
    chunks: int
    rows: int


class AdoptionFields(TypedDict):
    """What an adoption would do. `events` is how many events the raw history keeps; `shown` identifies what is lost."""

    continues: bool
    other_log: bool
    parted: list[str]
    begins: list[BeginFields]
    served_only: list[ServedOnlyFields]
    ingestions: list[UncertainFields]
    events: int
    shown: str


class SendingDocument(TypedDict):
    """The epoch of the log that chunks are sent to, and how many chunks have been finished."""

    _id: str
    epoch: int
    chunks: int


class RetainedDocument(OffsetDocument):
    """The offsets that the log retains of a partition: from `start`, inclusive, to `offset`, exclusive."""

    start: int


class TopicDocument(TypedDict):
    """How many copies an acknowledged event of a topic has at least, and whether they are flushed to disk."""

    topic: str
    copies: int
    flushed: bool


class LogEndDocument(TypedDict):
    """The end of the log, as last measured, and the durability of its topics."""

    _id: str
    offsets: list[RetainedDocument]
    measured_at: datetime
    topics: NotRequired[list[TopicDocument]]


class LandedDocument(TypedDict):
    """How far the raw history reaches."""

    _id: str
    offsets: list[OffsetDocument]
    landed_at: datetime


# The status


class FreshnessStatus(TypedDict):
    """View `report_freshness`."""

    publication: int
    mark: list[OffsetDocument]
    published_at: str | None
    newest_observation: str | None
    newest_event: str | None
    heartbeat: str | None
    seconds_since_heartbeat: float | None
    events_behind: int | None
    measured_at: str | None
    drift: int | None
    quarantined: int
    rules: str | None


class SummaryStatus(TypedDict):
    """View `report_summary`. Averages are in dollars and stars."""

    products: int
    categories: int
    average_price: float | None
    average_stars: float | None
    best_sellers: int
    discounted: int
    bought_floor: int


class UnpausedStatus(TypedDict):
    """The desired state of a stream that is not paused."""

    paused: Literal[False]
    by: None
    since: None
    reason: None
    stopped_at: str | None
    held: Literal[False]


class PausedStatus(TypedDict):
    """The desired state of a paused stream. `held`: it waits for a person to accept a micro-batch."""

    paused: Literal[True]
    by: str
    since: str
    reason: str
    stopped_at: str | None
    held: bool


class StreamStatus(TypedDict):
    """The stream. It is alive if its last heartbeat is recent."""

    alive: bool
    generation: int | None
    rebuilding: int | None
    started_at: str | None
    committed_at: str | None
    offsets: list[OffsetDocument]
    last_micro_batch: ProgressDocument | None
    control: UnpausedStatus | PausedStatus


class LagStatus(TypedDict):
    """The number of events in a partition that are not served yet."""

    topic: str
    partition: int
    events: int


class LogStatus(TypedDict):
    """The log. `lag` is None if it is unknown. `durability` says what an acknowledged event has; None if it is unknown."""

    offsets: list[RetainedDocument]
    measured_at: str | None
    lag: list[LagStatus] | None
    topics: list[TopicDocument]
    durability: str | None


class RawHistoryStatus(TypedDict):
    """How far the raw history reaches."""

    offsets: list[OffsetDocument]
    landed_at: str | None


class PartitionStatus(TypedDict):
    """View `report_partition`: the offset that each layer has reached in a partition."""

    topic: str
    partition: int
    log_start: int
    log_end: int
    measured_at: str
    landed: int
    served: int
    published: int
    behind: int


class RateStatus(TypedDict):
    """The work of the stream in a minute."""

    minute: str
    micro_batches: int
    events: int
    rejected: int
    busy_milliseconds: int


class VerificationStatus(VerificationFields):
    """A verification."""

    at: str


class NightStatus(TypedDict):
    """The last nightly batch that has finished: its draft, and when it finished."""

    publication: int
    at: str


class AlertStatus(TypedDict):
    """An alert that is on. `_id` is its condition; `notified` says for each channel whether it was notified."""

    _id: str
    text: str
    began_at: str
    ended_at: None
    calm_since: str | None
    notified: dict[str, bool]


class PublicationStatus(TypedDict):
    """View `report_publication`. `mark` is text."""

    publication: int
    published_at: str
    is_served: bool
    events: int
    mark: str
    newest_event: str | None
    newest_observation: str | None
    verified_at: str | None
    drift: int | None


class IngestionStatus(TypedDict):
    """View `report_ingestion`. `accepted` and `rejected` are None until the whole file is served."""

    ingestion: str
    kind: str
    file: str
    name: str
    bytes: int
    observed_at: str
    registered_at: str
    file_rows: int
    sent: int
    accepted: int | None
    rejected: int | None
    served: bool
    withdrawn_at: str | None


class IngestionsStatus(TypedDict):
    """The numbers of served and running ingestions, and the newest ingestions."""

    served: int
    under_way: int
    newest: list[IngestionStatus]


class StatusDocument(TypedDict):
    """The whole status, as tidemark.serving.status.state() returns it. `quarantine` gives the number of open records by reason."""

    at: str | None
    freshness: FreshnessStatus
    summary: SummaryStatus
    stream: StreamStatus
    log: LogStatus
    raw_history: RawHistoryStatus
    partitions: list[PartitionStatus]
    rates: list[RateStatus]
    quarantine: dict[str, int]
    verification: VerificationStatus | None
    night: NightStatus | None
    alerts: list[AlertStatus]
    publications: list[PublicationStatus]
    ingestions: IngestionsStatus
