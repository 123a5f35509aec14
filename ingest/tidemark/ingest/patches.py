"""Validates quarantine records again by the rules in force: gives the event to replay, or the reason why a record stays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson
from bson.datetime_ms import DatetimeMS

from tidemark.catalog import events
from tidemark.catalog.events import Event
from tidemark.catalog.observations import CategoryObservation, ProductObservation, Reason, Rejection, decoder
from tidemark.catalog.rules import RULES, Rules
from tidemark.catalog.topics import MAX_MESSAGE_BYTES
from tidemark.catalog.words import rule
from tidemark.ingest.files import FileKind
from tidemark.ingest.kinds import topic_of, validator_of
from tidemark.ingest.records import Headers, Message
from tidemark.serving.database import Document
from tidemark.serving.quarantine import InvalidRequest
from tidemark.settings.sections import KafkaSettings

_OVERHEAD_BYTES = 10_000  # upper bound for a message's key and headers
# Fields that have a rule and can be patched; reasons that concern the whole record are left out.
FIELDS = tuple(reason.value for reason in Reason if reason not in (Reason.WITHDRAWN, Reason.MALFORMED, Reason.KEY))

Patch = Mapping[str, str]  # texts by field


class Replayable(NamedTuple):
    """A record that is now a valid observation: the event to replay, the fields that were patched, and the moment of validation."""

    record: str
    kind: FileKind
    topic: str
    message: Message
    patch: Patch
    moment: int

    def is_valid_at(self, timestamp: int, rules: Rules = RULES) -> bool:
        """Is the event as stored by Kafka still an observation? The upper bound of its date depends on Kafka's timestamp (ms)."""
        return timestamp >= self.moment or not isinstance(_validated(self.kind, timestamp, self.message, rules), Rejection)


class StillInvalid(NamedTuple):
    """A record that stays in quarantine: the rule it breaks, the rule's description, the invalid text, and the record's origin."""

    reason: str
    rule: str
    text: str
    origin: str


def patch_of(texts: Mapping[str, str] | Iterable[str] | None) -> Patch:
    """A patch from texts by field, or from arguments such as price=0. Raises InvalidRequest."""
    if texts is None:
        return {}
    pairs = list(texts.items()) if isinstance(texts, Mapping) else [_pair(word) for word in texts]
    for name, text in pairs:
        if name not in FIELDS:
            raise InvalidRequest(f"field '{name}' cannot be patched: choose one of {', '.join(FIELDS)}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"the patch for {name} is not valid UTF-8") from None
    return dict(pairs)


def _pair(word: str) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    if not equals:
        raise InvalidRequest(f"'{word}' is not a patch: write a field and its text, such as price=0")
    return name, text


def revalidate(record: Document, patch: Patch, now: int, of: KafkaSettings, rules: Rules = RULES) -> Replayable | StillInvalid:
    """Validates a quarantine record as an event stored `now` (ms since 1970). A field is patched only if it breaks its rule."""
    kind = next((kind for kind in FileKind if topic_of(kind, of) == record["topic"]), None)
    if kind is None:
        return StillInvalid(record["reason"], f"an event of a configured topic ({', '.join(of.topics)})", record["topic"], _origin(record))
    moment = max(now, int(DatetimeMS(record["timestamp"])))
    # A stored value of that length may be truncated.
    value = record["raw"] if record["raw"] is None or len(record["raw"]) < rules.max_bytes else None
    message, taken = Message(None, value or b"", _headers(record)), dict[str, str]()
    while isinstance(seen := _validated(kind, moment, message, rules), Rejection):
        field = seen.reason.value
        if field not in patch or field in taken:
            return StillInvalid(field, rule(seen.reason, rules), _invalid_text(message.value, seen.reason), _origin(record))
        taken[field] = patch[field]
        message = message._replace(value=_patched(message.value, field, patch[field]))
    if len(message.value) > MAX_MESSAGE_BYTES - _OVERHEAD_BYTES:
        return StillInvalid(record["reason"], f"an event of at most {MAX_MESSAGE_BYTES} bytes", "", _origin(record))
    return Replayable(record["_id"], kind, record["topic"], message._replace(key=_key(seen)), taken, moment)


def _validated(kind: FileKind, timestamp: int, message: Message, rules: Rules) -> ProductObservation | CategoryObservation | Rejection:
    headers = tuple((name, value) for name, value in message.headers if isinstance(value, bytes))
    return validator_of(kind)(Event("", 0, 0, timestamp, message.key, message.value, headers), rules)


def _key(seen: ProductObservation | CategoryObservation) -> bytes:
    return (seen.asin if isinstance(seen, ProductObservation) else str(seen.id)).encode()


def _headers(record: Document) -> Headers:
    """The original's headers and a reference to it: source and version equal the original's, except for partition and offset."""
    source = record["source"] if isinstance(record["source"], dict) else None
    headers: Headers = [(events.SOURCE, b"replay"), (events.FORMAT, b"json"), (events.REGISTERED_AT, b"%d" % record["registered_at"])]
    if source is not None:
        headers.append((events.INGESTION, source["ingestion"].encode()))
    if source is not None or record["position"]:
        headers.append((events.POSITION, b"%d" % record["position"]))
    # Without an ingestion the record's key is the source, also if the original was itself a replay.
    original = record["_id"] if source is None else f"{record['topic']}/{record['partition']}/{record['offset']}"
    return [*headers, (events.REPLAY_OF, original.encode())]


def _number(text: str) -> orjson.Fragment:
    """Keeps a JSON number exactly as written."""
    return orjson.Fragment(text)


_AS_TEXT = decoder()
_AS_WRITTEN = json.JSONDecoder(parse_int=_number, parse_float=_number)


def _patched(value: bytes, field: str, text: str) -> bytes:
    """The JSON object with one field replaced, everything else unchanged."""
    return orjson.dumps({**_AS_WRITTEN.decode(value.decode()), field: text})


def _invalid_text(value: bytes, reason: Reason) -> str:
    """The text that breaks the rule; the whole value if the record as a whole is malformed."""
    if reason.value not in FIELDS:
        return value.decode(errors="backslashreplace")
    invalid = _AS_TEXT.decode(value.decode()).get(reason.value, "")
    return invalid if isinstance(invalid, str) else json.dumps(invalid)


def _origin(record: Document) -> str:
    if isinstance(record["source"], dict):
        return f"{record['source']['file']} byte {record['source']['position']}"
    return f"{record['topic']}/{record['partition']}/{record['offset']}"
