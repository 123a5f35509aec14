"""What the tasks of the DAGs `tidemark_replay_quarantine` and `tidemark_discard_quarantine` do, and `python -m tidemark.ingest.replay`.

Each step can run again. What was sent before a run was cut off is sent again, as the same source and version, which changes no state.
A record is marked only when Kafka has acknowledged its replay, and only if that is an observation by the rules that the stream goes by.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bson.datetime_ms import DatetimeMS
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Producer
from confluent_kafka import Message as Kafka
from pymongo.database import Database

from tidemark.catalog.marks import TideMark
from tidemark.catalog.observations import Reason, moment
from tidemark.catalog.rules import Rules
from tidemark.ingest.jobs import Ahead
from tidemark.ingest.patches import Left, Mended, Patch, mend, patch_of
from tidemark.ingest.produce import UnsafeProducer, produce, require_safe
from tidemark.ingest.replay_text import in_words
from tidemark.serving import ledger, offsets, quarantine, withdrawals
from tidemark.serving.database import Document
from tidemark.serving.lease import lease, this_process
from tidemark.serving.publications import OtherRules
from tidemark.serving.quarantine import Replayed, Selection, Unclear
from tidemark.settings import settings

log = logging.getLogger(__name__)

EXAMPLES = 3  # records that stay, of each reason
EXAMPLE_CHARACTERS = 300
SEND, DISCARD, APPROVE = "send", "discard", "approve"  # steps of a run
_CLOCKS_DIFFER_MS = 60_000  # at most, as a rule; what Kafka's own clock says is looked at afterwards
_LEASE, _LEASE_SECONDS = "quarantine", 120.0
_PROGRESS_SECONDS = 5.0

# What another attempt would meet again.
PERMANENT_ERRORS: tuple[type[Exception], ...] = (Unclear, OtherRules, UnsafeProducer, ledger.NotPrepared)


class Sent(NamedTuple):
    """How many records a run has replayed, and how many of its selection stay open."""

    replayed: int
    left: int


def selection_of(parameters: Mapping[str, Any]) -> Selection:
    """Which records a run is about, as its parameters `reason`, `file`, `since` and `until` say. Raises Unclear."""
    reason, file = parameters.get("reason") or None, parameters.get("file") or None
    if reason is not None and reason not in {*Reason}:
        raise Unclear(f"no rule has the reason '{reason}'; there are {', '.join(Reason)}")
    return Selection(reason, file, _moment(parameters.get("since")), _moment(parameters.get("until")))


def look_ahead(database: Database[Document], parameters: Mapping[str, Any], step: str, rules: Rules | None = None) -> Ahead:
    """What a run would do, and what it is to do next: that step, after a person's approval unless its parameters say otherwise.

    Nothing is sent, nothing is marked. Raises Unclear, OtherRules.
    """
    if step == DISCARD:
        _why(parameters)
    meant, patch = selection_of(parameters), patch_of(parameters.get("patch"))
    found = preview(database, meant, patch, rules or withdrawals.in_force(database))
    words = in_words(found, patch)
    log.info("preview:\n%s", words)
    if parameters.get("dry_run") or not (found["valid"] if step == SEND else found["records"]):
        return Ahead(None, found, words)
    return Ahead(step if parameters.get("hold") is False else APPROVE, found, words)


def preview(database: Database[Document], meant: Selection, patch: Patch, rules: Rules) -> Document:
    """The records that are meant, judged again, as a document that JSON can hold. `mark` is what they lie below."""
    mark = _require_rules(database, rules)
    query, now = quarantine.selected(database, meant, mark), _now(database)
    records, valid, patched, stays = Counter[str](), Counter[str](), 0, Counter[tuple[str, str]]()
    examples: dict[tuple[str, str], list[Document]] = {}
    for some in quarantine.records(database, query):
        for record in some:
            records[record["reason"]] += 1
            match mend(record, patch, now, settings(), rules):
                case Mended() as one:
                    valid[record["reason"]] += 1
                    patched += bool(one.patch)
                case Left() as one:
                    stays[one[:2]] += 1
                    shown = examples.setdefault(one[:2], [])
                    if len(shown) < EXAMPLES:
                        shown.append({"where": one.where, "says": one.says[:EXAMPLE_CHARACTERS]})
    return {
        "records": records.total(),
        "valid": valid.total(),
        "patched": patched,
        "reasons": [{"reason": reason, "records": count, "valid": valid[reason]} for reason, count in records.most_common()],
        "left": [
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
    below: Sequence[Document],
    by: str,
    rules: Rules | None = None,
) -> Sent:
    """Replays what is valid now of the open records that are meant and lie below a preview's mark; `by` names the run.

    Raises Unclear, OtherRules, UnsafeProducer, NotAcknowledged, Busy while another run is at work.
    """
    require_safe(configuration)
    rules = rules or withdrawals.in_force(database)
    patch = patch_of(parameters.get("patch"))
    query = quarantine.selected(database, selection_of(parameters), offsets.from_documents(below))
    with _alone(database, by):
        to_kafka, now, told = producer(), _now(database), time.monotonic()
        seen = replayed = 0
        for some in quarantine.records(database, query):
            _require_rules(database, rules)
            valid = [one for record in some if isinstance(one := mend(record, patch, now, settings(), rules), Mended)]
            stored = [one for topic in settings().topics for one in _stored(to_kafka, topic, valid, rules)]
            _require_rules(database, rules)  # else what has just been sent may have been judged otherwise
            replayed += quarantine.mark_replayed(database, stored, by)
            seen += len(some)
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("%d records judged, %d of them replayed", seen, replayed)
    log.info("%d records replayed, %d stay in quarantine", replayed, seen - replayed)
    return Sent(replayed, seen - replayed)


def discard(database: Database[Document], parameters: Mapping[str, Any], below: Sequence[Document], by: str) -> int:
    """Discards the open records that are meant and lie below a preview's mark; how many. Raises Unclear, Busy."""
    why = _why(parameters)
    query = quarantine.selected(database, selection_of(parameters), offsets.from_documents(below))
    with _alone(database, by):
        count = quarantine.discard(database, query, why, by)
    log.info("%d records discarded: %s", count, why)
    return count


def _stored(producer: Producer, topic: str, mended: Sequence[Mended], rules: Rules) -> Iterator[Replayed]:
    """Sends the events of a topic. Gives those that Kafka has, unless its clock makes them rejections after all."""
    those, kept = [one for one in mended if one.topic == topic], dict[int, tuple[int, int, int | None]]()
    if not those:
        return

    def note(number: int, message: Kafka) -> None:
        partition, offset, (of, timestamp) = message.partition(), message.offset(), message.timestamp()
        assert partition is not None
        assert offset is not None
        kept[number] = (partition, offset, timestamp if of == TIMESTAMP_LOG_APPEND_TIME else None)

    produce(producer, topic, (one.message for one in those), settings().acknowledge_seconds, note)
    for number, one in enumerate(those):
        partition, offset, timestamp = kept[number]
        if timestamp is None or one.stands(timestamp, rules):
            yield Replayed(one.record, one.patch, topic, partition, offset)
        else:
            log.warning("%s is too far ahead by Kafka's clock: it stays in quarantine, replay it again later", one.record)


def _require_rules(database: Database[Document], rules: Rules) -> TideMark:
    """Raises OtherRules where the stream goes by other rules: it would judge a replay otherwise. Returns what it has served."""
    now = ledger.read(database)
    if now.rules not in (rules.fingerprint(), None):
        raise OtherRules(
            f"the stream goes by rules {now.rules}, in force here are {rules.fingerprint()}: restart the stream with the new rules first"
        )
    return now.offsets


def _now(database: Database[Document]) -> int:
    """A moment in milliseconds that Kafka's clock has passed, by MongoDB's."""
    return int(DatetimeMS(database.client.admin.command("hello")["localTime"].replace(tzinfo=UTC))) - _CLOCKS_DIFFER_MS


@contextmanager
def _alone(database: Database[Document], by: str) -> Iterator[None]:
    """One run at a time, so that of two patches the one that is marked is the one that counts."""
    with lease(database, _LEASE, this_process(by), _LEASE_SECONDS):
        yield


def _why(parameters: Mapping[str, Any]) -> str:
    why: str = (parameters.get("why") or "").strip()
    if not why:
        raise Unclear("say why these records are discarded: whoever finds them later wants to know")
    return why


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    milliseconds = moment(text)
    if milliseconds is None:
        raise Unclear(f"'{text}' is no moment: write it as 2023-12-31 or 2023-12-31T18:00:00Z")
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
