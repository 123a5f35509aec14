"""`python -m tidemark.spark.batch_process NAME LOG SECONDS`: runs commands of the batch layer one after the other, in one Spark.

A night is several commands, and the start of Spark is the longest part of a short one. A caller (tidemark.dags.batch_job) connects to the
Unix socket NAME of Linux's abstract namespace, and is told this process's id and its log. It sends a command's words as a line of JSON, and
receives the status and the result. Output goes to file LOG, which is deleted at the end.

If the caller hangs up before its command has ended, this process kills itself and its JVM: a command ends with its caller, whatever
ended that. The process also ends when nobody has called for so many seconds, and after a command whose failure may lie in the process.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from tidemark.serving import ledger
from tidemark.serving.database import connect, database_of
from tidemark.settings import Settings, settings
from tidemark.spark.batch import FAILED, FAILED_PERMANENTLY, Outcome, execute, log_to_output
from tidemark.spark.batch_calls import Greeting, is_of_this_user
from tidemark.spark.session import suits


def serve(connection: socket.socket, log: Path, of: Settings) -> bool:
    """Runs a caller's command. Returns whether this process can run another one."""
    lines = connection.makefile("rwb")

    def write(answer: dict[str, Any]) -> None:
        lines.write(json.dumps(answer).encode() + b"\n")
        lines.flush()

    write(Greeting(os.getpid(), str(log), log.stat().st_size)._asdict())
    if not (line := lines.readline()):
        return True  # it has hung up
    answered = _end_with(connection)
    try:
        outcome = execute(json.loads(line), of, SparkSession.getActiveSession())
    except SystemExit:  # of argparse
        outcome = Outcome(FAILED_PERMANENTLY)
    sys.stdout.flush()
    answered.set()
    write(outcome._asdict())
    return outcome.status != FAILED and _suits_the_next(of)


def _end_with(connection: socket.socket) -> threading.Event:
    """From now on this process ends when the caller hangs up, until the event is set."""
    answered = threading.Event()

    def watch() -> None:
        with suppress(OSError):
            connection.recv(1, socket.MSG_PEEK)
        if not answered.is_set():
            os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return answered


def _suits_the_next(of: Settings) -> bool:
    """Is this JVM the right one for as many events as there are now?"""
    spark = SparkSession.getActiveSession()
    if spark is None:
        return True
    with connect(of.batch_mongodb) as client:
        own = ledger.read(database_of(client, of.database))
    return suits(spark, own.binding.events_below(own.offsets))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tidemark.spark.batch_process")
    parser.add_argument("name", help="of the socket, in Linux's abstract namespace")
    parser.add_argument("log", type=Path, help="file of this process's output; it is deleted at the end")
    parser.add_argument("seconds", type=float, help="how long to wait for another command")
    given = parser.parse_args(words)
    log_to_output()
    of = settings().with_batch_account()
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{given.name}")  # where another process has it, this one is not needed
            listener.listen()
            listener.settimeout(given.seconds)
            serving = True
            while serving:
                connection, _ = listener.accept()
                with connection, suppress(ConnectionError):
                    connection.settimeout(None)
                    serving = not is_of_this_user(connection) or serve(connection, given.log, of)
    except (TimeoutError, OSError):
        return 0
    finally:
        given.log.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
