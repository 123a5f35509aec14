"""Programs whose others are on other machines: what each is told, and that secrets guard what more than this machine reaches."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tidemark.local import cluster, programs
from tidemark.local.accounts import airflow_passwords, generated_passwords, superset_passwords
from tidemark.local.programs import airflow_environment


def test_kafkas_listener_and_advertised_address_follow_the_settings(configure) -> None:
    of = configure(kafka_host="0.0.0.0", kafka_advertised="kafka:9092")
    kafka = dict(line.split("=", 1) for line in programs.kafka_properties(of).splitlines())
    assert kafka["listeners"] == f"PLAINTEXT://0.0.0.0:{of.kafka_port},CONTROLLER://127.0.0.1:{of.kafka_controller_port}"
    assert kafka["advertised.listeners"] == "PLAINTEXT://kafka:9092"
    assert of.kafka == f"127.0.0.1:{of.kafka_port}"


def test_airflow_processes_on_several_machines_share_secrets(configure, tmp_path: Path) -> None:
    def secrets(home: str, key: str) -> dict[str, str]:
        of = configure(home=tmp_path / home, airflow_secret_key=key)
        return {name: value for name, value in airflow_environment(of).items() if "SECRET" in name or "FERNET" in name}

    one = secrets("one", "a" * 48)
    assert secrets("other", "a" * 48) == one
    assert len(set(one.values())) == len(one) == 3
    assert not set(one.values()) & set(secrets("one", "b" * 48).values())
    Fernet(one["AIRFLOW__CORE__FERNET_KEY"])


def test_a_password_protects_airflow(configure) -> None:
    def stored(**changed: str) -> str:
        environment = airflow_environment(configure(**changed))
        assert "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS" not in environment
        assert environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] == "admin:admin"
        file = Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        return str(json.loads(file.read_text())["admin"])

    assert stored(airflow_password="given") == "given"
    generated = stored()
    assert len(generated) == 16
    assert stored() == generated, "it is kept"


def test_programs_have_a_password_where_people_log_in_by_a_provider(configure) -> None:
    provider = {
        "login_issuer": "https://id.example.com",
        "login_client_id": "tidemark",
        "login_client_secret": "s",
        "login_admins": "admins",
    }
    of = configure(**provider)
    environment = airflow_environment(of)
    assert environment["AIRFLOW__CORE__AUTH_MANAGER"].endswith(".FabAuthManager")
    assert Path(environment["AIRFLOW__FAB__CONFIG_FILE"]).is_file()
    assert environment["TIDEMARK_AIRFLOW_PASSWORD"] == airflow_passwords(of)["admin"]
    assert not [name for name in environment if "SIMPLE_AUTH_MANAGER" in name]
    assert generated_passwords(of) == {"airflow": {}, "superset": {}}, "no page takes them"
    assert not [name for name in airflow_environment(configure()) if "FAB" in name or name == "AIRFLOW__CORE__AUTH_MANAGER"]


def test_only_generated_passwords_are_shown(configure) -> None:
    of = configure(superset_password="given")
    assert superset_passwords(of)["admin"] == "given"
    generated = generated_passwords(of)
    shown = {**generated["airflow"], **generated["superset"]}
    assert shown == {"admin": airflow_passwords(of)["admin"], "viewer": superset_passwords(of)["viewer"]}
    assert len({*shown.values()}) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in of.home.rglob(".password*")} == {0o600}


def test_airflow_processes_use_its_api_address_and_people_its_public_address(configure) -> None:
    of = configure(airflow_url="http://airflow-api:8080", airflow_public_url="https://airflow.shop.example")
    environment = airflow_environment(of)
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-api:8080/execution/"
    assert environment["AIRFLOW__API__BASE_URL"] == "https://airflow.shop.example"
    assert of.superset_pages == of.superset_url
    assert configure(superset_public_url="https://superset.shop.example").superset_pages == "https://superset.shop.example"


@pytest.mark.parametrize("host", ["spark-master", ""])
def test_spark_processes_advertise_the_configured_host(configure, host: str) -> None:
    of = configure(spark_master="spark://spark-master:7078", spark_host=host, spark_worker_cores=3, spark_worker_memory="5g")
    commands = {program.name: program.command(of) for program in cluster.PROGRAMS if program.name.startswith("spark")}
    for command in commands.values():
        assert ("--host" in command) == bool(host)
        assert not host or command[command.index("--host") + 1] == host
    master, worker = commands["spark-master"], commands["spark-worker"]
    assert master[master.index("--port") + 1] == "7078"
    assert worker[-1] == "spark://spark-master:7078"
    assert (worker[worker.index("--cores") + 1], worker[worker.index("--memory") + 1]) == ("3", "5g")


def test_batch_jobs_can_have_a_separate_account(configure) -> None:
    of = configure(mongodb_url="mongodb://ingest:a@mongodb.example/")
    assert of.batch_mongodb == of.mongodb
    of = configure(mongodb_url="mongodb://ingest:a@mongodb.example/", batch_mongodb_url="mongodb://batch:b@mongodb.example/")
    assert of.batch_mongodb == "mongodb://batch:b@mongodb.example/"
