"""Airflow and Superset with logins by an identity provider, beside a stack and on copies of its databases."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.environment import setting
from support.identity import Browser
from support.servers import free_ports
from support.stacks import Stack, until

from tidemark.local.programs import Program, base_environment, managed_programs
from tidemark.settings import Settings

REFUSED = {401, 403}


@dataclass
class Server:
    """Airflow or Superset: its address, and the paths of its link to the provider and of what says who is logged in."""

    url: str
    login: str
    me: str

    @property
    def link(self) -> str:
        """The link to the provider on its page for logins."""
        return f"{self.url}{self.login}/sso"

    @property
    def returns_to(self) -> str:
        """Where the provider sends people back to."""
        return f"{self.url}{self.login.removesuffix('login')}oauth-authorized/sso"

    def name_of(self, browser: Browser) -> str | None:
        """Whom the server takes a browser for; None: nobody."""
        answer = browser.get(f"{self.url}{self.me}")
        if answer.status_code in REFUSED:
            return None
        found: str = (answer.json().get("result") or answer.json())["username"]
        return found


@contextmanager
def running_servers(beside: Stack, home: Path, register: Callable[..., Mapping[str, str]]) -> Iterator[dict[str, Server]]:
    """Airflow and Superset by name. `register` makes both a client of a provider, given the addresses to return to; it gives settings,
    which are then those of this process too."""
    ports = dict(zip(("airflow_port", "superset_port"), free_ports(2), strict=True))
    servers = {
        "airflow": Server(f"http://127.0.0.1:{ports['airflow_port']}", "/auth/login", "/ui/auth/me"),
        "superset": Server(f"http://127.0.0.1:{ports['superset_port']}", "/login", "/api/v1/me/"),
    }
    for name in servers:
        _copy(beside.home / name, home / name, f"{name}.db")
    client = register(*(one.returns_to for one in servers.values()))
    own = {"home": str(home), "superset_workers": "1", **{name: str(port) for name, port in ports.items()}}
    with ExitStack() as running:
        running.enter_context(setting(**{**beside.settings, **own, **client}))
        programs = {one.name: one for one in managed_programs(Settings())}
        for name, path in (("airflow-api", "/api/v2/version"), ("superset", "/health")):
            log = running.enter_context(_running(programs[name], Settings(), home))
            address = f"{servers[name.partition('-')[0]].url}{path}"
            until(lambda: httpx.get(address, trust_env=False).is_success, f"{name} answers", log.read_text, seconds=300)  # noqa: B023
        yield servers


def _copy(there: Path, here: Path, database: str) -> None:
    """A copy of a server's database, which is in use, and of its secrets."""
    here.mkdir(parents=True)
    for file in there.iterdir():
        if file.is_file() and not file.name.startswith(database):
            shutil.copy(file, here)
    with closing(sqlite3.connect(there / database)) as used, closing(sqlite3.connect(here / database)) as copy:
        used.backup(copy)


@contextmanager
def _running(program: Program, of: Settings, folder: Path) -> Iterator[Path]:
    """A program of the stack while the context lasts; its log."""
    log = folder / f"{program.name}.log"
    with log.open("wb") as output:
        environment = {**base_environment(of.home), **program.environment(of)}
        process = subprocess.Popen(program.command(of), env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield log
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
