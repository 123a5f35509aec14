"""What the log must be like before anything is read from it."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from support import broker
from support.load import updates
from support.places import Place
from support.wording import Wording

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import ledger
from tidemark.serving.bindings import TopicsRecreated
from tidemark.settings.sections import KafkaSettings
from tidemark.spark.log import MissingOffsets, UnsafeTopic, describe_log, describe_topics

pytestmark = pytest.mark.servers

DAY_MS = 86_400_000


def problem(of: KafkaSettings) -> str:
    with pytest.raises(UnsafeTopic) as raised:
        describe_log(of)
    return str(raised.value)


def missing_from(of: KafkaSettings, mark: TideMark) -> str:
    with pytest.raises(MissingOffsets) as raised:
        describe_log(of).require(mark)
    return str(raised.value)


def test_each_unsafe_topic_setting_is_named_with_the_remedy(place: Place, wording: Wording) -> None:
    of = place.settings
    products, categories = of.topics
    describe_log(of)
    for topic in (products, categories):
        for name, wrong, right in (
            ("cleanup.policy", "compact", "delete"),
            ("cleanup.policy", "compact,delete", "delete"),
            ("message.timestamp.type", "CreateTime", "LogAppendTime"),
            ("retention.ms", str(3 * DAY_MS - 1), str(3 * DAY_MS)),
            ("retention.bytes", "1000000", "-1"),
            ("max.message.bytes", "8388609", "8388608"),
        ):
            broker.configure(topic, {name: wrong})
            wording.check(problem(of), f"{'product' if topic == products else 'category'} {name} {wrong}")
            broker.configure(topic, {name: right})
            describe_log(of)
    broker.configure(products, {"retention.ms": "-1"})
    describe_log(of)
    broker.configure(products, {"retention.ms": "1000"})
    broker.configure(categories, {"cleanup.policy": "compact"})
    assert all(topic in problem(of) for topic in (products, categories)), "both are named at once"


def test_missing_and_recreated_topics_are_refused(place: Place, wording: Wording) -> None:
    of = place.settings
    products, categories = of.topics
    before = describe_topics(of).identities
    assert describe_log(of).identities == before
    ledger.start_generation(place.database, "rules", before)
    broker.recreate(categories)
    after = describe_topics(of).identities
    assert (after[products] == before[products], after[categories] == before[categories]) == (True, False)
    with pytest.raises(TopicsRecreated, match=categories):
        ledger.read(place.database).binding.require_topics(after)
    broker.delete(categories)
    for asked in (describe_log, describe_topics):
        with pytest.raises(UnsafeTopic) as missing:
            asked(of)
        wording.check(str(missing.value))
    broker.create()


def test_missing_offsets_are_named(place: Place, wording: Wording) -> None:
    of = place.settings
    products, categories = of.topics
    place.send(updates(Random(1), 400, keys=50))
    ends = place.ends()
    log = describe_log(of)
    assert TideMark(log.ends) == ends
    assert set(log.starts.values()) == {0}
    log.require(TideMark())
    log.require(ends)
    first, second = TopicPartition(products, 0), TopicPartition(products, 1)
    broker.forget(*first, below=20)
    describe_log(of).require(TideMark({**ends, first: 20}))
    wording.check(missing_from(of, TideMark()), "left the log")
    wording.check(missing_from(of, TideMark({**ends, first: 19})), "the last of them")
    broker.forget(*second, below=ends[second])
    describe_log(of).require(TideMark({**ends, first: 20}))
    message = missing_from(of, TideMark({**ends, second: ends[second] - 1}))
    assert f"{products}/1:" in message
    assert message.count(f" {ends[second] - 1} ") == 1, "that one"
    message = missing_from(of, TideMark({**ends, first: ends[first] + 1}))
    assert f"{products}/0:" in message
    assert re.findall(r"\d+", message.partition("/0:")[2]) == [str(ends[first] + 1), str(ends[first])]
    wording.check(missing_from(of, TideMark({**ends, TopicPartition(products, 9): 1})), "beyond the end")
    assert json.loads(describe_log(of).starting_offsets(TideMark({first: 20}))) == {
        products: {"0": 20, "1": 0, "2": 0, "3": 0},
        categories: {"0": 0},
    }
