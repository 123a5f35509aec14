"""What people want of the stream, and waiting until it has done so."""

from __future__ import annotations

import pytest
from pymongo.database import Database
from support.environment import setting
from support.places import Place
from support.wording import Wording

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import control, ledger
from tidemark.serving.control import Control, NotDone, NotHeld
from tidemark.serving.database import Document, in_transaction

pytestmark = pytest.mark.servers

M1, M2 = (TideMark({TopicPartition("products", 0): end}) for end in (10, 20))


def test_an_existing_pause_stays_unchanged(database: Database[Document], wording: Wording) -> None:
    assert control.read(database) == Control(0)
    generation = control.request(database, "pause", "Kafka moves", "ann", drain=True)
    now = control.read(database)
    assert now.pause is not None
    assert (now.pause.by, now.pause.reason, now.pause.drain) == ("ann", "Kafka moves", True)
    wording.check(control.describe(now), "paused", since=f"{now.pause.since:%Y-%m-%d %H:%M:%S}")
    control.request(database, "pause", "", "bob", drain=False)
    assert control.read(database) == now
    with pytest.raises(NotDone) as waited:
        control.wait(database, "pause", generation, 0)
    wording.check(str(waited.value), "not stopped")
    control.mark_stopped(database)
    control.wait(database, "pause", generation, 0)
    stopped_at = control.read(database).stopped_at
    control.mark_stopped(database)
    assert control.read(database).stopped_at == stopped_at


def test_a_running_stream_is_not_marked_as_stopped(database: Database[Document], wording: Wording) -> None:
    control.mark_stopped(database)
    assert control.read(database).stopped_at is None
    with pytest.raises(NotDone) as waited:
        control.wait(database, "pause", 0, 60)
    wording.check(str(waited.value))


def test_a_restart_is_done_when_a_higher_generation_has_started(database: Database[Document], wording: Wording) -> None:
    ledger.start_generation(database, "rules", {})
    before = control.request(database, "restart", "", "ann", drain=True)
    assert control.read(database).restarts == 1
    with pytest.raises(NotDone) as waited:
        control.wait(database, "restart", before, 0)
    wording.check(str(waited.value))
    ledger.start_generation(database, "rules", {})
    control.wait(database, "restart", before, 0)


def test_resuming_a_stream_that_has_not_stopped_does_not_wait(database: Database[Document]) -> None:
    ledger.start_generation(database, "rules", {})
    control.wait(database, "resume", control.request(database, "resume", "", "ann", drain=True), 0)
    control.pause(database, "ann")
    control.wait(database, "resume", control.request(database, "resume", "", "ann", drain=True), 0)
    control.pause(database, "ann")
    control.mark_stopped(database)
    before = control.request(database, "resume", "", "ann", drain=True)
    assert control.read(database) == Control(0), "no pause keeps it from starting"
    with pytest.raises(NotDone):
        control.wait(database, "resume", before, 0)
    assert control.read(database) == Control(0)


def hold(database: Database[Document], mark: TideMark, new_cells: int) -> None:
    in_transaction(database, lambda session: control.hold(database, session, "why", mark, new_cells))


def test_what_a_person_accepts_is_what_is_held(database: Database[Document], wording: Wording) -> None:
    ledger.start_generation(database, "rules", {})
    hold(database, M1, 31_204)
    now = control.read(database)
    assert (now.held, now.accepted, now.pause and (now.pause.by, now.pause.reason)) == (31_204, TideMark(), (control.STREAM, "why"))
    with pytest.raises(NotHeld) as refused:
        control.resume(database, 31_203)
    wording.check(str(refused.value), "another number")
    assert control.read(database) == now
    control.request(database, "resume", "", "ann", drain=True, accept=31_204)
    assert control.read(database) == Control(0, accepted=M1)
    with pytest.raises(NotHeld) as refused:
        control.resume(database, 31_204)
    wording.check(str(refused.value), "not held")
    # Without acceptance it goes on as before.
    hold(database, M2, 7)
    control.resume(database)
    assert control.read(database) == Control(0, accepted=M1)


def test_a_hold_does_not_take_the_place_of_a_pause(database: Database[Document]) -> None:
    control.pause(database, "ann", "Kafka moves")
    before = control.read(database)
    hold(database, M1, 7)
    assert control.read(database) == before
    in_transaction(database, lambda session: control.lift_hold(database, session))
    assert control.read(database) == before, "nobody has resumed it"
    control.resume(database)
    hold(database, M1, 7)
    in_transaction(database, lambda session: control.lift_hold(database, session))
    assert control.read(database) == Control(0)


def test_the_command_line(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    database = place.database
    assert control.main(["pause", "--reason", "lunch", "--at-once"]) == 0
    pause = control.read(database).pause
    assert pause is not None
    assert (pause.by, pause.reason, pause.drain) == ("ann", "lunch", False)
    wording.check(capsys.readouterr().out, "paused", since=f"{pause.since:%Y-%m-%d %H:%M:%S}")
    assert control.main(["resume"]) == control.main(["restart"]) == control.main(["show"]) == 0
    wording.check(capsys.readouterr().out, "three times that it is to run")
    assert control.read(database).restarts == 1
    hold(database, M1, 7)
    assert control.main(["resume", "--accept", "8"]) == 1
    wording.check(capsys.readouterr().err, "not what is held")
    assert control.main(["resume", "--accept", "7"]) == 0
    assert control.read(database).accepted == M1
    capsys.readouterr()
    with setting(database="not_prepared"):
        assert control.main(["pause"]) == 1
    wording.check(capsys.readouterr().err, "not prepared")
