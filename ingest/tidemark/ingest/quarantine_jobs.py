"""The work of the DAGs `tidemark_replay_quarantine` and `tidemark_discard_quarantine`, and of `python -m tidemark.ingest.replay`.

Each step is idempotent. After an interruption the same events are sent again with the same source and version, which changes no state.
A record is marked only after Kafka has acknowledged its replay, and only if the replay is valid by the rules that the stream uses.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bson.datetime_ms import DatetimeMS
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer
from confluent_kafka import Message as Kafka
from pymongo.database import Database

from tidemark.catalog.epochs import first_of
from tidemark.catalog.marks import TideMark
from tidemark.catalog.observations import Reason, moment
from tidemark.catalog.rules import Rules
from tidemark.catalog.words import counted
from tidemark.ingest.jobs import PreviewDecision
from tidemark.ingest.patches import Patch, Replayable, StillInvalid, patch_of, revalidate
from tidemark.ingest.produce import UnsafeProducer, explaining_refusals, produce, require_safe
from tidemark.rendering.replays import render_replay
from tidemark.serving import ledger, offsets, quarantine, withdrawals
from tidemark.serving.database import Document, clock
from tidemark.serving.documents import OffsetDocument
from tidemark.serving.lease import lease, this_process
from tidemark.serving.publications import OtherRules
from tidemark.serving.quarantine import InvalidRequest, Replayed, Selection
from tidemark.settings import Settings
from tidemark.settings.airflow_names import AirflowNames

log = logging.getLogger(__name__)

EXAMPLES = 3  # records shown per reason
EXAMPLE_CHARACTERS = 300
SEND, DISCARD, APPROVE = "send", "discard", "approve"  # task ids
_CLOCKS_DIFFER_MS = 60_000  # expected maximum clock difference; Kafka's own timestamp is checked afterwards
_LEASE, _LEASE_SECONDS = "quarantine", 120.0
_PROGRESS_SECONDS = 5.0

# Errors that a retry would raise again.
PERMANENT_ERRORS: tuple[type[Exception], ...] = (InvalidRequest, OtherRules, UnsafeProducer, ledger.NotPrepared)


class Sent(NamedTuple):
    """The number of records that a run has replayed, and of selected records that stay open."""

    replayed: int
    still_open: int


def selection_of(parameters: Mapping[str, Any]) -> Selection:
    """The records selected by the parameters `reason`, `file`, `since` and `until` of a run. Raises InvalidRequest."""
    reason, file = parameters.get("reason") or None, parameters.get("file") or None
    if reason is not None and reason not in {*Reason}:
        raise InvalidRequest(f"unknown reason '{reason}': choose one of {', '.join(Reason)}")
    return Selection(reason, file, _moment(parameters.get("since")), _moment(parameters.get("until")))


def preview_run(
    database: Database[Document], parameters: Mapping[str, Any], step: str, of: Settings, rules: Rules | None = None
) -> PreviewDecision:
    """Previews a run and chooses its next task: `step`, after approval unless the parameters say otherwise.

    Sends and marks nothing. Raises InvalidRequest, OtherRules.
    """
    if step == DISCARD:
        _discard_reason(parameters)
    selection, patch = selection_of(parameters), patch_of(parameters.get("patch"))
    found = preview(database, selection, patch, of, rules or withdrawals.in_force(database, of.rules))
    text = render_replay(found, patch)
    log.info("preview:\n%s", text)
    if parameters.get("dry_run") or not (found["valid"] if step == SEND else found["records"]):
        return PreviewDecision(None, found, text)
    return PreviewDecision(step if parameters.get("hold") is False else APPROVE, found, text)


def preview(database: Database[Document], selection: Selection, patch: Patch, of: Settings, rules: Rules) -> Document:
    """Validates the selected records again; the result is JSON-serializable. `mark` is the tide mark below which they lie."""
    mark = _require_rules(database, rules)
    unkeyed = replace(rules, keyed=False)  # a replay has its ASIN as key, whatever the original had
    query, now = quarantine.selected(database, selection, mark, of.airflow_names), _now(database)
    records, valid, patched, stays = Counter[str](), Counter[str](), 0, Counter[tuple[str, str]]()
    examples: dict[tuple[str, str], list[Document]] = {}
    for some in quarantine.records(database, query):
        for record in some:
            records[record["reason"]] += 1
            match revalidate(record, patch, now, of, unkeyed):
                case Replayable() as one:
                    valid[record["reason"]] += 1
                    patched += bool(one.patch)
                case StillInvalid() as one:
                    stays[one[:2]] += 1
                    shown = examples.setdefault(one[:2], [])
                    if len(shown) < EXAMPLES:
                        shown.append({"origin": one.origin, "text": one.text[:EXAMPLE_CHARACTERS]})
    return {
        "records": records.total(),
        "valid": valid.total(),
        "patched": patched,
        "reasons": [{"reason": reason, "records": count, "valid": valid[reason]} for reason, count in records.most_common()],
        "still_invalid": [
            {"reason": reason, "rule": rule, "records": count, "examples": examples[reason, rule]}
            for (reason, rule), count in stays.most_common()
        ],
        "mark": offsets.to_documents(mark),
    }


def send(
    database: Database[Document],
    producer: Callable[[], Producer],
    configuration: Mapping[str, Any],
    parameters: Mapping[str, Any],
    below: Sequence[OffsetDocument],
    by: str,
    of: Settings,
    rules: Rules | None = None,
) -> Sent:
    """Replays the selected open records below a preview's mark that are now valid; `by` names the run.

    Raises InvalidRequest, OtherRules, UnsafeProducer, NotAcknowledged, and Busy while another run is in progress.
    """
    require_safe(configuration)
    rules = rules or withdrawals.in_force(database, of.rules)
    unkeyed = replace(rules, keyed=False)
    patch = patch_of(parameters.get("patch"))
    query = quarantine.selected(database, selection_of(parameters), offsets.from_documents(below), of.airflow_names)
    with _exclusive(database, by), explaining_refusals(configuration):
        to_kafka, now, logged_at = producer(), _now(database), time.monotonic()
        seen = replayed = 0
        for some in quarantine.records(database, query):
            _require_rules(database, rules)
            epoch = ledger.epoch(database)
            valid = [one for record in some if isinstance(one := revalidate(record, patch, now, of, unkeyed), Replayable)]
            stored = [one for topic in of.topics for one in _stored(to_kafka, topic, epoch, valid, rules, of.acknowledge_seconds)]
            _require_rules(database, rules)  # the stream may have validated these events by other rules
            replayed += quarantine.mark_replayed(database, stored, by)
            seen += len(some)
            if time.monotonic() - logged_at > _PROGRESS_SECONDS:
                logged_at = time.monotonic()
                log.info("%s validated, %d replayed", counted(seen, "record"), replayed)
    log.info("%s replayed, %d left in quarantine", counted(replayed, "record"), seen - replayed)
    return Sent(replayed, seen - replayed)


def discard(
    database: Database[Document], parameters: Mapping[str, Any], below: Sequence[OffsetDocument], by: str, names: AirflowNames
) -> int:
    """Discards the selected open records below a preview's mark and returns their number. Raises InvalidRequest, Busy."""
    why = _discard_reason(parameters)
    query = quarantine.selected(database, selection_of(parameters), offsets.from_documents(below), names)
    with _exclusive(database, by):
        count = quarantine.discard(database, query, why, by)
    log.info("%s discarded: %s", counted(count, "record"), why)
    return count


def _stored(
    producer: Producer, topic: str, epoch: int, replayable: Sequence[Replayable], rules: Rules, acknowledge_seconds: float
) -> Iterator[Replayed]:
    """Sends the events of a topic. Yields those that Kafka has stored, except those that are rejections by Kafka's timestamp."""
    those, kept = [one for one in replayable if one.topic == topic], dict[int, tuple[int, int, int | None]]()
    if not those:
        return

    def note(number: int, message: Kafka) -> None:
        partition, offset, (of, timestamp) = message.partition(), message.offset(), message.timestamp()
        assert partition is not None
        assert offset is not None
        kept[number] = (partition, offset, timestamp if of == TIMESTAMP_LOG_APPEND_TIME else None)

    produce(producer, topic, (one.message for one in those), acknowledge_seconds, note)
    for number, one in enumerate(those):
        partition, offset, timestamp = kept[number]
        if timestamp is None or one.is_valid_at(timestamp, rules):
            yield Replayed(one.record, one.patch, topic, partition, first_of(epoch) + offset)
        else:
            log.warning("the date of %s is too far ahead of Kafka's clock: it stays in quarantine, replay it later", one.record)


def _require_rules(database: Database[Document], rules: Rules) -> TideMark:
    """Raises OtherRules if the stream uses other rules, as it might reject a replay. Returns the offsets that the stream has served."""
    now = ledger.read(database)
    if now.rules not in (rules.fingerprint(), None):
        raise OtherRules(
            f"the stream uses rules {now.rules}, but the rules in force here are {rules.fingerprint()}: "
            "restart the stream first (make restart)"
        )
    return now.offsets


def _now(database: Database[Document]) -> int:
    """A moment (ms since 1970), derived from MongoDB's clock, that Kafka's clock has passed."""
    return int(DatetimeMS(clock(database))) - _CLOCKS_DIFFER_MS


@contextmanager
def _exclusive(database: Database[Document], by: str) -> Iterator[None]:
    """Allows one run at a time, so that of two patches the one recorded is the one in effect."""
    with lease(database, _LEASE, this_process(by), _LEASE_SECONDS):
        yield


def _discard_reason(parameters: Mapping[str, Any]) -> str:
    why: str = (parameters.get("why") or "").strip()
    if not why:
        raise InvalidRequest("discarding records requires a reason: say why they are discarded")
    return why


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    milliseconds = moment(text)
    if milliseconds is None:
        raise InvalidRequest(f"'{text}' is not a valid date or time: write it as 2023-12-31 or 2023-12-31T18:00:00Z")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
