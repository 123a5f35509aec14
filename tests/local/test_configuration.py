"""What the stack would run, without running it: where everything lies, who is started, what supervisor is told."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from supervisor.datatypes import RestartUnconditionally
from supervisor.options import ServerOptions
from support.servers import free_ports

from tidemark.local import programs, stack
from tidemark.local.prepare import POOLS
from tidemark.local.programs import PROGRAMS, airflow_environment, base_environment, managed_programs, marks
from tidemark.settings.airflow_names import Pool

NAMES = [program.name for program in PROGRAMS]


def read_by_supervisor(text: str, folder: Path) -> ServerOptions:
    """The configuration as supervisor itself understands it."""
    file = folder / "supervisor.conf"
    file.write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(file)])
    return options


def prepare_home(of) -> None:
    """Supervisor asks for the folders that it is told to write to."""
    (of.home / "logs").mkdir(parents=True, exist_ok=True)


def processes_of(options: ServerOptions) -> dict[str, object]:
    return {process.name: process for group in options.process_group_configs for process in group.process_configs}


def test_every_program_is_started_and_restarted(configure, tmp_path: Path) -> None:
    of = configure()
    prepare_home(of)
    found = processes_of(read_by_supervisor(stack.configuration(of), tmp_path))
    assert sorted(found) == sorted(NAMES)
    assert all(process.autostart for process in found.values())
    assert {name for name, process in found.items() if process.autorestart is not RestartUnconditionally} == {"prepare", "dashboards"}


def test_logs_rotate(configure, tmp_path: Path) -> None:
    of = configure()
    prepare_home(of)
    options = read_by_supervisor(stack.configuration(of), tmp_path)
    for log in (options, *processes_of(options).values()):
        size, backups = ("logfile_maxbytes", "logfile_backups") if log is options else ("stdout_logfile_maxbytes", "stdout_logfile_backups")
        assert 0 < getattr(log, size) <= 100 * 2**20
        assert 0 < getattr(log, backups) <= 10
    assert all(process.redirect_stderr for process in processes_of(options).values())


@pytest.mark.parametrize("name", ["plain", "with spaces in it", "100%", "50%s", "ümlaut"])
def test_supervisor_accepts_any_home_path(configure, tmp_path: Path, name: str) -> None:
    of = configure(home=tmp_path / name)
    prepare_home(of)
    options = read_by_supervisor(stack.configuration(of), tmp_path)
    assert options.logfile == str(of.home / "logs" / "supervisor.log")
    for program, process in processes_of(options).items():
        assert process.stdout_logfile == str(of.home / "logs" / f"{program}.log")


def test_supervisor_accepts_any_checkout_path(configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = configure()
    prepare_home(of)
    monkeypatch.setattr("sys.executable", "/opt/my tools/100%/bin/python")
    found = processes_of(read_by_supervisor(stack.configuration(of), tmp_path))
    assert found["kafka"].command == "'/opt/my tools/100%/bin/python' -m tidemark.local.launch kafka"


def test_external_servers_are_not_started(configure) -> None:
    of = configure(kafka_bootstrap_servers="kafka.example:9092")
    assert [program.name for program in managed_programs(of)] == [name for name in NAMES if name != "kafka"]
    of = configure(mongodb_url="mongodb://mongodb.example/?replicaSet=theirs")
    assert [program.name for program in managed_programs(of)] == [name for name in NAMES if name != "mongodb"]
    of = configure(kafka_bootstrap_servers="kafka.example:9092", mongodb_url="mongodb://mongodb.example/?replicaSet=theirs")
    assert "program:mongodb" not in stack.configuration(of)
    assert "program:kafka" not in stack.configuration(of)


def test_external_servers_are_used(configure) -> None:
    of = configure(
        kafka_bootstrap_servers="one.example:9092,two.example:9092",
        mongodb_url="mongodb://us%40er:pass%2Fword@one.example:1,two.example:2/?replicaSet=theirs",
        airflow_database_url="postgresql+psycopg2://airflow@database.example/airflow",
    )
    environment = airflow_environment(of)
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql+psycopg2://airflow@database.example/airflow"
    assert '"bootstrap.servers": "one.example:9092,two.example:9092"' in environment["AIRFLOW_CONN_TIDEMARK_KAFKA"]
    assert '"host": "one.example:1,two.example"' in environment["AIRFLOW_CONN_TIDEMARK_MONGODB"]
    assert '"password": "pass/word"' in environment["AIRFLOW_CONN_TIDEMARK_MONGODB"]


def test_everything_is_stored_in_the_home_and_listens_on_loopback(configure) -> None:
    of = configure()
    kafka = dict(line.split("=", 1) for line in programs.kafka_properties(of).splitlines())
    assert kafka["listeners"] == f"PLAINTEXT://127.0.0.1:{of.kafka_port},CONTROLLER://127.0.0.1:{of.kafka_controller_port}"
    assert kafka["advertised.listeners"] == f"PLAINTEXT://127.0.0.1:{of.kafka_port}"
    assert Path(kafka["log.dirs"]).is_relative_to(of.home)
    command = next(program for program in PROGRAMS if program.name == "mongodb").command(of)
    assert command[command.index("--port") + 1] == str(of.mongodb_port)
    assert command[command.index("--bind_ip") + 1] == "127.0.0.1"
    assert Path(command[command.index("--dbpath") + 1]).is_relative_to(of.home)
    airflow = airflow_environment(of)
    assert airflow["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert airflow["AIRFLOW__API__PORT"] == str(of.airflow_port)
    assert Path(airflow["AIRFLOW_HOME"]).is_relative_to(of.home)
    assert airflow["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{of.home}/airflow/airflow.db?timeout=60"


def test_two_homes_share_nothing(configure, tmp_path: Path) -> None:
    def everything(name: str) -> tuple[set[str], dict[str, str]]:
        of = configure(home=tmp_path / name, **dict(zip(("kafka_port", "mongodb_port", "airflow_port"), free_ports(3), strict=True)))
        prepare_home(of)
        own = read_by_supervisor(stack.configuration(of), tmp_path)
        places = {own.pidfile, own.logfile, own.server_configs[0]["file"], *(one.stdout_logfile for one in processes_of(own).values())}
        secrets = {key: value for key, value in airflow_environment(of).items() if "SECRET" in key}
        return {*places, *marks(of.home).values()}, secrets

    (places, secrets), (other_places, other_secrets) = everything("one"), everything("two")
    assert places.isdisjoint(other_places)
    assert len(secrets) == 2
    assert not {*secrets.values()} & {*other_secrets.values()}


def test_a_long_home_path_has_a_short_socket_path(configure, tmp_path: Path) -> None:
    def socket(name: str) -> str:
        of = configure(home=tmp_path / ("long" * 30) / name)
        prepare_home(of)
        return read_by_supervisor(stack.configuration(of), tmp_path).server_configs[0]["file"]

    assert len(socket("one").encode()) <= stack.LONGEST_SOCKET
    assert socket("one") == socket("one") != socket("two")


def test_secrets_are_created_once_and_readable_by_the_owner_only(configure) -> None:
    of = configure()
    first = airflow_environment(of)
    assert airflow_environment(of) == first
    for name in ("api-secret", "jwt-secret"):
        file = of.home / "airflow" / f".{name}"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert len(file.read_text()) >= 32


def test_programs_receive_an_absolute_home(configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert base_environment(configure(home="state").home)["TIDEMARK_HOME"] == str(tmp_path / "state")


def test_programs_start_after_their_dependencies() -> None:
    needs = {program.name: {need.__name__ for need in program.needs} for program in PROGRAMS}
    assert needs["speed"] == needs["watch"] == {"kafka", "mongodb"}
    assert all(needs[name] == {"airflow_api"} for name in NAMES if name.startswith("airflow-") and name != "airflow-api")


def test_pools_leave_workers_free(configure) -> None:
    """Who waits for the stream, and who waits for Spark, must not take the workers that produce chunks."""
    assert POOLS[Pool.SERVED]["slots"] + POOLS[Pool.SPARK]["slots"] < configure().airflow_parallelism


def test_airflow_detects_killed_tasks_within_a_minute(configure) -> None:
    environment = airflow_environment(configure())
    assert int(environment["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]) <= 60
    assert int(environment["AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL"]) <= 60
