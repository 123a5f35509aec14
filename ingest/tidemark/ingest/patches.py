"""Quarantine records judged again, by the rules in force: the event that one would be replayed as, or why it stays."""

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
from tidemark.catalog.topics import MOST_MESSAGE_BYTES
from tidemark.catalog.words import rule
from tidemark.ingest.files import FileKind
from tidemark.ingest.kinds import judge_of, topic_of
from tidemark.ingest.records import Headers, Message
from tidemark.serving.database import Document
from tidemark.serving.quarantine import Unclear
from tidemark.settings import Settings

_BESIDE_BYTES = 10_000  # at most, of a message's key and headers
# What a rule rejects and a patch can replace: not the record as a whole.
FIELDS = tuple(reason.value for reason in Reason if reason not in (Reason.WITHDRAWN, Reason.MALFORMED))

Patch = Mapping[str, str]  # texts by field


class Mended(NamedTuple):
    """A record that is an observation now: the event it is replayed as, what of the patch that took, and the moment it was judged at."""

    record: str
    kind: FileKind
    topic: str
    message: Message
    patch: Patch
    moment: int

    def stands(self, timestamp: int, rules: Rules = RULES) -> bool:
        """Is the event an observation as Kafka has stored it? The date's bound depends on when that was, in milliseconds."""
        return timestamp >= self.moment or not isinstance(_judged(self.kind, timestamp, self.message, rules), Rejection)


class Left(NamedTuple):
    """A record that stays: the rule that it breaks, that rule in words, what it says there, and where it came from."""

    reason: str
    rule: str
    says: str
    where: str


def patch_of(texts: Mapping[str, str] | Iterable[str] | None) -> Patch:
    """A patch from texts by field, or from words such as price=0. Raises Unclear."""
    if texts is None:
        return {}
    pairs = list(texts.items()) if isinstance(texts, Mapping) else [_pair(word) for word in texts]
    for name, text in pairs:
        if name not in FIELDS:
            raise Unclear(f"a patch replaces one of {', '.join(FIELDS)}; '{name}' is none of them")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unclear(f"the patch of {name} is not UTF-8") from None
    return dict(pairs)


def _pair(word: str) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    if not equals:
        raise Unclear(f"a patch is a field and its text, such as price=0, not '{word}'")
    return name, text


def mend(record: Document, patch: Patch, now: int, of: Settings, rules: Rules = RULES) -> Mended | Left:
    """Judges a quarantine record as an event that Kafka stores now (milliseconds). A field is patched only where it breaks its rule."""
    kind = next((kind for kind in FileKind if topic_of(kind, of) == record["topic"]), None)
    if kind is None:
        return Left(record["reason"], f"of a topic of the settings ({', '.join(of.topics)})", record["topic"], _where(record))
    moment = max(now, int(DatetimeMS(record["timestamp"])))
    # A value as long may be the beginning of a longer one.
    value = record["raw"] if record["raw"] is None or len(record["raw"]) < rules.most_bytes else None
    message, taken = Message(None, value or b"", _headers(record)), dict[str, str]()
    while isinstance(seen := _judged(kind, moment, message, rules), Rejection):
        field = seen.reason.value
        if field not in patch or field in taken:
            return Left(field, rule(seen.reason, rules), _says(message.value, seen.reason), _where(record))
        taken[field] = patch[field]
        message = message._replace(value=_patched(message.value, field, patch[field]))
    if len(message.value) > MOST_MESSAGE_BYTES - _BESIDE_BYTES:
        return Left(record["reason"], f"an event of at most {MOST_MESSAGE_BYTES} bytes", "", _where(record))
    return Mended(record["_id"], kind, record["topic"], message._replace(key=_key(seen)), taken, moment)


def _judged(kind: FileKind, timestamp: int, message: Message, rules: Rules) -> ProductObservation | CategoryObservation | Rejection:
    headers = tuple((name, value) for name, value in message.headers if isinstance(value, bytes))
    return judge_of(kind)(Event("", 0, 0, timestamp, message.key, message.value, headers), rules)


def _key(seen: ProductObservation | CategoryObservation) -> bytes:
    return (seen.asin if isinstance(seen, ProductObservation) else str(seen.id)).encode()


def _headers(record: Document) -> Headers:
    """The original's, and what it is a replay of. Source and version come to be the original's, but for partition and offset."""
    source = record["source"] if isinstance(record["source"], dict) else None
    headers: Headers = [(events.SOURCE, b"replay"), (events.FORMAT, b"json"), (events.TOLD_AT, b"%d" % record["registered_at"])]
    if source is not None:
        headers.append((events.INGESTION, source["ingestion"].encode()))
    if source is not None or record["position"]:
        headers.append((events.POSITION, b"%d" % record["position"]))
    # Where no ingestion names the source, the record's key is it, also if the original was a replay itself.
    original = record["_id"] if source is None else f"{record['topic']}/{record['partition']}/{record['offset']}"
    return [*headers, (events.REPLAY_OF, original.encode())]


def _number(text: str) -> orjson.Fragment:
    """Keeps a JSON number as it was written."""
    return orjson.Fragment(text)


_AS_TEXT = decoder()
_AS_WRITTEN = json.JSONDecoder(parse_int=_number, parse_float=_number)


def _patched(value: bytes, field: str, text: str) -> bytes:
    """The JSON object with another text in a field, all else as it was."""
    return orjson.dumps({**_AS_WRITTEN.decode(value.decode()), field: text})


def _says(value: bytes, reason: Reason) -> str:
    """What a record says where it breaks the rule; all of it where it is none as a whole."""
    if reason.value not in FIELDS:
        return value.decode(errors="backslashreplace")
    said = _AS_TEXT.decode(value.decode()).get(reason.value, "")
    return said if isinstance(said, str) else json.dumps(said)


def _where(record: Document) -> str:
    if isinstance(record["source"], dict):
        return f"{record['source']['file']} byte {record['source']['position']}"
    return f"{record['topic']}/{record['partition']}/{record['offset']}"
