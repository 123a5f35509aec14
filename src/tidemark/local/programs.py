"""The programs of the local stack, as data: the command, prerequisites and environment of each."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import sys
import sysconfig
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemark.ingest.connections import environment as connections
from tidemark.local import health
from tidemark.local.accounts import ADMINISTRATOR, VIEWER, airflow_passwords, superset_passwords
from tidemark.local.health import Health
from tidemark.local.kept_secrets import kept, write
from tidemark.local.processes import marks
from tidemark.settings import CHECKOUT, Settings, java
from tidemark.settings.hosts import trusted_hosts

PYTHON = sys.executable
SUPERSET = CHECKOUT / "superset"  # on the PYTHONPATH of Superset's environment
_FAB_CONFIGURATION = CHECKOUT / "plugins" / "tidemark" / "plugins" / "webserver_config.py"


@dataclass(frozen=True)
class Program:
    """A supervised process. `before` runs each time before the command; `needs` must be healthy first."""

    name: str
    command: Callable[[Settings], list[str]]
    needs: tuple[Callable[[Settings], Health], ...] = ()
    before: tuple[Callable[[Settings], list[str]], ...] = ()
    environment: Callable[[Settings], dict[str, str]] = lambda _: {}
    once: bool = False  # it exits when it is done
    with_children: bool = False  # stop signals go to its children as well
    stop_seconds: int = 30


def module(*words: str) -> Callable[[Settings], list[str]]:
    """The command of a Python module that reads the settings itself."""
    return lambda _: [PYTHON, "-m", *words]


def base_environment(home: Path) -> dict[str, str]:
    """The environment of every program: this process's, the absolute home, and the stack's mark."""
    return {**os.environ, "TIDEMARK_HOME": str(home.resolve()), "PYTHONUNBUFFERED": "1", **marks(home)}


def kafka_properties(of: Settings) -> str:
    """A broker that is its own KRaft controller; the controller listens on the loopback interface."""
    properties: Mapping[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{of.kafka_controller_port}",
        "listeners": f"PLAINTEXT://{of.kafka_host}:{of.kafka_port},CONTROLLER://127.0.0.1:{of.kafka_controller_port}",
        "advertised.listeners": f"PLAINTEXT://{of.kafka_advertised_address}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": of.home / "kafka" / "log",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _kafka_java(of: Settings, heap: str, *arguments: str) -> list[str]:
    jars = of.jars / "kafka" / "*"
    logging = Path(__file__).with_name("kafka-log4j2.yaml")
    return [java(), f"-Xmx{heap}", f"-Dlog4j2.configurationFile={logging}", "-cp", str(jars), *arguments]


def _kafka(of: Settings) -> list[str]:
    return _kafka_java(of, "768m", "kafka.Kafka", str(of.home / "kafka" / "server.properties"))


def _format_kafka(of: Settings) -> list[str]:
    """Writes the configuration. Returns the command that formats the folder, the first time."""
    properties = of.home / "kafka" / "server.properties"
    properties.parent.mkdir(parents=True, exist_ok=True)
    properties.write_text(kafka_properties(of))
    if (of.home / "kafka" / "log" / "meta.properties").exists():
        return []
    identity = f"T{secrets.token_urlsafe(16)[1:]}"  # Kafka's UUID format; a leading dash would be read as an option
    return _kafka_java(of, "256m", "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(properties))


def mongod() -> Path:
    """The MongoDB server, which is installed with a Python package."""
    return Path(sysconfig.get_path("purelib")) / "fiftyone" / "db" / "bin" / "mongod"


def _mongodb(of: Settings) -> list[str]:
    folder = of.home / "mongodb"
    folder.mkdir(parents=True, exist_ok=True)
    return [
        str(mongod()),
        *("--dbpath", str(folder), "--port", str(of.mongodb_port), "--bind_ip", "127.0.0.1", "--nounixsocket"),
        *("--replSet", "tidemark", "--wiredTigerCacheSizeGB", str(of.mongodb_cache_gb), "--quiet"),
    ]


def airflow_environment(of: Settings) -> dict[str, str]:
    """Airflow's settings."""
    folder = of.home / "airflow"
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(of.airflow_parallelism),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{of.airflow_api}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": of.airflow_database,
        "AIRFLOW__API__HOST": of.airflow_host,
        "AIRFLOW__API__PORT": str(of.airflow_port),
        "AIRFLOW__API__BASE_URL": of.airflow_pages,
        "AIRFLOW__API__WORKERS": "1",
        "FORWARDED_ALLOW_IPS": of.airflow_trusted_proxies,  # uvicorn's
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__LOGGING__DAG_PROCESSOR_LOG_TARGET": "stdout",  # supervisor rotates it; its own files would grow without limit
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.task.operators.airflow.providers.mongo.sensors.mongo=WARNING",  # it logs each poke
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # a short run mostly waits for the scheduler's next loop
        # Killed tasks and the queue of a killed scheduler are retried after one minute, not five. A task survives a restart of the API
        # server.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "10",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # This Airflow runs no other DAGs.
        "TIDEMARK_CLEAN_AIRFLOW": "true",
        "TIDEMARK_GUARD_AIRFLOW": "true",
        "SPT_NOENV": "1",  # process titles must not hide the environment, by which leftover processes are found
        **_airflow_secrets(folder, of.airflow_secret_key.get_secret_value()),
        **(_logins_by_provider(of) if of.login_is_by_provider else _one_account(of)),
        **connections(of),
    }


def _one_account(of: Settings) -> dict[str, str]:
    """One administrator account; its password is written to a file that Airflow reads."""
    passwords = write(of.home / "airflow" / ".passwords", json.dumps(airflow_passwords(of)))
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMINISTRATOR}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


def _logins_by_provider(of: Settings) -> dict[str, str]:
    """Airflow's FAB auth manager. Programs log in with the administrator's password, which its configuration reads here."""
    return {
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__FAB__CONFIG_FILE": str(_FAB_CONFIGURATION),
        "AIRFLOW__FAB__SESSION_MAX_LIFETIME_MINUTES": str(of.login_hours * 60),
        "TIDEMARK_AIRFLOW_PASSWORD": airflow_passwords(of)[ADMINISTRATOR],
    }


def _airflow_secrets(folder: Path, key: str) -> dict[str, str]:
    """The secrets for signing and encryption. With a key, which processes on several machines share, all are derived from it."""
    if not key:
        return {
            "AIRFLOW__API__SECRET_KEY": kept(folder / ".api-secret"),
            "AIRFLOW__API_AUTH__JWT_SECRET": kept(folder / ".jwt-secret"),
        }
    names = ("AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY")
    return {name: urlsafe_b64encode(hmac.digest(key.encode(), name.encode(), "sha256")).decode() for name in names}


def airflow_command(*arguments: str) -> list[str]:
    return [str(Path(PYTHON).with_name("airflow")), *arguments]


def _airflow(name: str, *more: str, stop_seconds: int = 30) -> Program:
    """One of Airflow's processes that use its API."""
    return Program(
        f"airflow-{name}",
        lambda _: airflow_command(name, *more),
        needs=(health.airflow_api,),
        environment=airflow_environment,
        with_children=True,
        stop_seconds=stop_seconds,
    )


def superset_environment(of: Settings) -> dict[str, str]:
    """The variables for Superset, its preparation and the transfer of dashboards, which run in their own Python environment."""
    folder, passwords = (of.home / "superset").resolve(), superset_passwords(of)
    return {
        "PYTHONPATH": str(SUPERSET),
        "SCARF_ANALYTICS": "false",  # no usage statistics
        "SUPERSET_CONFIG_PATH": str(SUPERSET / "tidemark" / "superset" / "superset_config.py"),
        "FLASK_APP": "superset.app:create_app()",
        "SUPERSET_HOME": str(folder),
        "SUPERSET_SECRET_KEY": of.superset_secret_key.get_secret_value() or kept(folder / ".secret-key"),
        "SUPERSET_DATABASE_URL": of.superset_database_url or f"sqlite:///{folder / 'superset.db'}?timeout=60",
        "SUPERSET_CACHE_URL": of.superset_cache_url,
        "SUPERSET_LIVE_SECONDS": str(of.superset_live_seconds),
        "SUPERSET_QUERY_SECONDS": str(of.superset_query_seconds),
        "SUPERSET_WORKERS": str(of.superset_workers),
        "SUPERSET_PICTURES_FROM": of.superset_pictures_from,
        "SUPERSET_PASSWORD": passwords[ADMINISTRATOR],
        "SUPERSET_VIEWER_PASSWORD": passwords[VIEWER],
        "SUPERSET_ADDRESS": f"{of.superset_host}:{of.superset_port}",
        "SUPERSET_URL": of.superset_url,
        "SUPERSET_TRUSTED_HOSTS": ",".join(trusted_hosts(of, of.superset_host, of.superset_public_url)),
        "SUPERSET_MONGODB_URL": of.superset_mongodb_url or of.mongodb,
        "SUPERSET_MONGODB_DATABASE": of.database,
        "SUPERSET_PUBLIC_URL": of.superset_pages,
        "SUPERSET_LOGIN_ISSUER": of.login_issuer,
        "SUPERSET_LOGIN_CLIENT_ID": of.login_client_id,
        "SUPERSET_LOGIN_CLIENT_SECRET": of.login_client_secret.get_secret_value(),
        "SUPERSET_LOGIN_SCOPES": of.login_scopes,
        "SUPERSET_LOGIN_NAME_CLAIM": of.login_name_claim,
        "SUPERSET_LOGIN_GROUPS_CLAIM": of.login_groups_claim,
        "SUPERSET_LOGIN_ADMINS": of.login_admins,
        "SUPERSET_LOGIN_OPERATORS": of.login_operators,
        "SUPERSET_LOGIN_VIEWERS": of.login_viewers,
        "SUPERSET_LOGIN_HOURS": str(of.login_hours),
    }


def superset_command(program: str, *arguments: str) -> list[str]:
    """A program of Superset's environment."""
    return [str(Path(sys.prefix) / "superset" / "bin" / program), *arguments]


def _superset(_: Settings) -> list[str]:
    return superset_command("gunicorn", "--config", "python:tidemark.superset.web_server", "superset.app:create_app()")


def superset_module(name: str, *arguments: str) -> list[str]:
    """A module of tidemark.superset, in Superset's environment."""
    return superset_command("python", "-m", f"tidemark.superset.{name}", *arguments)


_SUPERSET = (health.mongodb, health.superset)


PROGRAMS: tuple[Program, ...] = (
    Program("kafka", _kafka, before=(_format_kafka,), stop_seconds=60),
    Program("mongodb", _mongodb, stop_seconds=60),
    Program("prepare", module("tidemark.local.prepare", "servers"), once=True),
    Program("watch", module("tidemark.ingest.watch"), needs=(health.kafka, health.mongodb)),
    Program("api", module("tidemark.ingest.api"), needs=(health.kafka,), stop_seconds=60),
    Program("speed", module("tidemark.spark.speed"), needs=(health.kafka, health.mongodb), stop_seconds=120),
    Program(
        "airflow-api",
        lambda of: airflow_command("api-server", *(["--proxy-headers"] if of.airflow_trusted_proxies else [])),
        before=(module("tidemark.local.prepare", "airflow"),),
        environment=airflow_environment,
        with_children=True,
    ),
    # It stops when its tasks have ended. Chunks finish within this time; tasks that wait for the stream are retried later.
    _airflow("scheduler", "--skip-serve-logs", stop_seconds=20),
    _airflow("dag-processor"),
    _airflow("triggerer", "--skip-serve-logs"),
    Program(
        "superset", _superset, before=(module("tidemark.local.prepare", "superset"),), environment=superset_environment, with_children=True
    ),
    Program("dashboards", lambda _: superset_module("transfer", "import"), needs=_SUPERSET, environment=superset_environment, once=True),
    Program("warm", lambda _: superset_module("warm"), needs=_SUPERSET, environment=superset_environment),
)


def managed_programs(of: Settings) -> tuple[Program, ...]:
    """The programs of this configuration, without servers that the user runs."""
    external = {"kafka": bool(of.kafka_bootstrap_servers), "mongodb": bool(of.mongodb_url)}
    return tuple(program for program in PROGRAMS if not external.get(program.name))
