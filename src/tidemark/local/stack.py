"""The stack under supervisor: starts it, stops all its processes, and reports the state of each program."""

from __future__ import annotations

import configparser
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.xmlrpc import SupervisorTransport

from tidemark.local import processes
from tidemark.local.programs import Program, base_environment, managed_programs
from tidemark.settings import CHECKOUT, Settings

LOG_BYTES = "20MB"
LOG_BACKUPS = 3
STOP_SECONDS = 180
LONGEST_SOCKET = 100  # bytes of the path; the system's limit is 107


class Running(NamedTuple):
    """A program's state and description, as reported by supervisor."""

    name: str
    state: str
    detail: str


def log_folder(home: Path) -> Path:
    return home / "logs"


def configuration(of: Settings) -> str:
    """Supervisor's configuration file for the programs of these settings."""
    parser = configparser.RawConfigParser()
    parser["supervisord"] = {
        "logfile": str(log_folder(of.home) / "supervisor.log"),
        "logfile_maxbytes": LOG_BYTES,
        "logfile_backups": str(LOG_BACKUPS),
        "pidfile": str(of.home / "supervisor.pid"),
        "childlogdir": str(log_folder(of.home)),
        "directory": str(CHECKOUT),
        "minfds": "4096",
        "umask": "077",
    }
    parser["unix_http_server"] = {"file": str(_socket(of.home)), "chmod": "0700"}
    parser["rpcinterface:supervisor"] = {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"}
    for program in managed_programs(of):
        parser[f"program:{program.name}"] = _section(program, of.home)
    text = io.StringIO()
    parser.write(text)
    # Supervisor expands variables that start with %.
    return text.getvalue().replace("%", "%%")


def start(of: Settings) -> None:
    """Starts supervisor, or updates the configuration of a running one. Raises RuntimeError if supervisor does not start."""
    log_folder(of.home).mkdir(parents=True, exist_ok=True)
    file = of.home / "supervisor.conf"
    file.write_text(configuration(of))
    file.chmod(0o600)
    if is_running(of.home):
        _update(of.home)
        return
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(file)]
    done = subprocess.run(command, env=base_environment(of.home), cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"supervisor does not start: {(done.stderr or done.stdout).strip()[-1000:]}")


def is_running(home: Path) -> bool:
    try:
        _server(home).supervisor.getState()
    except (OSError, xmlrpc.client.Error):
        return False
    return True


def programs(home: Path) -> list[Running]:
    """The programs; empty if the stack is not running."""
    try:
        found = _server(home).supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    return [Running(one["name"], one["statename"], one["description"]) for one in found]


def restart(home: Path, name: str) -> None:
    """Restarts one program of a running stack."""
    server = _server(home)
    server.supervisor.stopProcess(name)
    server.supervisor.startProcess(name)


def stop(of: Settings, report: Callable[[str], None]) -> bool:
    """Stops everything: the stream first, servers last. Returns False if nothing was running."""
    if not is_running(of.home):
        return end_leftovers(of.home)
    server = _server(of.home)
    names = {one.name for one in programs(of.home)}
    for program in reversed(managed_programs(of)):
        if program.name in names:
            report(f"stopping {program.name}")
            try:
                server.supervisor.stopProcess(program.name)
            except xmlrpc.client.Fault:
                continue  # it was not running
    report("stopping supervisor")
    identity = server.supervisor.getPID()
    server.supervisor.shutdown()
    processes.wait_for_end([identity], STOP_SECONDS)
    processes.end(processes.marks(of.home), session=identity)
    return True


def end_leftovers(home: Path) -> bool:
    """Ends processes left behind by a stack that is not running. Returns False if there were none."""
    file = home / "supervisor.pid"  # supervisor leads the session of all its programs
    former = file.read_text().strip() if file.exists() else ""
    return processes.end(processes.marks(home), session=int(former) if former.isdigit() else None)


def _server(home: Path) -> Any:
    """A client of supervisor's XML-RPC interface, which is untyped."""
    transport = SupervisorTransport(None, None, serverurl=f"unix://{_socket(home)}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)


def _socket(home: Path) -> Path:
    """The socket in home; if its path would be too long, a temporary path unique to this user and home."""
    home = home.resolve()
    if len(os.fsencode(home / "supervisor.sock")) <= LONGEST_SOCKET:
        return home / "supervisor.sock"
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tidemark-{os.getuid()}-{name}.sock"


def _section(program: Program, home: Path) -> dict[str, str]:
    return {
        "command": shlex.join([sys.executable, "-m", "tidemark.local.launch", program.name]),
        "stdout_logfile": str(log_folder(home) / f"{program.name}.log").replace("%", "%%"),  # supervisor expands this one twice
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": str(LOG_BACKUPS),
        "redirect_stderr": "true",
        "autorestart": "unexpected" if program.once else "true",
        "startsecs": "0" if program.once else "1",
        "startretries": "1000000",
        "exitcodes": "0",
        "stopasgroup": str(program.with_children).lower(),
        "killasgroup": "true",
        "stopwaitsecs": str(program.stop_seconds),
    }


def _update(home: Path) -> None:
    """Does what `supervisorctl update` does: restarts new and changed programs, and stops removed ones."""
    server = _server(home)
    added, changed, removed = server.supervisor.reloadConfig()[0]
    for name in (*removed, *changed):
        server.supervisor.stopProcessGroup(name)
        server.supervisor.removeProcessGroup(name)
    for name in (*added, *changed):
        server.supervisor.addProcessGroup(name)
