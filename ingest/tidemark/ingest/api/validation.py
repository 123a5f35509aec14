"""Validates records as both layers will: by the domain's rules, as the event that Kafka would store."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tidemark.catalog import events
from tidemark.catalog.events import Event
from tidemark.catalog.observations import (
    CategoryObservation,
    ProductObservation,
    Reason,
    Rejection,
    decoder,
)
from tidemark.catalog.words import rule
from tidemark.ingest.api.bodies import MAX_RECORDS, Form, InvalidBatch, records
from tidemark.ingest.files import MAX_RECORD_BYTES, FileKind
from tidemark.ingest.kinds import validator_of
from tidemark.ingest.records import Headers, Message

_LONGEST_NAME = 100  # maximum characters of a field name in an answer
_HEADERS: Headers = [(events.SOURCE, b"api"), (events.FORMAT, b"json")]
_AS_STORED = tuple((name, value) for name, value in _HEADERS if isinstance(value, bytes))


class BrokenRule(NamedTuple):
    """A broken rule: the field (empty if it concerns the whole record) and the rule as text."""

    field: str
    rule: str


class ValidRecord(NamedTuple):
    """A valid record: the message for Kafka, and the observation it becomes."""

    message: Message
    observation: ProductObservation | CategoryObservation


class Fault(NamedTuple):
    """A broken rule and the position of its record in the batch."""

    number: int
    broken: BrokenRule


class Batch(NamedTuple):
    """A validated batch: the positions and messages of valid records, and the faults."""

    numbers: list[int]
    messages: list[Message]
    faults: list[Fault]


class TooManyRecords(Exception):
    """The batch exceeds the maximum number of records."""


class Validator:
    """Validates records of a kind, one after another, as events with timestamp `now`. They count as registered at `registered_by` at the
    latest. Both are milliseconds since 1970. `key` is the name of the API key with which they were posted, if there are keys.

    Kafka stores them slightly later, which only relaxes the upper bound of dates: a record that is valid here is valid in the log.
    """

    def __init__(self, kind: FileKind, now: int, registered_by: int, key: str | None = None) -> None:
        self.registered_by = registered_by
        self._kind, self._now = kind, now
        self._headers: Headers = [*_HEADERS, (events.REGISTERED_BY, b"%d" % registered_by)]
        if key is not None:
            self._headers.append((events.CLIENT, key.encode()))
        self._twice = ""
        self._reader = decoder(self._object)

    def __call__(self, record: bytes) -> ValidRecord | BrokenRule:
        if len(record) > MAX_RECORD_BYTES:
            return BrokenRule("", f"at most {MAX_RECORD_BYTES} bytes")
        event = Event(self._kind, 0, 0, self._now, None, record, _AS_STORED)
        seen = validator_of(self._kind)(event, reader=self._reader)
        if self._twice:
            name, self._twice = self._twice, ""
            return BrokenRule(name, "given once, not twice")
        if isinstance(seen, Rejection):
            return BrokenRule("" if seen.reason is Reason.MALFORMED else seen.reason.value, rule(seen.reason))
        key = seen.asin if isinstance(seen, ProductObservation) else str(seen.id)
        return ValidRecord(Message(key.encode(), record, self._headers), seen)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            self._twice = twice.encode("utf-8", "replace").decode()[:_LONGEST_NAME] or "(no name)"
        return found


def validate_batch(validate: Validator, body: bytes, form: Form) -> Batch:
    """Validates every record of a body. Raises InvalidBatch, TooManyRecords."""
    batch = Batch([], [], [])
    count = 0
    for number, record in records(body, form):
        count += 1
        if count > MAX_RECORDS:
            raise TooManyRecords
        result = validate(record)
        if isinstance(result, BrokenRule):
            batch.faults.append(Fault(number, result))
        else:
            batch.numbers.append(number)
            batch.messages.append(result.message)
    if not count:
        raise InvalidBatch("the body contains no records: send at least one")
    return batch


def shown(seen: ProductObservation | CategoryObservation) -> dict[str, Any]:
    """An observation with the field names and types of its collection."""
    if isinstance(seen, CategoryObservation):
        return {"id": seen.id, "category_name": seen.name}
    date = datetime.fromtimestamp(seen.observed_at // 1000, UTC).replace(microsecond=seen.observed_at % 1000 * 1000)
    return {
        "asin": seen.asin,
        "title": seen.title,
        "imgUrl": seen.img_url,
        "productURL": seen.product_url,
        "stars": seen.stars,
        "reviews": seen.reviews,
        "price": seen.price,
        "listPrice": seen.list_price,
        "category_id": seen.category_id,
        "isBestSeller": seen.is_best_seller,
        "boughtInLastMonth": seen.bought_in_last_month,
        "date": date.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
