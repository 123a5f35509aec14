"""What people want of the stream, and waiting until it has done so."""

from __future__ import annotations

import pytest
from pymongo.database import Database
from support.environment import setting
from support.places import Place

from serving import control, ledger
from serving.control import NotDone
from serving.database import Document

pytestmark = pytest.mark.servers


def test_a_pause_is_of_whoever_came_first(database: Database[Document]) -> None:
    assert control.read(database) == (0, None, None)
    generation = control.tell(database, "pause", "Kafka moves", "ann", drain=True)
    now = control.read(database)
    assert now.pause is not None
    assert (now.pause.by, now.pause.reason, now.pause.drain) == ("ann", "Kafka moves", True)
    assert control.in_words(now) == f"paused by ann since {now.pause.since:%Y-%m-%d %H:%M:%S} UTC: Kafka moves"
    control.tell(database, "pause", "", "bob", drain=False)
    assert control.read(database) == now
    with pytest.raises(NotDone, match="has not come to its end, where it says that it is paused within 0 s"):
        control.wait(database, "pause", generation, 0)
    control.mark_stopped(database)
    control.wait(database, "pause", generation, 0)
    stopped_at = control.read(database).stopped_at
    control.mark_stopped(database)
    assert control.read(database).stopped_at == stopped_at


def test_a_stream_that_runs_is_not_said_to_have_stopped(database: Database[Document]) -> None:
    control.mark_stopped(database)
    assert control.read(database).stopped_at is None
    with pytest.raises(NotDone, match="resumed meanwhile"):
        control.wait(database, "pause", 0, 60)


def test_a_new_start_is_one_of_a_higher_generation(database: Database[Document]) -> None:
    ledger.start_generation(database, "rules", {})
    before = control.tell(database, "restart", "", "ann", drain=True)
    assert control.read(database).restarts == 1
    with pytest.raises(NotDone, match="no stream has started within 0 s"):
        control.wait(database, "restart", before, 0)
    ledger.start_generation(database, "rules", {})
    control.wait(database, "restart", before, 0)


def test_who_resumes_one_that_has_not_stopped_waits_for_nothing(database: Database[Document]) -> None:
    ledger.start_generation(database, "rules", {})
    control.wait(database, "resume", control.tell(database, "resume", "", "ann", drain=True), 0)
    control.pause(database, "ann")
    control.wait(database, "resume", control.tell(database, "resume", "", "ann", drain=True), 0)
    control.pause(database, "ann")
    control.mark_stopped(database)
    before = control.tell(database, "resume", "", "ann", drain=True)
    with pytest.raises(NotDone, match="no stream has started"):
        control.wait(database, "resume", before, 0)
    assert control.read(database) == (0, None, None)


def test_the_command(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    database = place.database
    assert control.main(["pause", "--reason", "lunch", "--at-once"]) == 0
    assert capsys.readouterr().out.endswith("UTC: lunch\n")
    pause = control.read(database).pause
    assert pause is not None
    assert not pause.drain
    assert control.main(["resume"]) == control.main(["restart"]) == control.main(["show"]) == 0
    assert capsys.readouterr().out == "the stream is wanted to run\n" * 3
    assert control.read(database).restarts == 1
    with setting(database="not_prepared"):
        assert control.main(["pause"]) == 1
    assert "run `python -m serving.schema` first" in capsys.readouterr().err
