"""Starts a program of the stack once the servers that it needs are healthy: `python -m tidemark.local.launch NAME`. Supervisor and
containers start every program this way.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from tidemark.local import cluster, processes
from tidemark.local.programs import Program, base_environment, managed_programs
from tidemark.settings import Settings, settings

POLL_SECONDS = 1.0
LOG_EVERY_SECONDS = 30.0
RETRY_SECONDS = 10.0

log = logging.getLogger("tidemark.launch")


def wait_for_needs(program: Program, of: Settings) -> None:
    """Waits until everything the program needs is healthy. Logs every half a minute what is missing."""
    logged_at = 0.0
    for need in program.needs:
        while not (found := need(of)).healthy:
            if time.monotonic() - logged_at > LOG_EVERY_SECONDS:
                logged_at = time.monotonic()
                log.info("%s waits for %s: %s %s", program.name, need.__name__, found.url, found.detail)
            time.sleep(POLL_SECONDS)


def _follow_predecessor(program: Program, home: Path) -> None:
    """Ends processes left behind by a killed predecessor, and records this process for its successor."""
    file = _pid_file(program, home)
    group = int(file.read_text()) if file.exists() else None  # supervisor makes each program a group leader
    if processes.end(processes.marks(home, program.name), group=group):
        log.info("%s: ended processes left behind by its predecessor", program.name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(str(os.getpid()))


def _pid_file(program: Program, home: Path) -> Path:
    return home / "run" / f"{program.name}.pid"


def _pause(program: Program, home: Path) -> None:
    """Delays the retry of a one-time program that has failed, because supervisor restarts it at once."""
    file = _pid_file(program, home)
    if program.once and file.exists():
        time.sleep(max(0.0, RETRY_SECONDS - (time.time() - file.stat().st_mtime)))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for noisy in ("kafka", "httpx"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    of = settings()
    program = next(one for one in (*managed_programs(of), *cluster.PROGRAMS) if one.name == sys.argv[1])
    environment = {**base_environment(of.home), **program.environment(of), **processes.marks(of.home, program.name)}
    _pause(program, of.home)
    _follow_predecessor(program, of.home)
    wait_for_needs(program, of)
    for preparation in program.before:
        if (command := preparation(of)) and (status := subprocess.run(command, env=environment).returncode):
            log.error("%s cannot start: %s ended with status %d", program.name, " ".join(command[:4]), status)
            sys.exit(status)
    command = program.command(of)
    log.info("%s starts", program.name)
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main()
