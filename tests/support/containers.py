"""Services of docker-compose.yaml as processes of this machine: each with its own command and no environment but the file's.

Names of services become loopback and their ports free ones, a container's folders become folders of its own, and volumes folders that
several have. What an image of somebody else brings stands here: PostgreSQL's database is made, MongoDB's and Redis' programs are on
the PATH, and nginx has its module.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg2
from support import compose, proxies
from support.compose import Service
from support.servers import free_ports

from tidemark.local import processes
from tidemark.local.programs import mongod
from tidemark.settings import CHECKOUT

START_SECONDS = 900.0  # for all of a profile, side by side on a machine with other things to do
HEALTH_SECONDS = 60.0
STOP_SECONDS = 60.0
MARK = "TIDEMARK_TEST_CONTAINERS"

# What the machine is, and no service is told.
MACHINE = ("JAVA_HOME", "JAVA_TOOL_OPTIONS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Ports that only a container's own processes use, or people.
OWN_PORTS = {
    "kafka": ("TIDEMARK_KAFKA_CONTROLLER_PORT",),
    "speed": ("TIDEMARK_SPARK_UI_PORT",),
    "spark-master": ("TIDEMARK_SPARK_MASTER_UI_PORT",),
    "spark-workers": ("TIDEMARK_SPARK_WORKER_UI_PORT",),
}
SERVERS = ("kafka", "mongodb", "airflow-database", "superset-database", "superset-cache", "spark-master")


def missing_programs() -> list[str]:
    """Debian's packages that these tests need and this machine does not have."""
    there = {
        **{package: package not in proxies.missing_packages() for package in proxies.PACKAGES},
        "postgresql": bool(list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
        "redis-server": bool(shutil.which("redis-server")),
    }
    return [name for name, found in there.items() if not found]


@dataclass
class Container:
    service: Service
    number: int
    environment: dict[str, str]
    command: list[str]
    health: list[str]
    folder: Path  # its working folder
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        user = None
        if self.service.definition["image"].startswith("postgres"):
            self.command, user = _postgres(self.environment)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, user=user
            )

    def is_healthy(self) -> bool:
        try:
            done = subprocess.run(
                self.health, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=HEALTH_SECONDS
            )
        except subprocess.TimeoutExpired:
            return False
        with self.log.open("a") as log:
            log.write(f"health check: {done.returncode} {(done.stdout + done.stderr).strip()[-300:]}\n")
        return done.returncode == 0

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            # PostgreSQL would wait for its clients at SIGTERM; Docker sends what the image says, SIGINT.
            self.process.send_signal(signal.SIGINT if "postgres" in self.command[0] else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what a container holds ends with it
        self.process.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Containers:
    """The containers of a profile; `folder` holds all that they keep."""

    folder: Path
    profile: str
    variables: Mapping[str, str]
    running: dict[str, list[Container]] = field(default_factory=dict)
    _ports: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def logs_folder(self) -> Path:
        found = self.folder / "logs"
        found.mkdir(exist_ok=True)
        return found

    @property
    def services(self) -> dict[str, Service]:
        return compose.of_profile(self.profile, self.variables)

    def start(self, *only: str) -> None:
        """In the order of the file: each service when what it needs is healthy, or has ended well. Those named, and what they need."""
        services = self.services
        waiting = [name for name in (_with_needs(services, only) if only else services) if name not in self.running]
        until = time.monotonic() + START_SECONDS
        ready: set[str] = set()
        while waiting or any(name not in ready for name in self.running):
            for name in [name for name in waiting if services[name].needs.keys() <= ready]:
                waiting.remove(name)
                self.running[name] = [self._container(services[name], number) for number in range(_replicas(services[name]))]
                for one in self.running[name]:
                    one.start()
            checked = [(name, one) for name, those in self.running.items() if name not in ready for one in those]
            with ThreadPoolExecutor() as pool:
                found = list(pool.map(lambda one: self._is_ready(one[1]), checked))
            unready = {name for (name, _), is_ready in zip(checked, found, strict=True) if not is_ready}
            ready |= {name for name, _ in checked} - unready
            assert time.monotonic() < until, f"{sorted(self.running.keys() - ready)} are not healthy, {waiting} wait:{self.logs()}"
            time.sleep(0.2)

    def stop(self) -> None:
        """Servers last, which the others want in order to end well."""
        for last in (False, True):
            with ThreadPoolExecutor() as pool:
                list(pool.map(Container.stop, [one for name, those in self.running.items() if (name in SERVERS) is last for one in those]))
        self.running.clear()

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose run NAME WORDS` does, to its end."""
        service = compose.services(self.variables)[name]
        one = self._container(replace(service, definition={**service.definition, "command": list(words)}), 0)
        return subprocess.run(one.command, env=one.environment, cwd=one.folder, capture_output=True, text=True, timeout=START_SECONDS)

    def execute(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec NAME WORDS` does, to its end."""
        (one,) = self.running[name]
        return subprocess.run(words, env=one.environment, cwd=one.folder, capture_output=True, text=True, timeout=START_SECONDS)

    def empty(self, *volumes: str) -> None:
        """What was kept there is lost."""
        for name in volumes:
            shutil.rmtree(self.volume(name))

    @property
    def settings(self) -> dict[str, str]:
        """Of somebody who looks at the containers from outside, as MongoDB's and Airflow's admin."""
        password = self.variables["TIDEMARK_MONGODB_ADMIN_PASSWORD"]
        return {
            "home": str(self.folder),
            "kafka_bootstrap_servers": self.address("kafka", 9092),
            "mongodb_url": self.mongodb_url("admin", password),
            "airflow_url": f"http://{self.address('airflow-api', 8080)}",
            "airflow_password": self.variables["TIDEMARK_AIRFLOW_PASSWORD"],
        }

    def mongodb_url(self, account: str, password: str) -> str:
        return f"mongodb://{account}:{password}@{self.address('mongodb', 27017)}/?replicaSet=tidemark&authSource=admin"

    def address(self, service: str, port: int) -> str:
        """Where a service's port is on this machine."""
        return f"127.0.0.1:{self._port(service, str(port))}"

    def own_port(self, service: str, variable: str) -> str:
        """A port that one of the containers of a service uses for itself."""
        return self._port(f"{service}-0", variable)

    def volume(self, name: str) -> Path:
        found = self.folder / "volumes" / name
        found.mkdir(parents=True, exist_ok=True)
        return found

    def logs(self) -> str:
        """The end of each log, for whoever reads a failure."""
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(self.logs_folder.glob("*.log")))

    def _is_ready(self, one: Container) -> bool:
        assert one.process is not None
        status = one.process.poll()
        if one.service.ends:
            if status:
                one.start()  # as Docker does
            return status == 0
        assert status is None, f"{one.service.name} has ended with status {status}:\n{one.text()[-3000:]}"
        return one.is_healthy()

    def _container(self, service: Service, number: int) -> Container:
        folder = self.folder / "containers" / f"{service.name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        image = service.image
        inside = {**(image.environment if image else {}), **service.passed}
        paths = self._paths(service, folder)
        environment = {name: self._outside(service, name, value, paths) for name, value in inside.items()}
        path = environment.get("PATH", "$PATH").replace("$PATH", f"{mongod().parent}:{os.environ['PATH']}")
        own = {name: self._port(f"{service.name}-{number}", name) for name in OWN_PORTS.get(service.name, ())}
        machine = {name: os.environ[name] for name in MACHINE if name in os.environ}
        environment = {**machine, **environment, **own, "PATH": path, "HOME": str(folder), MARK: str(self.folder)}
        if service.name == "spark-workers":
            environment["TIDEMARK_SPARK_HOST"] = "127.0.0.1"  # a container's own address, by which Spark names it if nobody else does
        if service.definition["image"].startswith("postgres"):
            environment |= {"FOLDER": paths["/var/lib/postgresql/data"], "PORT": self._port(service.name, "5432")}
        if service.definition["image"].startswith("nginx"):
            environment |= {"PROXY_FOLDER": str(folder / "proxy"), "PROXY_DIRECTIVES": proxies.DIRECTIVES}
        return Container(
            service,
            number,
            environment,
            [self._outside(service, "", word, paths) for word in service.command],
            [self._outside(service, "", word, paths) for word in service.health],
            Path(self._outside(service, "", image.folder, paths)) if image else folder,
            self.logs_folder / f"{service.name}-{number}.log",
        )

    def _paths(self, service: Service, folder: Path) -> dict[str, str]:
        """By folder of the container the one here; volumes first, of which some lie within others."""
        found = {}
        for volume in service.volumes:
            if volume.source.startswith("."):
                here = self.volume(volume.source) if volume.source != "./containers" else CHECKOUT / volume.source
            else:
                here = self.volume(volume.source)
            found[volume.target] = str(here)
            home = "/var/lib/tidemark/"
            if volume.target.startswith(home) and not (link := folder / volume.target.removeprefix(home)).exists():
                link.symlink_to(here)
        return {**found, "/opt/tidemark/.venv": sys.prefix, "/opt/tidemark": str(CHECKOUT), "/var/lib/tidemark": str(folder),
                "/var/lib/superset": str(folder)}  # fmt: skip

    def _outside(self, service: Service, name: str, value: str, paths: Mapping[str, str]) -> str:
        """What a value is where there are no containers."""
        names = {one.name: one for one in self.services.values()}
        if (value in names and name.endswith("_HOST")) or name.endswith("_TRUSTED_PROXIES"):
            return "127.0.0.1"
        owner = str(service.definition.get("network_mode", f"service:{service.name}")).removeprefix("service:")
        if re.fullmatch(r"\d{4,5}", value) and (not name or name.endswith("_PORT")):
            return self._port(owner, value)
        value = re.sub(rf"\b({'|'.join(sorted(names, key=len, reverse=True))}):(\d+)\b", lambda at: self.address(at[1], int(at[2])), value)
        value = re.sub(r"\b0\.0\.0\.0:(\d+)", lambda at: self.address(owner, int(at[1])), value).replace("0.0.0.0", "127.0.0.1")
        for inside, here in paths.items():
            value = re.sub(rf"(?<![\w/]){re.escape(inside)}(?![\w-])", lambda _, here=here: here, value)
        return value

    def _port(self, service: str, port: str) -> str:
        if (service, port) not in self._ports:
            self._ports[service, port] = str(free_ports(1)[0])
        return self._ports[service, port]


@contextmanager
def containers(profile: str, **variables: str) -> Iterator[Containers]:
    """A profile's containers, none started. Nothing of them is left when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="tidemark-containers-")).resolve()
    folder.chmod(0o755)  # PostgreSQL runs as another user
    made = Containers(folder, profile, {**compose.filled_example(), "COMPOSE_PROFILES": profile, **variables})
    try:
        yield made
    finally:
        made.stop()
        processes.end({MARK: str(folder)})
        shutil.rmtree(folder, ignore_errors=True)


def _with_needs(services: Mapping[str, Service], names: Iterable[str]) -> set[str]:
    found = set(names)
    while more := {need for name in found for need in services[name].needs} - found:
        found |= more
    return found


def _replicas(service: Service) -> int:
    return int(service.definition.get("deploy", {}).get("replicas", 1))


def _postgres(environment: Mapping[str, str]) -> tuple[list[str], str | None]:
    """What PostgreSQL's image does: makes account and database the first time. Its programs refuse to run as root."""
    (binaries,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    user = pwd.getpwnam("postgres").pw_name if os.getuid() == 0 else None
    folder, port = Path(environment["FOLDER"]), environment["PORT"]
    name, password = environment["POSTGRES_USER"], environment["POSTGRES_PASSWORD"]
    command = [
        *(str(binaries / "postgres"), "-D", str(folder), "-p", port),
        *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"),
    ]
    if (folder / "PG_VERSION").exists():
        return command, user
    if user:
        shutil.chown(folder, user)
    given = folder.with_name(f"{folder.name}-password")
    given.write_text(password)
    given.chmod(0o644)
    subprocess.run(
        [str(binaries / "initdb"), "-D", str(folder), "-U", name, "-A", "scram-sha-256", "--pwfile", str(given), "--no-sync"],
        check=True, capture_output=True, user=user, cwd="/",
    )  # fmt: skip
    given.unlink()
    first = subprocess.Popen(command, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + HEALTH_SECONDS
    while True:
        try:
            with closing(psycopg2.connect(host="127.0.0.1", port=port, user=name, password=password, dbname="postgres")) as connection:
                connection.autocommit = True
                connection.cursor().execute(f"CREATE DATABASE {environment['POSTGRES_DB']}")
            break
        except psycopg2.OperationalError:
            assert time.monotonic() < until, "PostgreSQL has not started"
            time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    first.wait(STOP_SECONDS)
    return command, user
