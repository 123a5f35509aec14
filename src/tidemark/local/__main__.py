"""The local stack's commands: `python -m tidemark.local run|dry-run|start|status|stop|clean|dashboards|logs`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidemark.catalog.words import counted
from tidemark.ingest.layouts import columns_argument
from tidemark.local import accounts, health, job, stack
from tidemark.local.programs import base_environment, superset_environment, superset_module
from tidemark.local.runs import RunRefused
from tidemark.serving.database import connect, database_of
from tidemark.serving.documents import StatusDocument
from tidemark.serving.status import state
from tidemark.settings import Settings, describe_errors, settings
from tidemark.settings.sections import separated

TAIL_BYTES = 4_000  # shown of each log
WIDTH = 110  # columns, if output does not go to a terminal


def run(given: argparse.Namespace, console: Console, of: Settings) -> int:
    job.run(console, of, _catalog(given), batch=given.batch == "yes")
    return 0


def dry_run(given: argparse.Namespace, console: Console, of: Settings) -> int:
    job.dry_run(console, of, _catalog(given))
    return 0


def start(_: argparse.Namespace, console: Console, of: Settings) -> int:
    job.start(console, of)
    console.print(job.addresses(of), soft_wrap=True)
    return 0


def status(given: argparse.Namespace, console: Console, of: Settings) -> int:
    """Exit status 1 if anything is not healthy."""
    with ThreadPoolExecutor() as pool:
        found = dict(zip(health.CHECKS, pool.map(lambda check: check(of), health.CHECKS.values()), strict=True))
    for program in stack.programs(of.home):
        if program.name in found and program.state != "RUNNING":
            # Its last heartbeat may still be recent.
            found[program.name] = found[program.name]._replace(healthy=False, detail=f"{program.state.lower()} {program.detail}".strip())
    shown = accounts.generated_passwords(of)
    for name, passwords in shown.items():
        if found[name].healthy:
            found[name] = found[name]._replace(detail=accounts.render(passwords))
    now: StatusDocument | None = None
    if found["mongodb"].healthy:
        with connect(of.mongodb, within_seconds=5) as client:
            now = state(database_of(client, of.database))
    if given.json:
        servers: dict[str, dict[str, Any]] = {name: one._asdict() for name, one in found.items()}
        for name, passwords in shown.items():
            servers[name]["accounts"] = passwords
        servers["speed"]["metrics"] = of.speed_metrics_url
        sys.stdout.write(json.dumps({**servers, "state": now}, indent=2) + "\n")
    else:
        _show_status(console, of.home, found, now)
    return 0 if all(one.healthy for one in found.values()) else 1


def stop(_: argparse.Namespace, console: Console, of: Settings) -> int:
    with job.Progress(console) as report:
        stopped = stack.stop(of, report)
    console.print("stopped" if stopped else "nothing was running")
    return 0


def clean(_: argparse.Namespace, console: Console, of: Settings) -> int:
    """Deletes only what the stack has made; other files in the folder stay."""
    if stack.is_running(of.home):
        console.print("the stack is running: make stop first")
        return 1
    stack.end_leftovers(of.home)
    for name in ("airflow", "catalogs", "jobs", "kafka", "lake", "logs", "mongodb", "run", "spark", "speed", "superset", "work"):
        shutil.rmtree(of.home / name, ignore_errors=True)
    for name in ("ingest-folders", "supervisor.conf", "supervisor.pid", "supervisor.sock"):
        (of.home / name).unlink(missing_ok=True)
    console.print(f"{of.home} is clean")
    return 0


def dashboards(given: argparse.Namespace, console: Console, of: Settings) -> int:
    """Transfers dashboards between Superset and the files of superset/assets."""
    if not health.superset(of).healthy:
        console.print(f"Superset at {of.superset_url} does not answer: start it with make start")
        return 1
    words = superset_module("transfer", given.what, *(["--overwrite"] if given.overwrite else []))
    return subprocess.run(words, env={**base_environment(of.home), **superset_environment(of)}).returncode


def logs(given: argparse.Namespace, console: Console, of: Settings) -> int:
    """Prints the programs' logs, and with `follow` continues until interrupted."""
    folder, followed = stack.log_folder(of.home), dict[Path, _Log]()
    while True:
        there = sorted(folder.glob("*.log"))
        for path in there:
            if given.program in (None, path.stem):
                followed.setdefault(path, _Log(path)).copy_lines()
        if not followed:
            names = ", ".join(path.stem for path in there)
            console.print(f"no log of {given.program}; available: {names}" if names else f"no logs in {folder} yet")
            return 1
        if not given.follow:
            return 0
        sys.stdout.flush()
        time.sleep(0.5)


class _Log:
    """A program's log, from its newest lines on, also across log rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        if self._file.tell():
            self._file.readline()  # the rest of a partial line
        self._begun = b""

    def copy_lines(self) -> None:
        self._copy()
        try:
            other = self._path.open("rb")
        except FileNotFoundError:  # rotated away, and the next one does not exist yet
            return
        if os.path.sameopenfile(other.fileno(), self._file.fileno()):
            other.close()
            return
        self._copy()  # lines written before the rotation
        self._file.close()
        self._file = other
        self._copy()

    def _copy(self) -> None:
        *lines, self._begun = (self._begun + self._file.read()).split(b"\n")
        for line in lines:
            sys.stdout.write(f"{self._path.stem:>22} | {line.decode(errors='replace').rstrip()}\n")


def _show_status(console: Console, home: Path, found: dict[str, health.Health], now: StatusDocument | None) -> None:
    running = stack.programs(home)
    if not running and not any(one.healthy for one in found.values()):
        console.print("The stack is not running: start it with make run")
        return
    table = Table("", "", "address", "", title="Tidemark")
    for name, one in found.items():
        table.add_row(name, "[green]healthy[/]" if one.healthy else "[red]not healthy[/]", one.url, escape(one.detail))
    console.print(table)
    if not running:
        console.print("supervisor, which restarts programs, is not running: make start ends the programs and starts everything again")
    lines = {one.name: f"{one.state.lower()} {one.detail}" for one in running if one.state not in ("RUNNING", "EXITED")}
    console.print(_name_table(lines if now is None else lines | _figures(now)))


def _figures(now: StatusDocument) -> dict[str, str]:
    behind, batch = now["freshness"]["events_behind"], now["stream"]["last_micro_batch"]
    return {
        "products served": f"{now['summary']['products']:,}",
        "events behind": "unknown: the end of the log was not measured within the last minute" if behind is None else f"{behind:,}",
        "acknowledged events": now["log"]["durability"] or "unknown: the topics have not been described yet",
        "last micro-batch": "-" if not batch else f"{counted(batch['events'], 'event')}, {batch['events_per_second']:,} /s",
        "ingestions": f"{now['ingestions']['served']} served, {now['ingestions']['under_way']} in progress",
        "quarantine (open)": ", ".join(f"{reason} {n:,}" for reason, n in now["quarantine"].items()) or "empty",
        "publication": f"{now['freshness']['publication']}",
        "alerts": "; ".join(one["text"] for one in now["alerts"]) or "none",
    }


def _name_table(lines: Mapping[str, str]) -> Table:
    """Names, and beside each its text."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for name, text in lines.items():
        table.add_row(name, escape(text))
    return table


def _catalog(given: argparse.Namespace) -> job.Catalog:
    return job.Catalog(
        _list(given.products), _list(given.categories), _list(given.observed_at), given.columns or {}, given.rows, given.days
    )


def _list(text: str | None) -> list[str]:
    return separated(text or "")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tidemark.local", description="Runs Tidemark on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does, act in (
        ("run", "start everything, ingest a catalog and print the reports", run),
        ("dry-run", "start everything and show what ingesting a catalog would change", dry_run),
    ):
        ingesting = commands.add_parser(name, help=does)
        ingesting.add_argument("--products", help="product files, separated by commas; default: a generated catalog")
        ingesting.add_argument("--categories", help="category files, separated by commas")
        ingesting.add_argument(
            "--observed-at",
            help="date of observation: one for all files, or one per product file, separated by commas",
        )
        ingesting.add_argument(
            "--columns", type=columns_argument, help="columns that have other names in the files: price=Price,title=Name"
        )
        ingesting.add_argument("--rows", type=_count, default=20_000, help="products in a generated catalog (default %(default)s)")
        ingesting.add_argument("--days", type=_count, default=3, help="days in a generated catalog (default %(default)s)")
        ingesting.set_defaults(act=act)
        if act is run:
            ingesting.add_argument(
                "--batch", choices=["yes", "no"], default="yes", help="finish with a nightly batch and the history (default %(default)s)"
            )
    commands.add_parser("start", help="start everything").set_defaults(act=start)
    stating = commands.add_parser("status", help="show health, lag and rows")
    stating.add_argument("--json", action="store_true", help="print JSON")
    stating.set_defaults(act=status)
    commands.add_parser("stop", help="stop everything").set_defaults(act=stop)
    commands.add_parser("clean", help="delete all state of a stopped stack").set_defaults(act=clean)
    moving = commands.add_parser("dashboards", help="import the dashboards' files to Superset, or export them from it")
    moving.add_argument("what", choices=["import", "export"])
    moving.add_argument("--overwrite", action="store_true", help="also overwrite what has been changed in Superset")
    moving.set_defaults(act=dashboards)
    logging_ = commands.add_parser("logs", help="print the newest lines of all logs")
    logging_.add_argument("program", nargs="?", help="only the log of this program")
    logging_.add_argument("--follow", action="store_true", help="continue until interrupted")
    logging_.set_defaults(act=logs)
    return parser.parse_args(words)


def main() -> int:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for noisy in ("kafka", "httpx", "pymongo"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    os.umask(0o077)  # what this and the programs it starts write is their user's only
    given = _arguments()
    try:
        return int(given.act(given, console, settings()))
    except ValidationError as error:
        for line in describe_errors(error):
            console.print(line, markup=False, style="red", soft_wrap=True)
    except (job.CannotRun, RunRefused) as reason:
        console.print(str(reason), markup=False, style="red", soft_wrap=True)
    except (PyMongoError, httpx.HTTPError) as error:
        console.print(f"a server does not answer: {error}. See make status and make logs", markup=False, style="red", soft_wrap=True)
    except KeyboardInterrupt:
        console.print("interrupted; started programs keep running (make status, make stop)")
    except BrokenPipeError:  # the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
