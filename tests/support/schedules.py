"""Random schedules of the protocol's model: streams are killed, stalled and woken beside their successors, attempts of a task die or go on
beside their retry, batch runs die or run side by side, rebuilds to any publication start at any time, files are withdrawn, events come late
and in two partitions. With disasters the log loses its tail or is replaced, retention overtakes the stream, the raw history is lost, the
database is restored from a backup or begins anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from copy import deepcopy
from enum import StrEnum
from random import Random

from support.protocol import (
    CATEGORIES,
    CELLS,
    KEYS,
    NAMES,
    PARTITIONS,
    Broken,
    Event,
    Fenced,
    NameEvent,
    Refused,
    Rule,
    Steps,
    System,
    added,
)

STEPS = 500
EVENTS_OF_A_FILE = 15  # steps in which they come
SHARE_OF_NAMES = 0.1  # of events
LAST_EVENT = 400  # no event comes after this step
LAST_DISASTER = 430
MOST_STEPS_TO_REST = 10_000
MOST_RUNS_TO_REST = 60


class World(StrEnum):
    """What may happen beside crashes."""

    CALM = "nothing"
    RULES = "files are withdrawn"
    DISASTERS = "files are withdrawn, and log, raw history and database are lost"


def simulate(seed: int, world: World = World.CALM, broken: Rule | None = None) -> Counter[str]:
    """One random schedule, then rest, then a corruption that the next batch run must heal. Raises Broken; returns what happened."""
    system = System(Random(seed), broken)
    runs = _schedule(system, world)
    _rest(system, runs)
    _heal(system)
    return system.happened


def _goes_on(system: System, actor: Steps) -> bool:
    """One step of somebody; False where it has ended."""
    try:
        next(actor)
    except StopIteration:
        return False
    except Fenced:
        system.happened["fenced"] += 1
        return False
    except Refused:
        system.happened["refused"] += 1
        return False
    return True


def _schedule(system: System, world: World) -> list[Steps]:
    """Streams, batch runs and rebuilds in any order; returns the batch runs that have not ended."""
    random = system.random
    live: Steps | None = None
    stalled: list[Steps] = []
    runs: list[Steps] = []
    backups, copies = [deepcopy(system.database)], [deepcopy(system.lake)]
    older: list[Callable[[], None]] = [
        lambda: system.restore(random.choice(backups)),
        lambda: system.replace_lake(random.choice(copies)),
    ]
    losses = random.choices([*(system.lose_tail,) * 3, system.replace_log, system.remove_old, system.lose_lake, *older], k=3)
    for step in range(STEPS):
        if step < LAST_EVENT and random.random() < 0.35:
            _one_event(system, step)
        if world is not World.CALM and random.random() < 0.01:
            system.withdraw(max(0, step // EVENTS_OF_A_FILE - random.choice((0, 0, 1, 5))))
        if world is World.DISASTERS and step < LAST_DISASTER:
            if random.random() < 0.01:
                backups.append(deepcopy(system.database))
                copies.append(deepcopy(system.lake))
            if random.random() < 0.015:
                random.choice(losses)()
                system.happened["disasters"] += 1
                for _ in range(random.choice((0, 0, 3, 10))):  # producers go on at once
                    _one_event(system, step)
            if random.random() < 0.01:
                runs.append(system.adopt())
        if live is None and random.random() < 0.2:
            live = system.stream()
        match random.random():
            case chance if chance < 0.02 and live:
                live = None
                system.happened["kills"] += 1
            case chance if chance < 0.04 and live:
                stalled.append(live)
                live = None
                system.happened["stalls"] += 1
            case chance if chance < 0.055:
                runs.append(system.nightly())
            case chance if chance < 0.075:
                runs.append(system.rebuild(min(random.choices(range(len(system.database.publications)), k=2))))
            case chance if chance < 0.09 and runs:
                runs.remove(random.choice(runs))
            case chance if chance < 0.17 and (stalled or system.strays):
                woken = random.choice([*stalled, *system.strays])
                if not _goes_on(system, woken):
                    (stalled if woken in stalled else system.strays).remove(woken)
            case chance if chance < 0.45 and runs:
                run = random.choice(runs)
                if not _goes_on(system, run):
                    runs.remove(run)
            case _ if live and not _goes_on(system, live):
                live = None
        system.check()
    return runs


def _one_event(system: System, step: int) -> None:
    """One product event, mostly in its key's partition, or the name of a category. Both are sometimes late."""
    random = system.random
    file = step // EVENTS_OF_A_FILE
    if random.random() < SHARE_OF_NAMES:
        registered_at = step - random.choice((0, 0, 0, 40))
        name = NameEvent(next(system.numbers), random.randrange(CATEGORIES), registered_at, random.randrange(NAMES), file)
        system.log.events[random.randrange(PARTITIONS)].append(name)
        return
    key = random.randrange(KEYS)
    partition = key % PARTITIONS if random.random() < 0.9 else random.randrange(PARTITIONS)
    observed_at = step - random.choice((0, 0, 0, 40))
    system.log.events[partition].append(Event(next(system.numbers), key, observed_at, random.randrange(CELLS), file))


def _rest(system: System, runs: Iterable[Steps]) -> None:
    """What runs ends, the stream serves all there is, one nightly run follows, and the stream goes on."""
    for run in (*runs, *system.strays):
        while _goes_on(system, run):
            system.check()
    _serve_all(system)
    _one_night(system)
    _serve_all(system)
    system.check_at_rest()


def _heal(system: System) -> None:
    """A product is lost or a cell is wrong: one nightly run finds and mends it, and the stream goes on from there."""
    random = system.random
    if system.database.documents and random.random() < 0.5:
        del system.database.documents[random.choice(sorted(system.database.documents))]
    else:
        system.database.cube = added(system.database.cube, Counter([random.randrange(CELLS)]))
    _one_night(system)
    _serve_all(system)
    system.check()
    system.check_at_rest()


def _one_night(system: System) -> None:
    """A nightly run that gets to its end. A person adopts where it is refused; where it is fenced, the stream has to start first."""
    for _ in range(MOST_RUNS_TO_REST):
        try:
            for _ in system.nightly():
                pass
        except Refused:
            _adopt(system)
        except Fenced:
            _go_on_for_a_while(system.stream())
        else:
            return
    raise Broken(f"no nightly run gets to its end: {system.ledger}")


def _adopt(system: System) -> None:
    try:
        for _ in system.adopt():
            pass
    except Fenced:
        pass


def _go_on_for_a_while(stream: Steps) -> None:
    try:
        for _ in range(20):
            next(stream)
    except (Fenced, Refused, StopIteration):
        pass


def _serve_all(system: System) -> None:
    """The stream serves the log to its end. Where it is refused, a person adopts; a rebuild that was left is finished by a night."""
    for _ in range(MOST_RUNS_TO_REST):
        stream = system.stream()
        try:
            for _ in range(MOST_STEPS_TO_REST):
                next(stream)
                ends = [system.ledger.binding.of_log(len(events)) for events in system.log.events]
                if (
                    list(system.ledger.offsets) == ends
                    and system.ledger.rebuilding is None
                    and system.log.identity == system.ledger.binding.topic
                ):
                    return
        except Refused:
            _adopt(system)
        except (Fenced, StopIteration):
            if system.ledger.rebuilding is not None:
                _one_night(system)
    raise Broken(f"the stream does not reach the log's end: {system.ledger}")
