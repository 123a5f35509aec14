"""Alerts as pure functions: what is wrong with a state, which alerts begin and end with that, and who is to be told.

A look is taken every few minutes. What it leaves to the next one is a Watch and the alerts; tidemark.serving.alerting keeps both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tidemark.catalog.observations import Reason
from tidemark.serving import verifications
from tidemark.serving.database import Document
from tidemark.settings import Settings
from tidemark.settings.airflow_names import Dag

WITHIN = timedelta(hours=1)  # what rejections and starts of the stream are counted within
BROKEN_OFF = timedelta(minutes=10)  # looks further apart are no row of looks: whoever looks was down, too
LEAST_REJECTED = 20  # below it a share says little


class Condition(StrEnum):
    """What an alert is about."""

    STATE = "state"
    STREAM = "stream"
    FRESHNESS = "freshness"
    DRIFT = "drift"
    QUARANTINE = "quarantine"
    NIGHT = "night"
    RESTARTS = "restarts"


TITLES: Mapping[Condition, str] = {
    Condition.STATE: "the state cannot be read",
    Condition.STREAM: "the stream gives no sign of life",
    Condition.FRESHNESS: "the reports do not keep up",
    Condition.DRIFT: "the stream's numbers differ from the batch's",
    Condition.QUARANTINE: "many events are rejected",
    Condition.NIGHT: "nightly batches are missing",
    Condition.RESTARTS: "the stream starts again and again",
}


class Sample(NamedTuple):
    """Counters at one look: the ledger's generation, events served (its offsets, added up), open records in quarantine."""

    at: datetime
    generation: int
    events: int
    rejected: int


@dataclass(frozen=True)
class Watch:
    """What has been seen so far: since when at all, since when without a break, since when the stream has been behind (None: it is not).

    `samples` are those of the last hour, the newest last; there is always one.
    """

    first_at: datetime
    since: datetime
    behind_since: datetime | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Alert:
    """One condition's alert, the newest. It is on until it has ended.

    `text` says what is or was wrong, `calm_since` since when nothing is, `told` by channel whether what it was told last is that it is on.
    """

    condition: Condition
    text: str
    began_at: datetime
    ended_at: datetime | None = None
    calm_since: datetime | None = None
    told: Mapping[str, bool] = field(default_factory=dict)

    @property
    def on(self) -> bool:
        return self.ended_at is None


class Message(NamedTuple):
    """What a channel is told: that an alert has begun or ended, in words."""

    alert: Alert
    subject: str
    text: str


def looked(before: Watch | None, state: Document, now: datetime) -> Watch:
    """What has been seen with this look at a state of serving.status."""
    stream = state["stream"]
    rejected = sum(count for reason, count in state["quarantine"].items() if reason != Reason.WITHDRAWN)
    sample = Sample(now, stream["generation"] or 0, sum(one["offset"] for one in stream["offsets"]), rejected)
    # Of a stream that does not live nobody can say that it does not keep up; how far behind it is may be unknown.
    behind = stream["alive"] and state["freshness"]["events_behind"] != 0
    if before is None:
        return Watch(now, now, now if behind else None, (sample,))
    unbroken = now - before.samples[-1].at <= BROKEN_OFF
    was_behind_since = before.behind_since if unbroken else None
    return Watch(
        first_at=before.first_at,
        since=before.since if unbroken else now,
        behind_since=(was_behind_since or now) if behind else None,
        samples=(*(one for one in before.samples if now - one.at <= WITHIN), sample),
    )


def found(watch: Watch, state: Document, of: Settings) -> dict[Condition, str | None]:
    """What is wrong, in words; None where nothing is. A condition that nobody can judge is not named."""
    judged = {
        Condition.STREAM: _silent(watch, state, of),
        Condition.FRESHNESS: _behind(watch, state, of),
        Condition.DRIFT: _drift(state, of),
        Condition.QUARANTINE: _rejected(watch, of),
        Condition.NIGHT: _night(watch, state, of),
        Condition.RESTARTS: _restarts(watch, of),
    }
    if not state["stream"]["alive"]:
        del judged[Condition.FRESHNESS]
    return judged


def settled(before: Alert | None, condition: Condition, wrong: str | None, now: datetime, calm: timedelta) -> Alert | None:
    """What becomes of a condition's alert: it begins where something is wrong, and ends when nothing has been wrong for that long."""
    if wrong is not None:
        if before is None or not before.on:
            return Alert(condition, wrong, now, told=before.told if before else {})
        return replace(before, text=wrong, calm_since=None)
    if before is None or not before.on:
        return before
    calm_since = before.calm_since or now
    return replace(before, calm_since=calm_since, ended_at=now if now - calm_since >= calm else None)


def untold(alerts: Iterable[Alert], channels: Iterable[str]) -> list[tuple[Alert, str]]:
    """Which channel is to be told of which alert. One that ended before a channel heard of it is nothing to that channel."""
    return [(alert, channel) for alert in alerts for channel in channels if alert.told.get(channel, False) != alert.on]


def message(alert: Alert, database: str) -> Message:
    """In words, of the installation that has this database."""
    title = f"Tidemark ({database}): {TITLES[alert.condition]}"
    if alert.ended_at is None:
        return Message(alert, title, f"{alert.text}. Noticed at {_moment(alert.began_at)}.")
    over = f"Over since {_moment(alert.calm_since or alert.ended_at)}, noticed at {_moment(alert.began_at)}."
    return Message(alert, f"{title}: over", f"{over} It was: {alert.text}.")


def _silent(watch: Watch, state: Document, of: Settings) -> str | None:
    beat = state["freshness"]["seconds_since_heartbeat"]
    if beat is None:  # no stream has ever been started
        return None
    # Where nobody looked the stream may have been stopped together with whoever looks.
    if not _longer(min(timedelta(seconds=beat), watch.samples[-1].at - watch.since), of.alert_heartbeat_minutes):
        return None
    return f"The stream has given no sign of life for {_duration(timedelta(seconds=beat))}: {_why_silent(state['stream'])}"


def _why_silent(stream: Document) -> str:
    if (number := stream["rebuilding"]) is not None:
        return f"publication {number} is being rebuilt, and no stream runs meanwhile"
    if (control := stream["control"])["paused"]:
        return f"{control['by']} has paused it; make resume, or DAG {Dag.STREAM.id}, lets it go on"
    return "see its log (make logs PROGRAM=speed)"


def _behind(watch: Watch, state: Document, of: Settings) -> str | None:
    if watch.behind_since is None:
        return None
    now, events, newest = watch.samples[-1].at, state["freshness"]["events_behind"], state["freshness"]["newest_event"]
    waited = now - watch.behind_since
    if events is not None and newest is not None:
        waited = min(waited, now - datetime.fromisoformat(newest))  # it is at work, and what it has served last is as old as that
    if not _longer(waited, of.alert_behind_minutes):
        return None
    if events is None:
        return f"Nobody has looked where the log ends for {_duration(waited)}: see make status, and make logs PROGRAM=watch"
    return f"The stream is {events:,} events behind, and has not caught up for {_duration(waited)}: see make logs PROGRAM=speed"


def _drift(state: Document, of: Settings) -> str | None:
    verification = state["verification"]
    if verification is None or not verification["drift"] or verification["drift"] < of.alert_drift:
        return None
    if verifications.is_expected(verification):
        return None
    return f"The verification of {verifications.lines(verification)[-1]}; dashboard Pipeline names them"


def _rejected(watch: Watch, of: Settings) -> str | None:
    # Offsets go back with a rebuild, and records are replayed or discarded: only what has been added counts.
    events = sum(max(0, after.events - before.events) for before, after in pairwise(watch.samples))
    rejected = sum(max(0, after.rejected - before.rejected) for before, after in pairwise(watch.samples))
    # More than there were events are those of a rebuild under other rules.
    if not LEAST_REJECTED <= rejected <= events or rejected / events <= of.alert_rejected_share:
        return None
    return (
        f"{rejected:,} of the {events:,} events since {_moment(watch.samples[0].at)} have been rejected ({rejected / events:.1%}): "
        "dashboard Pipeline says why, and of which files they are"
    )


def _night(watch: Watch, state: Document, of: Settings) -> str | None:
    ended = state["night"] and datetime.fromisoformat(state["night"]["at"])
    waited = watch.samples[-1].at - (ended or watch.first_at)
    if waited / timedelta(hours=1) <= of.alert_night_hours:
        return None
    since = f"since {_moment(ended)}" if ended else f"for {_duration(waited)}"
    dag = Dag.NIGHTLY_BATCH.id
    return f"No nightly batch has come to its end {since}: see DAG {dag} in Airflow, which may be paused, wait for a person or fail"


def _restarts(watch: Watch, of: Settings) -> str | None:
    first, last = watch.samples[0], watch.samples[-1]
    starts = last.generation - first.generation
    if not starts or starts < of.alert_restarts:
        return None
    return f"The stream has been started {starts} times since {_moment(first.at)}: its log says why (make logs PROGRAM=speed)"


def _longer(waited: timedelta, minutes: float) -> bool:
    return waited / timedelta(minutes=1) > minutes


def _duration(of: timedelta) -> str:
    minutes = int(of / timedelta(minutes=1))
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
