"""Alerts as pure functions: the problems of a state, the alerts that begin and end with them, and the notifications that are due.

The state is evaluated every few minutes. A Watch and the alerts carry over to the next evaluation; tidemark.serving.alerting stores both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tidemark.catalog.epochs import kafka_offset
from tidemark.catalog.observations import Reason
from tidemark.catalog.words import counted
from tidemark.rendering.verifications import render_verification
from tidemark.serving import verifications
from tidemark.serving.disks import Disk
from tidemark.serving.documents import StatusDocument, StreamStatus
from tidemark.settings.airflow_names import AirflowNames, Dag
from tidemark.settings.sections import AlertSettings

WITHIN = timedelta(hours=1)  # window in which rejections and starts of the stream are counted
MAX_EVALUATION_GAP = timedelta(minutes=10)  # a longer gap between evaluations means that the evaluation itself was down
MIN_REJECTED = 20  # with fewer rejections their share is not significant


class Condition(StrEnum):
    """The subject of an alert."""

    STATE = "state"
    STREAM = "stream"
    FRESHNESS = "freshness"
    DRIFT = "drift"
    QUARANTINE = "quarantine"
    NIGHT = "night"
    RESTARTS = "restarts"
    HELD = "held"
    DISK = "disk"


TITLES: Mapping[Condition, str] = {
    Condition.STATE: "the state cannot be read",
    Condition.STREAM: "the stream sends no heartbeat",
    Condition.FRESHNESS: "the reports are falling behind",
    Condition.DRIFT: "the stream's results differ from the batch's",
    Condition.QUARANTINE: "many events are rejected",
    Condition.NIGHT: "nightly batches are missing",
    Condition.RESTARTS: "the stream keeps restarting",
    Condition.HELD: "the stream waits for a person",
    Condition.DISK: "a disk is almost full",
}


class Sample(NamedTuple):
    """Counters at one evaluation: the ledger's generation, events served (the sum of its offsets), open records in quarantine."""

    at: datetime
    generation: int
    events: int
    rejected: int


@dataclass(frozen=True)
class Watch:
    """The observations so far.

    `first_at` is the first evaluation, `since` the first one of the current unbroken row, `behind_since` the moment since which the
    stream has been behind (None: it is not). `samples` are those of the last hour, the newest last; there is at least one.
    """

    first_at: datetime
    since: datetime
    behind_since: datetime | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Alert:
    """The newest alert of a condition. It is on until it has ended.

    `text` describes the problem, `calm_since` is the moment since which it has been gone. `notified` says for each channel whether its last
    notification was that the alert is on.
    """

    condition: Condition
    text: str
    began_at: datetime
    ended_at: datetime | None = None
    calm_since: datetime | None = None
    notified: Mapping[str, bool] = field(default_factory=dict)

    @property
    def on(self) -> bool:
        return self.ended_at is None


class Message(NamedTuple):
    """A notification that an alert has begun or ended."""

    alert: Alert
    subject: str
    text: str


def next_watch(before: Watch | None, state: StatusDocument, now: datetime) -> Watch:
    """The watch after evaluating a state of serving.status."""
    stream = state["stream"]
    rejected = sum(count for reason, count in state["quarantine"].items() if reason != Reason.WITHDRAWN)
    sample = Sample(now, stream["generation"] or 0, sum(kafka_offset(one["offset"]) for one in stream["offsets"]), rejected)
    # Only a live stream can fall behind. How far behind it is may be unknown (None).
    behind = stream["alive"] and state["freshness"]["events_behind"] != 0
    if before is None:
        return Watch(now, now, now if behind else None, (sample,))
    unbroken = now - before.samples[-1].at <= MAX_EVALUATION_GAP
    was_behind_since = before.behind_since if unbroken else None
    return Watch(
        first_at=before.first_at,
        since=before.since if unbroken else now,
        behind_since=(was_behind_since or now) if behind else None,
        samples=(*(one for one in before.samples if now - one.at <= WITHIN), sample),
    )


def found(
    watch: Watch, state: StatusDocument, disks: Iterable[Disk], of: AlertSettings, names: AirflowNames
) -> dict[Condition, str | None]:
    """The problem of each condition, None if there is none. A condition that cannot be judged is absent."""
    problems = {
        Condition.STREAM: _silent(watch, state, of, names),
        Condition.FRESHNESS: _behind(watch, state, of),
        Condition.DRIFT: _drift(state, of),
        Condition.QUARANTINE: _rejected(watch, of),
        Condition.NIGHT: _night(watch, state, of, names),
        Condition.RESTARTS: _restarts(watch, of),
        Condition.HELD: _held(state),
        Condition.DISK: _full(disks, of),
    }
    if not state["stream"]["alive"]:
        del problems[Condition.FRESHNESS]
    return problems


def settled(before: Alert | None, condition: Condition, wrong: str | None, now: datetime, calm: timedelta) -> Alert | None:
    """The next state of a condition's alert: it begins with a problem and ends when there has been none for the time `calm`."""
    if wrong is not None:
        if before is None or not before.on:
            return Alert(condition, wrong, now, notified=before.notified if before else {})
        return replace(before, text=wrong, calm_since=None)
    if before is None or not before.on:
        return before
    calm_since = before.calm_since or now
    return replace(before, calm_since=calm_since, ended_at=now if now - calm_since >= calm else None)


def due_notifications(alerts: Iterable[Alert], channels: Iterable[str]) -> list[tuple[Alert, str]]:
    """The notifications that are due. A channel is not notified of an alert that ended before its beginning could be sent."""
    return [(alert, channel) for alert in alerts for channel in channels if alert.notified.get(channel, False) != alert.on]


def message(alert: Alert, database: str) -> Message:
    """The notification, for the installation that uses this database."""
    title = f"Tidemark ({database}): {TITLES[alert.condition]}"
    if alert.ended_at is None:
        return Message(alert, title, f"{alert.text}. Detected at {_moment(alert.began_at)}.")
    over = f"Resolved at {_moment(alert.calm_since or alert.ended_at)}, detected at {_moment(alert.began_at)}."
    return Message(alert, f"{title}: resolved", f"{over} The alert was: {alert.text}.")


def _silent(watch: Watch, state: StatusDocument, of: AlertSettings, names: AirflowNames) -> str | None:
    beat = state["freshness"]["seconds_since_heartbeat"]
    if beat is None or state["stream"]["control"]["held"]:  # no stream has ever been started, or another alert says why
        return None
    # While nothing was evaluated, the stream may have been stopped together with the evaluation.
    if not _longer(min(timedelta(seconds=beat), watch.samples[-1].at - watch.since), of.alert_heartbeat_minutes):
        return None
    return f"The stream has sent no heartbeat for {_duration(timedelta(seconds=beat))}: {_why_silent(state['stream'], names)}"


def _why_silent(stream: StreamStatus, names: AirflowNames) -> str:
    if (number := stream["rebuilding"]) is not None:
        return f"publication {number} is being rebuilt, and the stream does not run meanwhile"
    if (control := stream["control"])["paused"]:
        return f"{control['by']} has paused it; resume it with make resume or DAG {names.of(Dag.STREAM)}"
    return "see its log (make logs PROGRAM=speed)"


def _held(state: StatusDocument) -> str | None:
    control = state["stream"]["control"]
    return f"The stream has stopped, and nothing is lost: {control['reason']}" if control["held"] else None


def _full(disks: Iterable[Disk], of: AlertSettings) -> str | None:
    full = [f"{disk.what} is {disk.share:.0%} full" for disk in disks if disk.share > of.alert_disk_share]
    if not full:
        return None
    return f"{'; '.join(full)}: enlarge it, or delete what is not needed; dashboard Pipeline shows what takes the space"


def _behind(watch: Watch, state: StatusDocument, of: AlertSettings) -> str | None:
    if watch.behind_since is None:
        return None
    now, events, newest = watch.samples[-1].at, state["freshness"]["events_behind"], state["freshness"]["newest_event"]
    waited = now - watch.behind_since
    if events is not None and newest is not None:
        waited = min(waited, now - datetime.fromisoformat(newest))  # it makes progress: it is behind by the age of the newest served event
    if not _longer(waited, of.alert_behind_minutes):
        return None
    if events is None:
        return f"The end of the log has not been measured for {_duration(waited)}: see make status and make logs PROGRAM=watch"
    behind = counted(events, "event")
    return f"The stream is {behind} behind and has not caught up for {_duration(waited)}: see its log (make logs PROGRAM=speed)"


def _drift(state: StatusDocument, of: AlertSettings) -> str | None:
    verification = state["verification"]
    if verification is None or not verification["drift"] or verification["drift"] < of.alert_drift:
        return None
    if verifications.is_expected(verification):
        return None
    return f"Verification of {render_verification(verification)[-1]}; dashboard Pipeline lists them"


def _rejected(watch: Watch, of: AlertSettings) -> str | None:
    # A rebuild sets offsets back, and records are replayed or discarded: only increases count.
    events = sum(max(0, after.events - before.events) for before, after in pairwise(watch.samples))
    rejected = sum(max(0, after.rejected - before.rejected) for before, after in pairwise(watch.samples))
    # More rejections than events come from a rebuild under other rules.
    if not MIN_REJECTED <= rejected <= events or rejected / events <= of.alert_rejected_share:
        return None
    return (
        f"{rejected:,} of the {events:,} events since {_moment(watch.samples[0].at)} were rejected ({rejected / events:.1%}): "
        "dashboard Pipeline shows the reasons and the files"
    )


def _night(watch: Watch, state: StatusDocument, of: AlertSettings, names: AirflowNames) -> str | None:
    ended = state["night"] and datetime.fromisoformat(state["night"]["at"])
    waited = watch.samples[-1].at - (ended or watch.first_at)
    if waited / timedelta(hours=1) <= of.alert_night_hours:
        return None
    since = f"since {_moment(ended)}" if ended else f"for {_duration(waited)}"
    dag = names.of(Dag.NIGHTLY_BATCH)
    return f"No nightly batch has finished {since}: see DAG {dag} in Airflow, which may be paused, waiting for approval or failing"


def _restarts(watch: Watch, of: AlertSettings) -> str | None:
    first, last = watch.samples[0], watch.samples[-1]
    starts = last.generation - first.generation
    if not starts or starts < of.alert_restarts:
        return None
    return f"The stream has started {counted(starts, 'time')} since {_moment(first.at)}: see its log (make logs PROGRAM=speed)"


def _longer(waited: timedelta, minutes: float) -> bool:
    return waited / timedelta(minutes=1) > minutes


def _duration(of: timedelta) -> str:
    minutes = int(of / timedelta(minutes=1))
    return counted(minutes, "minute") if minutes < 120 else counted(minutes // 60, "hour")


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
