"""What is wrong with a state, and what becomes of an alert. Nothing but functions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from support.names import NAMES
from support.wording import Wording

from tidemark.serving import alerts
from tidemark.serving.alerts import Alert, Condition, Watch
from tidemark.settings.sections import AlertSettings

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
MINUTE, CALM = timedelta(minutes=1), timedelta(minutes=5)
USUAL = AlertSettings()
NOTHING = dict.fromkeys(set(Condition) - {Condition.STATE})


def state(
    now: datetime = NOON,
    *,
    silent: float | None = 1,
    behind: int | None = 0,
    newest: datetime | None = None,
    generation: int = 7,
    events: int = 1_000,
    rejected: int = 0,
    drift: int | None = None,
    night: datetime | None = NOON,
    rebuilding: int | None = None,
    paused_by: str | None = None,
    held: str | None = None,
) -> dict[str, Any]:
    """A state in which nothing is wrong but what is given, as serving.status has it."""
    verification = drift is not None and {"_id": 3, "drift": drift, "counts": {"cell": 0, "product": drift}, "named": {"cell": []}}
    return {
        "freshness": {"seconds_since_heartbeat": silent, "events_behind": behind, "newest_event": (newest or now).isoformat()},
        "stream": {
            "alive": silent is not None and silent < 30,
            "generation": generation,
            "rebuilding": rebuilding,
            "control": {"paused": paused_by is not None, "by": paused_by, "held": held is not None, "reason": held},
            "offsets": [{"topic": "t", "partition": 0, "offset": events - 400}, {"topic": "t", "partition": 1, "offset": 400}],
        },
        "quarantine": {"asin": rejected // 2, "stars": rejected - rejected // 2, "withdrawn": events},
        "verification": verification or None,
        "night": night and {"at": night.isoformat(), "publication": 3},
    }


def found(*looks: tuple[float, dict[str, Any]], of: AlertSettings = USUAL) -> dict[Condition, str | None]:
    """What the last of these looks finds, each so many minutes after noon at a state."""
    watch: Watch | None = None
    for minutes, seen in looks:
        watch = alerts.looked(watch, seen, NOON + minutes * MINUTE)
    assert watch is not None
    return alerts.found(watch, seen, of, NAMES)


def every(minutes: float, until: float, **given: Any) -> list[tuple[float, dict[str, Any]]]:
    """Evaluations of the same state, one after the other; the newest event served is always so fresh."""
    times = [minutes * number for number in range(int(until / minutes) + 1)]
    return [(at, state(NOON + at * MINUTE, **given)) for at in times]


def test_nothing_is_wrong() -> None:
    assert found(*every(2, 120)) == NOTHING


def test_a_new_installation_on_which_nothing_has_run_yet() -> None:
    empty = state(silent=None, behind=None, generation=0, events=800, night=None)
    assert found((0, empty), (2, empty)) == {name: None for name in NOTHING if name != Condition.FRESHNESS}


@pytest.mark.parametrize(("minutes", "wrong"), [(4, False), (5, False), (5.1, True), (200, True)])
def test_a_stream_that_gives_no_sign_of_life(minutes: float, wrong: bool, wording: Wording) -> None:
    said = found(*every(2, 400, silent=minutes * 60))
    assert (said[Condition.STREAM] is not None) == wrong
    assert Condition.FRESHNESS not in said, "one alert, not two"
    if wrong:
        wording.check(str(said[Condition.STREAM]))


def test_a_stream_that_a_rebuild_keeps_from_running(wording: Wording) -> None:
    said = found(*every(2, 10, silent=400, rebuilding=12))
    wording.check(str(said[Condition.STREAM]))


def test_a_stream_that_somebody_has_paused_and_forgotten(wording: Wording) -> None:
    said = found(*every(2, 10, silent=400, paused_by="somebody"))
    wording.check(str(said[Condition.STREAM]))


def test_a_stream_that_waits_for_a_person(wording: Wording) -> None:
    """At once, and by one alert only."""
    said = found(*every(2, 10, silent=400, paused_by="the stream", held="micro-batch 12 would add 31,204 new cells to the reports"))
    wording.check(str(said[Condition.HELD]))
    assert said[Condition.STREAM] is None


def test_whoever_looks_was_down_together_with_the_stream() -> None:
    """As after `make stop` and `make start`: the stream gets its time."""
    night = 600.0
    before = every(2, 10)
    assert found(*before, (night, state(silent=night * 60))) == {name: None for name in NOTHING if name != Condition.FRESHNESS}
    still = [(night + minutes, state(silent=(night + minutes) * 60)) for minutes in (0, 2, 4, 6)]
    assert found(*before, *still)[Condition.STREAM] is not None


def test_a_stream_that_does_not_catch_up(wording: Wording) -> None:
    assert found(*every(2, 14, behind=9, newest=NOON))[Condition.FRESHNESS] is None
    wording.check(str(found(*every(2, 18, behind=1_234, newest=NOON))[Condition.FRESHNESS]))
    assert found(*every(2, 18, behind=9, newest=NOON), (20, state(behind=0)))[Condition.FRESHNESS] is None


def test_a_stream_at_work_keeps_up_though_something_is_always_on_its_way() -> None:
    assert found(*every(2, 60, behind=9))[Condition.FRESHNESS] is None


def test_the_first_event_after_a_quiet_night_is_not_late() -> None:
    quiet = every(2, 600, newest=NOON)
    assert found(*quiet, (602, state(behind=1, newest=NOON)))[Condition.FRESHNESS] is None


def test_nobody_looks_where_the_log_ends(wording: Wording) -> None:
    assert found(*every(2, 14, behind=None))[Condition.FRESHNESS] is None
    wording.check(str(found(*every(2, 16, behind=None))[Condition.FRESHNESS]))


def test_what_piled_up_while_no_stream_ran_is_not_held_against_the_next_one() -> None:
    down = every(2, 60, silent=3_000, behind=9, newest=NOON)
    assert found(*down, (62, state(behind=9, newest=NOON)))[Condition.FRESHNESS] is None
    later = [(62 + minutes, state(behind=9, newest=NOON)) for minutes in range(0, 18, 2)]
    assert found(*down, *later)[Condition.FRESHNESS] is not None


def test_drift(wording: Wording) -> None:
    assert found((0, state(drift=0)))[Condition.DRIFT] is None
    wording.check(str(found((0, state(drift=3)))[Condition.DRIFT]))
    assert found((0, state(drift=3)), of=AlertSettings(alert_drift=4))[Condition.DRIFT] is None
    by_other_rules = state(drift=3)
    by_other_rules["verification"]["rules_changed"] = True
    assert found((0, by_other_rules))[Condition.DRIFT] is None, "the night has corrected what was to be expected"


def test_rejections_of_the_last_hour(wording: Wording) -> None:
    def said(*counters: tuple[float, int, int]) -> str | None:
        return found(*((minutes, state(events=events, rejected=number)) for minutes, events, number in counters))[Condition.QUARANTINE]

    assert said((0, 1_000, 500)) is None, "how many events those were is not known"
    wording.check(str(said((0, 1_000, 500), (2, 2_000, 600))))
    assert said((0, 1_000, 500), (2, 3_000, 600)) is None, "5% is not more than 5%"
    assert said((0, 1_000, 500), (2, 1_019, 519)) is None, "19 are few"
    assert said((0, 1_000, 0), (2, 2_000, 900), (62.5, 9_000, 910)) is None, "it was more than an hour ago"
    wording.check(str(said((0, 1_000, 500), (2, 2_000, 600), (4, 2_000, 0), (6, 2_010, 0))), "where some are discarded")
    assert said((0, 9_000, 0), (2, 3_000, 900), (4, 3_100, 900)) is None, "a rebuild under other rules"


def test_nights(wording: Wording) -> None:
    assert found((30 * 60, state(night=NOON)))[Condition.NIGHT] is None
    wording.check(str(found((30 * 60 + 1, state(night=NOON)))[Condition.NIGHT]))
    assert found((0, state(night=None)), (30 * 60, state(night=None)))[Condition.NIGHT] is None
    wording.check(str(found((0, state(night=None)), (31 * 60, state(night=None)))[Condition.NIGHT]), "where there has been none")


def test_starts_of_the_stream_within_an_hour(wording: Wording) -> None:
    def said(*looks: tuple[float, int]) -> str | None:
        return found(*((minutes, state(generation=generation)) for minutes, generation in looks))[Condition.RESTARTS]

    assert said((0, 7), (58, 10)) is None
    wording.check(str(said((0, 7), (58, 11))))
    assert said((0, 7), (30, 9), (61, 11)) is None


def test_what_is_never_to_alert_does_not() -> None:
    names = ("heartbeat_minutes", "behind_minutes", "drift", "rejected_share", "night_hours", "restarts")
    wrong = state(silent=9_000, events=2_000, rejected=900, drift=99, night=NOON - timedelta(days=99), generation=99)
    awful = [(0.0, state(generation=1)), (2.0, wrong)]
    late = [(number * 2.0, state(behind=9, newest=NOON)) for number in range(99)]
    strict = AlertSettings(**dict.fromkeys((f"alert_{name}" for name in names), 0.001))
    seen = found(*awful, of=strict) | {Condition.FRESHNESS: found(*late, of=strict)[Condition.FRESHNESS]}
    assert {condition for condition, said in seen.items() if not said} == {Condition.HELD}, "a person who is asked must know"
    disabled = AlertSettings(**dict.fromkeys((f"alert_{name}" for name in names), "never"))
    assert not any((*found(*awful, of=disabled).values(), *found(*late, of=disabled).values()))


def settle(*looks: tuple[float, str | None], calm: timedelta = CALM) -> list[Alert | None]:
    """What becomes of an alert with each look, so many minutes after noon."""
    steps: list[Alert | None] = [None]
    for minutes, wrong in looks:
        steps.append(alerts.settled(steps[-1], Condition.DRIFT, wrong, NOON + minutes * MINUTE, calm))
    return steps[1:]


def test_an_alert_begins_goes_on_and_ends_when_it_has_been_calm_for_a_while() -> None:
    none, first, second, calm, over, still = settle((0, None), (2, "a"), (4, "b"), (6, None), (11, None), (13, None))
    assert none is None
    assert (first, second) == (Alert(Condition.DRIFT, "a", NOON + 2 * MINUTE), Alert(Condition.DRIFT, "b", NOON + 2 * MINUTE))
    assert calm is not None
    assert (calm.on, calm.calm_since) == (True, NOON + 6 * MINUTE)
    assert over is not None
    assert (over.on, over.ended_at, over.text) == (False, NOON + 11 * MINUTE, "b")
    assert still == over


def test_what_comes_and_goes_is_one_alert() -> None:
    steps = settle(*((2.0 * number, "wrong" if number % 2 else None) for number in range(1, 50)))
    assert {alert.began_at for alert in steps if alert} == {NOON + 2 * MINUTE}
    assert all(alert.on for alert in steps if alert)


def test_each_channel_is_told_once_of_a_beginning_and_once_of_an_end_whatever_comes() -> None:
    """Channels that fail at random, a condition that comes and goes: what a channel hears alternates, and ends with how it is."""
    for seed in range(200):
        random = Random(seed)
        alert: Alert | None = None
        heard: dict[str, list[bool]] = {"mail": [], "webhook": []}
        for minutes in range(0, 100, 2):
            last = minutes >= 90
            wrong = None if last or random.random() < 0.7 else "wrong"
            alert = alerts.settled(alert, Condition.DRIFT, wrong, NOON + minutes * MINUTE, 2 * MINUTE)
            for _, channel in alerts.untold([alert] if alert else [], heard):
                assert alert is not None
                if last or random.random() < 0.5:
                    heard[channel].append(alert.on)
                    alert = replace(alert, told={**alert.told, channel: alert.on})
        for said in heard.values():
            assert said == [index % 2 == 0 for index in range(len(said))], seed
            assert len(said) % 2 == 0, seed


def test_a_new_channel_hears_of_what_is_on_and_not_of_what_is_over() -> None:
    (on, over) = settle((0, "wrong"), (2, None), calm=timedelta(0))
    assert on is not None
    assert over is not None
    assert alerts.untold([on], ["mail"]) == [(on, "mail")]
    assert alerts.untold([over], ["mail"]) == []


def test_messages_say_what_where_and_since_when(wording: Wording) -> None:
    on, over = settle((0, "The stream is 9 events behind"), (2, None), calm=timedelta(0))
    assert on is not None
    assert over is not None
    begun, ended = alerts.message(on, "tidemark"), alerts.message(over, "tidemark")
    wording.check("\n".join(begun[1:]), "begun")
    wording.check("\n".join(ended[1:]), "over")


def test_every_condition_has_a_title() -> None:
    assert alerts.TITLES.keys() == set(Condition)
