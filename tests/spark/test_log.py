"""What the log must be like before anything is read from it."""

from __future__ import annotations

import json
from random import Random

import pytest
from support import broker
from support.load import updates
from support.places import Place

from catalog.marks import TideMark, TopicPartition
from serving import ledger
from serving.ledger import TopicsRecreated
from settings import settings
from spark.log import MissingOffsets, UnfitTopic, identities, look

pytestmark = pytest.mark.servers

DAY_MS = 86_400_000


def complaint() -> str:
    with pytest.raises(UnfitTopic) as raised:
        look()
    return str(raised.value)


def test_each_setting_that_endangers_events_is_named_with_what_to_do(place: Place) -> None:
    products, categories = settings().topics
    look()
    for topic in (products, categories):
        for wrong, right, said in (
            ({"cleanup.policy": "compact"}, {"cleanup.policy": "delete"}, "cleanup.policy is compact"),
            ({"cleanup.policy": "compact,delete"}, {"cleanup.policy": "delete"}, "cleanup.policy is compact,delete"),
            ({"message.timestamp.type": "CreateTime"}, {"message.timestamp.type": "LogAppendTime"}, "message.timestamp.type is CreateTime"),
            ({"retention.ms": str(3 * DAY_MS - 1)}, {"retention.ms": str(3 * DAY_MS)}, f"retention.ms is {3 * DAY_MS - 1}"),
            ({"retention.bytes": "1000000"}, {"retention.bytes": "-1"}, "retention.bytes is 1000000"),
            ({"max.message.bytes": "8388609"}, {"max.message.bytes": "8388608"}, "max.message.bytes is 8388609"),
        ):
            broker.configure(topic, wrong)
            assert f"topic {topic}: {said}" in complaint()
            assert "set it to" in complaint()
            broker.configure(topic, right)
            look()
    broker.configure(products, {"retention.ms": "-1"})
    look()
    broker.configure(products, {"retention.ms": "1000"})
    broker.configure(categories, {"cleanup.policy": "compact"})
    assert all(f"topic {topic}:" in complaint() for topic in (products, categories)), "both are named at once"


def test_missing_and_recreated_topics(place: Place) -> None:
    products, categories = settings().topics
    before = identities()
    assert look().identities == before
    ledger.start_generation(place.database, "rules", before)
    broker.recreate(categories)
    after = identities()
    assert (after[products] == before[products], after[categories] == before[categories]) == (True, False)
    with pytest.raises(TopicsRecreated, match=categories):
        ledger.read(place.database).require_topics(after)
    broker.delete(categories)
    for asked in (look, identities):
        with pytest.raises(UnfitTopic, match=rf"no topic {categories}: run `python -m ingest.topics`"):
            asked()
    broker.create()


def test_offsets_that_are_missing_are_named(place: Place) -> None:
    products, categories = settings().topics
    place.send(updates(Random(1), 400, keys=50))
    ends = place.ends()
    log = look()
    assert TideMark(log.ends) == ends
    assert set(log.starts.values()) == {0}
    log.require(TideMark())
    log.require(ends)
    first, second = TopicPartition(products, 0), TopicPartition(products, 1)
    broker.forget(*first, below=20)
    look().require(TideMark({**ends, first: 20}))
    with pytest.raises(MissingOffsets, match=f"{products}/0: offsets 0 to 19 have left the log") as raised:
        look().require(TideMark())
    assert "Nothing has been changed" in str(raised.value)
    with pytest.raises(MissingOffsets, match=f"{products}/0: offsets 19 to 19 have left the log"):
        look().require(TideMark({**ends, first: 19}))
    broker.forget(*second, below=ends[second])
    look().require(TideMark({**ends, first: 20}))
    with pytest.raises(MissingOffsets, match=f"{products}/1: offsets {ends[second] - 1} to {ends[second] - 1} have left"):
        look().require(TideMark({**ends, second: ends[second] - 1}))
    beyond, unheard = TideMark({**ends, first: ends[first] + 1}), TideMark({**ends, TopicPartition(products, 9): 1})
    with pytest.raises(MissingOffsets, match=f"{products}/0: read up to offset {ends[first] + 1}, but the log ends at {ends[first]}"):
        look().require(beyond)
    with pytest.raises(MissingOffsets, match=f"{products}/9: read up to offset 1, but the log ends at 0"):
        look().require(unheard)
    assert json.loads(look().starting_offsets(TideMark({first: 20}))) == {
        products: {"0": 20, "1": 0, "2": 0, "3": 0},
        categories: {"0": 0},
    }
