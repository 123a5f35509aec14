"""`python -m tidemark.local` and `make`, as somebody types them, while nothing runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.environment import variables
from support.wording import Wording

from tidemark.local import __main__ as commands
from tidemark.local import health, prerequisites, stack
from tidemark.settings import CHECKOUT, Settings, java

TARGETS = re.findall(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)[0].split()

RunCommand = Callable[..., tuple[int, str]]


@pytest.fixture
def run_command(configured: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Runs a command and returns its exit status and what it has printed."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["local", *words])
        status = commands.main()
        return status, capsys.readouterr().out

    return run


def _make(*words: str) -> str:
    done = subprocess.run(["make", *words, f"VENV={sys.prefix}"], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_lists_every_target() -> None:
    lines = dict(line.split(maxsplit=2)[1:] for line in _make("help").splitlines() if line.startswith("  make "))
    assert {"run", "status", "stop", "logs", "test", "bench", "clean", "help"} <= {*TARGETS}
    assert set(lines) == set(TARGETS)
    assert all(len(text) > 5 for text in lines.values())


def test_make_without_a_target_shows_help() -> None:
    assert _make() == _make("help")


def test_make_run_passes_file_names_with_spaces() -> None:
    output = _make("-n", "run", "PRODUCTS=a b.csv,c.csv", "OBSERVED_AT=2024-01-01")
    assert '--products "a b.csv,c.csv" --categories "" --observed-at "2024-01-01"' in output


def test_arguments_of_run() -> None:
    given = commands._arguments(["run"])
    assert (given.products, given.categories, given.observed_at, given.rows, given.days) == (None, None, None, 20_000, 3)
    given = commands._arguments(["run", "--products", "a.csv, b.csv,", "--observed-at", "", "--rows", "7", "--days", "1"])
    assert commands._list(given.products) == ["a.csv", "b.csv"]
    assert commands._list(given.observed_at) == []
    assert (given.rows, given.days) == (7, 1)
    given = commands._arguments(["dry-run", "--products", "a.csv", "--columns", "price=Price, title = Name"])
    assert (given.act, given.columns) == (commands.dry_run, {"price": "Price", "title": "Name"})


@pytest.mark.parametrize("columns", ["prize=Price", "price"])
def test_invalid_columns_are_refused(capsys: pytest.CaptureFixture[str], wording: Wording, columns: str) -> None:
    with pytest.raises(SystemExit):
        commands._arguments(["run", "--columns", columns])
    wording.check(_error(capsys))


@pytest.mark.parametrize("words", [["run", "--rows", "0"], ["run", "--days", "-1"], ["run", "--rows", "many"]], ids=" ".join)
def test_counts_are_at_least_one(words: list[str], capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    with pytest.raises(SystemExit):
        commands._arguments(words)
    wording.check(_error(capsys))


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    """What is wrong, without the usage, which is as wide as the terminal."""
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("words", [[], ["nonsense"], ["status", "--xml"]])
def test_an_unknown_command_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        commands._arguments(words)


def test_an_invalid_setting_is_named(run_command: RunCommand) -> None:
    with variables(kafka_port="http"):
        status, text = run_command("status")
    assert status == 1
    assert text.startswith("TIDEMARK_KAFKA_PORT=http: ")


def test_status_of_a_stopped_stack(run_command: RunCommand, wording: Wording) -> None:
    status, text = run_command("status")
    assert status == 1
    wording.check(text)


def test_status_wraps_long_texts_beside_their_names(capsys: pytest.CaptureFixture[str], wording: Wording) -> None:
    texts = {"speed": "fatal Exited too quickly", "alerts": "The quarantine has 12 open records. [mail] has failed 3 times since 12:00 UTC"}
    Console(width=60).print(commands._name_table(texts))
    wording.check("\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()))


def test_status_as_json_of_a_stopped_stack(run_command: RunCommand) -> None:
    status, text = run_command("status", "--json")
    output = json.loads(text)
    assert status == 1
    assert list(output) == ["kafka", "mongodb", "airflow", "api", "speed", "superset", "state"]
    assert output.pop("state") is None
    assert [len(output[name]["accounts"]) for name in ("airflow", "superset")] == [1, 2]
    for one in output.values():
        assert one["healthy"] is False
        assert one["url"]
        assert one["detail"]


def test_passwords_are_not_shown(configure) -> None:
    of = configure(mongodb_url="mongodb://somebody:secret@one.example,two.example/?replicaSet=theirs")
    assert health.ADDRESSES["mongodb"](of) == "mongodb://...@one.example,two.example/?replicaSet=theirs"


def test_stopping_twice(run_command: RunCommand, wording: Wording) -> None:
    status, text = run_command("stop")
    assert status == 0
    wording.check(text)
    assert run_command("stop") == (status, text)


def test_a_failed_start_says_why_and_leaves_nothing(
    run_command: RunCommand, configured: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    status, text = run_command("start")
    assert status == 1
    assert text.splitlines() == prerequisites.problems(configured)
    assert text.startswith(f"{java()} ")
    assert not configured.home.exists()


def test_clean_deletes_only_what_the_stack_created(run_command: RunCommand, configured: Settings) -> None:
    of = configured
    for name in ("airflow", "kafka/log", "mongodb", "logs", "speed", "catalogs", "run", "mine"):
        (of.home / name).mkdir(parents=True)
    for name in ("supervisor.conf", "supervisor.pid", "mine.txt", "mongodb/data"):
        (of.home / name).touch()
    status, _ = run_command("clean")
    assert status == 0
    assert sorted(path.name for path in of.home.iterdir()) == ["mine", "mine.txt"]


@pytest.fixture
def folder(configured: Settings) -> Path:
    """Where the logs are."""
    found = stack.log_folder(configured.home)
    found.mkdir(parents=True)
    return found


def test_logs_without_log_files(run_command: RunCommand, wording: Wording) -> None:
    status, text = run_command("logs")
    assert status == 1
    wording.check(" ".join(text.split()))  # a long folder's name goes to a line of its own


def test_logs_show_the_newest_complete_lines(run_command: RunCommand, folder: Path, wording: Wording) -> None:
    (folder / "kafka.log").write_text("".join(f"line {number}\n" for number in range(10_000)))
    (folder / "speed.log").write_text("one line\n")
    status, text = run_command("logs")
    lines = text.splitlines()
    assert status == 0
    assert lines[-2:] == [f"{'kafka':>22} | line 9999", f"{'speed':>22} | one line"]
    assert re.fullmatch(r" +kafka \| line \d{4}", lines[0])
    assert run_command("logs", "speed") == (0, f"{'speed':>22} | one line\n")
    status, text = run_command("logs", "flink")
    assert status == 1
    wording.check(text)


def test_logs_are_followed_across_rotation(folder: Path) -> None:
    log = folder / "speed.log"
    log.write_text("first\n")
    command = [sys.executable, "-m", "tidemark.local", "logs", "--follow"]
    with subprocess.Popen(
        command, cwd=CHECKOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    ) as following:
        try:
            assert following.stdout is not None
            assert following.stdout.readline().endswith("| first\n")
            with log.open("a") as file:
                file.write("last of the old\n")
            log.rename(log.with_suffix(".log.1"))
            log.write_text("first of the new\n")
            assert following.stdout.readline().endswith("| last of the old\n")
            assert following.stdout.readline().endswith("| first of the new\n")
            (folder / "watch.log").write_text("a new one\n")
            assert following.stdout.readline() == f"{'watch':>22} | a new one\n"
        finally:
            following.kill()


def test_a_closed_pipe_ends_following_logs_without_a_traceback(folder: Path) -> None:
    (folder / "kafka.log").write_text("".join(f"line {number}\n" for number in range(400)))
    command = [sys.executable, "-m", "tidemark.local", "logs", "--follow"]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        following.stdout.readline()
        following.stdout.close()
        until = time.monotonic() + 60
        while following.poll() is None and time.monotonic() < until:
            with (folder / "kafka.log").open("a") as file:
                file.write("more\n" * 100)
            time.sleep(0.2)
        following.kill()
        assert "Traceback" not in following.stderr.read()
        assert following.returncode == 1
