"""Calls of a batch process (tidemark.spark.batch_process), which runs commands one after the other. Does not import Spark.

A process serves one configuration: the name of its socket is a digest of its settings, so callers with other settings
have another process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic import SecretStr

from tidemark.settings import Settings

START_SECONDS = 60.0  # for Python to start
GREETING_SECONDS = 5.0  # a process that has no answer for so long runs a command of another caller
END_SECONDS = 10.0
_LOG_SECONDS = 0.2  # how often its output is read

_CREDENTIALS = struct.Struct("3i")  # process, user and group, as Linux gives them

log = logging.getLogger("tidemark.batch")


class Busy(Exception):
    """The process runs a command of another caller, or does not start."""


class HungUp(Exception):
    """The process has ended before it answered."""


class Greeting(NamedTuple):
    """What a process says first: its id, the file with its output, and how many bytes that has."""

    pid: int
    log: str
    written: int


class Answer(NamedTuple):
    """How a command has ended: exit status, result (JSON), and its last line of output."""

    status: int
    result: Any
    last: str


def is_of_this_user(connection: socket.socket) -> bool:
    """Is the other end a process of the same user? Anybody on the machine can use a name of the abstract namespace."""
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(user == os.getuid())


def call(of: Settings, words: list[str]) -> Answer:
    """Runs a command in the process of these settings, which is started if there is none. Its output goes to the log.

    When the caller ends before that, for whatever reason, the process and its JVM end, too. Raises Busy, HungUp.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(_connected(of))
        lines = connection.makefile("rwb")
        greeting = _greeting(connection, lines)
        try:
            file = stack.enter_context(Path(greeting.log).open("rb"))  # the process deletes it at its end
        except FileNotFoundError:
            raise Busy from None
        file.seek(greeting.written)
        output = Output(file)
        try:
            lines.write(json.dumps(words).encode() + b"\n")
            lines.flush()
            connection.settimeout(None)
            while not select.select([connection], [], [], _LOG_SECONDS)[0]:
                output.pass_on()
            answer = lines.readline()
        except ConnectionError:
            answer = b""
        except BaseException:
            connection.shutdown(socket.SHUT_RDWR)
            _await_end(greeting.pid)
            raise
        output.pass_on()
    if not answer:
        raise HungUp(output.last or f"the batch process {greeting.pid} has ended")
    return Answer(**json.loads(answer), last=output.last)


class Output:
    """The output of a process, from where its file is read next."""

    def __init__(self, file: BinaryIO) -> None:
        self.last = ""  # its last line that is not empty
        self._file, self._rest = file, b""

    def pass_on(self) -> None:
        """Logs the lines that have been written since."""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace").rstrip()
            self.last = text or self.last
            log.info("%s", text)


@contextmanager
def _connected(of: Settings) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        name = name_of(of)
        try:
            connection.connect(f"\0{name}")
        except ConnectionRefusedError:
            _start(of, name, connection)
        except OSError as error:
            log.warning("no batch process can be called: %s", error)
            raise Busy from error
        if not is_of_this_user(connection):
            raise Busy
        yield connection


def name_of(of: Settings) -> str:
    """The name of the socket of the process with these settings."""
    everything = [str(of.home.resolve()), sys.executable, os.getuid(), of.model_dump()]
    digest = hashlib.sha256(json.dumps(everything, default=_plain).encode()).hexdigest()
    return f"tidemark-batch-{digest[:32]}"


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _start(of: Settings, name: str, connection: socket.socket) -> None:
    """Starts a process, and connects to it. It outlives its caller. Raises Busy if it does not start."""
    of.jobs.mkdir(parents=True, exist_ok=True)
    for left in of.jobs.glob(f"{name}-*.log"):  # by processes that were killed
        if left.stat().st_mtime < time.time() - START_SECONDS:
            left.unlink(missing_ok=True)
    output = of.jobs / f"{name}-{os.getpid()}.log"
    with output.open("wb") as file:
        words = [sys.executable, "-m", "tidemark.spark.batch_process", name, str(output), str(of.batch_idle_seconds)]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(ConnectionRefusedError):
            connection.connect(f"\0{name}")
            return
        if process.poll():
            break
        time.sleep(0.02)
    log.warning("the batch process has not started: %s", output.read_text(errors="replace") if output.exists() else "no output")
    raise Busy


def _greeting(connection: socket.socket, lines: Any) -> Greeting:
    connection.settimeout(GREETING_SECONDS)
    try:
        line = lines.readline()
    except (TimeoutError, ConnectionError):
        raise Busy from None
    if not line:
        raise Busy  # it has just ended
    return Greeting(**json.loads(line))


def _await_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            select.select([process], [], [], END_SECONDS)
        finally:
            os.close(process)
