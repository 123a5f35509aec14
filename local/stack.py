"""The stack as supervisor runs it: starts it, stops it to the last process, tells what each program is doing."""

from __future__ import annotations

import configparser
import hashlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.xmlrpc import SupervisorTransport

from local.programs import STACK_MARK, Program, base_environment, started_here
from settings import CHECKOUT, settings

LOG_BYTES = "20MB"
LOG_BACKUPS = 3
STOP_SECONDS = 180


class Running(NamedTuple):
    """A program as supervisor sees it: its state in supervisor's words, and what it says of it."""

    name: str
    state: str
    detail: str


def log_folder() -> Path:
    return settings().home / "logs"


def configuration() -> str:
    """Supervisor's configuration file for the programs of this environment."""
    parser = configparser.RawConfigParser()
    parser["supervisord"] = {
        "logfile": str(log_folder() / "supervisor.log"),
        "logfile_maxbytes": LOG_BYTES,
        "logfile_backups": str(LOG_BACKUPS),
        "pidfile": str(settings().home / "supervisor.pid"),
        "childlogdir": str(log_folder()),
        "directory": str(CHECKOUT),
        "minfds": "4096",
    }
    parser["unix_http_server"] = {"file": str(_socket()), "chmod": "0700"}
    parser["rpcinterface:supervisor"] = {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"}
    for program in started_here():
        parser[f"program:{program.name}"] = _section(program)
    text = io.StringIO()
    parser.write(text)
    # Supervisor reads % as the start of a variable.
    return text.getvalue().replace("%", "%%")


def start() -> None:
    """Starts supervisor, or brings a running one to the configuration. Raises RuntimeError where supervisor does not start."""
    log_folder().mkdir(parents=True, exist_ok=True)
    file = settings().home / "supervisor.conf"
    file.write_text(configuration())
    file.chmod(0o600)
    if is_running():
        _update()
        return
    _end_leftovers()
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(file)]
    done = subprocess.run(command, env=base_environment(), cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"supervisor does not start: {(done.stderr or done.stdout).strip()[-1000:]}")


def is_running() -> bool:
    try:
        _server().supervisor.getState()
    except (OSError, xmlrpc.client.Error):
        return False
    return True


def programs() -> list[Running]:
    """Empty where the stack is not running."""
    try:
        found = _server().supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []
    return [Running(one["name"], one["statename"], one["description"]) for one in found]


def restart(name: str) -> None:
    """Restarts one program of a running stack."""
    server = _server()
    server.supervisor.stopProcess(name)
    server.supervisor.startProcess(name)


def stop() -> bool:
    """Stops everything: the stream first, servers last. False where nothing was running."""
    running = is_running()
    if running:
        server = _server()
        names = {one.name for one in programs()}
        for program in reversed(started_here()):
            if program.name in names:
                try:
                    server.supervisor.stopProcess(program.name)
                except xmlrpc.client.Fault:
                    continue  # it was not running
        identity = server.supervisor.getPID()
        server.supervisor.shutdown()
        _wait_for_end([identity], STOP_SECONDS)
    return _end_leftovers() or running


def _server() -> Any:
    """Supervisor by XML-RPC, whose methods and answers have no types."""
    transport = SupervisorTransport(None, None, serverurl=f"unix://{_socket()}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)


def _socket() -> Path:
    """A path as short as sockets need it, of this user and home alone."""
    name = hashlib.sha256(str(settings().home.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tidemark-{os.getuid()}-{name}.sock"


def _section(program: Program) -> dict[str, str]:
    return {
        "command": f"{sys.executable} -m local.launch {program.name}",
        "stdout_logfile": str(log_folder() / f"{program.name}.log"),
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


def _update() -> None:
    """What `supervisorctl update` does: programs that are new or changed are started again, those gone are stopped."""
    server = _server()
    added, changed, removed = server.supervisor.reloadConfig()[0]
    for name in (*removed, *changed):
        server.supervisor.stopProcessGroup(name)
        server.supervisor.removeProcessGroup(name)
    for name in (*added, *changed):
        server.supervisor.addProcessGroup(name)


def _leftovers() -> Iterator[int]:
    """Processes of this home's stack, by the mark in their environment."""
    mark = f"{STACK_MARK}={settings().home.resolve()}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if (
                mark in (folder / "environ").read_bytes().split(b"\0")
                and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            ):
                yield int(folder.name)
        except OSError:
            continue


def _end_leftovers() -> bool:
    """Ends what outlived its parent (a task that was running, a JVM). False where there was nothing."""
    found = list(_leftovers())
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        for identity in _leftovers():
            _signal(identity, number)
        _wait_for_end(list(_leftovers()), seconds)
    return bool(found)


def _signal(identity: int, number: signal.Signals) -> None:
    try:
        os.kill(identity, number)
    except ProcessLookupError:
        return


def _wait_for_end(identities: list[int], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(_alive(one) for one in identities):
        time.sleep(0.1)


def _alive(identity: int) -> bool:
    try:
        return (Path("/proc") / str(identity) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
