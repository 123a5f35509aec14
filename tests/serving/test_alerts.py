"""What is wrong with a state, and what becomes of an alert. Nothing but functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random
from typing import Any

import pytest
from support.names import NAMES
from support.wording import Wording

from tidemark.serving import alerts
from tidemark.serving.alerts import Alert, Condition, Watch
from tidemark.serving.disks import Disk
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


def found(*evaluations: tuple[float, dict[str, Any]], of: AlertSettings = USUAL, disks: Sequence[Disk] = ()) -> dict[Condition, str | None]:
    """The problems that the last of these evaluations finds. Each is of a state, so many minutes after noon."""
    watch: Watch | None = None
    for minutes, seen in evaluations:
        watch = alerts.next_watch(watch, seen, NOON + minutes * MINUTE)
    assert watch is not None
    return alerts.found(watch, seen, disks, of, NAMES)


def every(minutes: float, until: float, **given: Any) -> list[tuple[float, dict[str, Any]]]:
    """Evaluations of the same state, one after the other; the newest event served is always so fresh."""
    times = [minutes * number for number in range(int(until / minutes) + 1)]
    return [(at, state(NOON + at * MINUTE, **given)) for at in times]


def test_a_healthy_state_raises_no_alert() -> None:
    assert found(*every(2, 120)) == NOTHING


def test_a_new_installation_raises_no_alert() -> None:
    empty = state(silent=None, behind=None, generation=0, events=800, night=None)
    assert found((0, empty), (2, empty)) == {name: None for name in NOTHING if name != Condition.FRESHNESS}


@pytest.mark.parametrize(("minutes", "wrong"), [(4, False), (5, False), (5.1, True), (200, True)])
def test_a_stream_without_a_heartbeat_raises_an_alert(minutes: float, wrong: bool, wording: Wording) -> None:
    problems = found(*every(2, 400, silent=minutes * 60))
    assert (problems[Condition.STREAM] is not None) == wrong
    assert Condition.FRESHNESS not in problems, "one alert, not two"
    if wrong:
        wording.check(str(problems[Condition.STREAM]))


def test_a_stream_stopped_by_a_rebuild_raises_an_alert_that_says_so(wording: Wording) -> None:
    problems = found(*every(2, 10, silent=400, rebuilding=12))
    wording.check(str(problems[Condition.STREAM]))


def test_a_forgotten_pause_raises_an_alert_that_says_so(wording: Wording) -> None:
    problems = found(*every(2, 10, silent=400, paused_by="somebody"))
    wording.check(str(problems[Condition.STREAM]))


def test_a_stream_that_waits_for_a_person(wording: Wording) -> None:
    """At once, and by one alert only."""
    said = found(*every(2, 10, silent=400, paused_by="the stream", held="micro-batch 12 would add 31,204 new cells to the reports"))
    wording.check(str(said[Condition.HELD]))
    assert said[Condition.STREAM] is None


def test_an_almost_full_disk_raises_an_alert(wording: Wording) -> None:
    """Each that is, and no other."""
    disks = [Disk("MongoDB's disk", 90, 100), Disk("the disk of /var/lib/tidemark", 84, 100)]
    wording.check(str(found(*every(2, 4), disks=disks)[Condition.DISK]))
    assert found(*every(2, 4), disks=disks[1:]) == NOTHING
    assert found(*every(2, 4), disks=disks, of=AlertSettings(alert_disk_share=inf)) == NOTHING


def test_after_an_outage_of_the_evaluation_the_stream_gets_its_full_time() -> None:
    """As after `make stop` and `make start`: the stream gets its time."""
    night = 600.0
    before = every(2, 10)
    assert found(*before, (night, state(silent=night * 60))) == {name: None for name in NOTHING if name != Condition.FRESHNESS}
    still = [(night + minutes, state(silent=(night + minutes) * 60)) for minutes in (0, 2, 4, 6)]
    assert found(*before, *still)[Condition.STREAM] is not None


def test_a_stream_that_stays_behind_raises_an_alert(wording: Wording) -> None:
    assert found(*every(2, 14, behind=9, newest=NOON))[Condition.FRESHNESS] is None
    wording.check(str(found(*every(2, 18, behind=1_234, newest=NOON))[Condition.FRESHNESS]))
    assert found(*every(2, 18, behind=9, newest=NOON), (20, state(behind=0)))[Condition.FRESHNESS] is None


def test_a_stream_under_constant_load_raises_no_alert() -> None:
    assert found(*every(2, 60, behind=9))[Condition.FRESHNESS] is None


def test_the_first_event_after_a_quiet_period_raises_no_alert() -> None:
    quiet = every(2, 600, newest=NOON)
    assert found(*quiet, (602, state(behind=1, newest=NOON)))[Condition.FRESHNESS] is None


def test_an_unmeasured_end_of_the_log_raises_an_alert(wording: Wording) -> None:
    assert found(*every(2, 14, behind=None))[Condition.FRESHNESS] is None
    wording.check(str(found(*every(2, 16, behind=None))[Condition.FRESHNESS]))


def test_a_backlog_from_a_stopped_stream_does_not_count_against_the_next_one() -> None:
    down = every(2, 60, silent=3_000, behind=9, newest=NOON)
    assert found(*down, (62, state(behind=9, newest=NOON)))[Condition.FRESHNESS] is None
    later = [(62 + minutes, state(behind=9, newest=NOON)) for minutes in range(0, 18, 2)]
    assert found(*down, *later)[Condition.FRESHNESS] is not None


def test_drift_raises_an_alert(wording: Wording) -> None:
    assert found((0, state(drift=0)))[Condition.DRIFT] is None
    wording.check(str(found((0, state(drift=3)))[Condition.DRIFT]))
    assert found((0, state(drift=3)), of=AlertSettings(alert_drift=4))[Condition.DRIFT] is None
    by_other_rules = state(drift=3)
    by_other_rules["verification"]["rules_changed"] = True
    assert found((0, by_other_rules))[Condition.DRIFT] is None, "the night has corrected what was to be expected"


def test_many_rejections_within_an_hour_raise_an_alert(wording: Wording) -> None:
    def problem(*counters: tuple[float, int, int]) -> str | None:
        return found(*((minutes, state(events=events, rejected=number)) for minutes, events, number in counters))[Condition.QUARANTINE]

    assert problem((0, 1_000, 500)) is None, "how many events those were is not known"
    wording.check(str(problem((0, 1_000, 500), (2, 2_000, 600))))
    assert problem((0, 1_000, 500), (2, 3_000, 600)) is None, "5% is not more than 5%"
    assert problem((0, 1_000, 500), (2, 1_019, 519)) is None, "19 are few"
    assert problem((0, 1_000, 0), (2, 2_000, 900), (62.5, 9_000, 910)) is None, "it was more than an hour ago"
    wording.check(str(problem((0, 1_000, 500), (2, 2_000, 600), (4, 2_000, 0), (6, 2_010, 0))), "where some are discarded")
    assert problem((0, 9_000, 0), (2, 3_000, 900), (4, 3_100, 900)) is None, "a rebuild under other rules"


def test_missing_nightly_batches_raise_an_alert(wording: Wording) -> None:
    assert found((30 * 60, state(night=NOON)))[Condition.NIGHT] is None
    wording.check(str(found((30 * 60 + 1, state(night=NOON)))[Condition.NIGHT]))
    assert found((0, state(night=None)), (30 * 60, state(night=None)))[Condition.NIGHT] is None
    wording.check(str(found((0, state(night=None)), (31 * 60, state(night=None)))[Condition.NIGHT]), "where there has been none")


def test_frequent_restarts_within_an_hour_raise_an_alert(wording: Wording) -> None:
    def problem(*evaluations: tuple[float, int]) -> str | None:
        return found(*((minutes, state(generation=generation)) for minutes, generation in evaluations))[Condition.RESTARTS]

    assert problem((0, 7), (58, 10)) is None
    wording.check(str(problem((0, 7), (58, 11))))
    assert problem((0, 7), (30, 9), (61, 11)) is None


def test_disabled_conditions_raise_no_alert() -> None:
    names = ("heartbeat_minutes", "behind_minutes", "drift", "rejected_share", "night_hours", "restarts", "disk_share")
    full = [Disk("a disk", 99, 100)]
    wrong = state(silent=9_000, events=2_000, rejected=900, drift=99, night=NOON - timedelta(days=99), generation=99)
    failing = [(0.0, state(generation=1)), (2.0, wrong)]
    late = [(number * 2.0, state(behind=9, newest=NOON)) for number in range(99)]
    strict = AlertSettings(**dict.fromkeys((f"alert_{name}" for name in names), 0.001))
    seen = found(*failing, of=strict, disks=full) | {Condition.FRESHNESS: found(*late, of=strict)[Condition.FRESHNESS]}
    assert {condition for condition, problem in seen.items() if not problem} == {Condition.HELD}, "a person who is asked must know"
    disabled = AlertSettings(**dict.fromkeys((f"alert_{name}" for name in names), "never"))
    assert not any((*found(*failing, of=disabled, disks=full).values(), *found(*late, of=disabled).values()))


def settle(*evaluations: tuple[float, str | None], calm: timedelta = CALM) -> list[Alert | None]:
    """The alert after each evaluation, so many minutes after noon."""
    steps: list[Alert | None] = [None]
    for minutes, wrong in evaluations:
        steps.append(alerts.settled(steps[-1], Condition.DRIFT, wrong, NOON + minutes * MINUTE, calm))
    return steps[1:]


def test_an_alert_begins_continues_and_ends_after_a_calm_period() -> None:
    none, first, second, calm, over, still = settle((0, None), (2, "a"), (4, "b"), (6, None), (11, None), (13, None))
    assert none is None
    assert (first, second) == (Alert(Condition.DRIFT, "a", NOON + 2 * MINUTE), Alert(Condition.DRIFT, "b", NOON + 2 * MINUTE))
    assert calm is not None
    assert (calm.on, calm.calm_since) == (True, NOON + 6 * MINUTE)
    assert over is not None
    assert (over.on, over.ended_at, over.text) == (False, NOON + 11 * MINUTE, "b")
    assert still == over


def test_an_intermittent_problem_is_one_alert() -> None:
    steps = settle(*((2.0 * number, "wrong" if number % 2 else None) for number in range(1, 50)))
    assert {alert.began_at for alert in steps if alert} == {NOON + 2 * MINUTE}
    assert all(alert.on for alert in steps if alert)


def test_beginnings_and_ends_alternate_for_each_channel() -> None:
    """Channels that fail at random, a condition that comes and goes: notifications alternate, and the last one is of the current state."""
    for seed in range(200):
        random = Random(seed)
        alert: Alert | None = None
        notified: dict[str, list[bool]] = {"mail": [], "webhook": []}
        for minutes in range(0, 100, 2):
            last = minutes >= 90
            wrong = None if last or random.random() < 0.7 else "wrong"
            alert = alerts.settled(alert, Condition.DRIFT, wrong, NOON + minutes * MINUTE, 2 * MINUTE)
            for _, channel in alerts.due_notifications([alert] if alert else [], notified):
                assert alert is not None
                if last or random.random() < 0.5:
                    notified[channel].append(alert.on)
                    alert = replace(alert, notified={**alert.notified, channel: alert.on})
        for sent in notified.values():
            assert sent == [index % 2 == 0 for index in range(len(sent))], seed
            assert len(sent) % 2 == 0, seed


def test_a_new_channel_is_notified_only_of_open_alerts() -> None:
    (on, over) = settle((0, "wrong"), (2, None), calm=timedelta(0))
    assert on is not None
    assert over is not None
    assert alerts.due_notifications([on], ["mail"]) == [(on, "mail")]
    assert alerts.due_notifications([over], ["mail"]) == []


def test_messages_name_problem_installation_and_time(wording: Wording) -> None:
    on, over = settle((0, "The stream is 9 events behind"), (2, None), calm=timedelta(0))
    assert on is not None
    assert over is not None
    begun, ended = alerts.message(on, "tidemark"), alerts.message(over, "tidemark")
    wording.check("\n".join(begun[1:]), "begun")
    wording.check("\n".join(ended[1:]), "over")


def test_every_condition_has_a_title() -> None:
    assert alerts.TITLES.keys() == set(Condition)
