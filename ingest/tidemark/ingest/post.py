"""Posts a CSV file to the HTTP API: `python -m tidemark.ingest.post FILE --kind product --date 2023-12-31`.

Next to FILE it keeps FILE.progress.json with the progress, and FILE.refused.csv with the rows that the API refused and the reasons. An
interrupted run resumes after the last batch whose answer it has recorded. A batch whose answer was lost, or that Kafka has not
acknowledged, is posted again. This is idempotent: batches are posted one after another, so repeated rows are still followed by those
after them in the file, and a product observed twice at the same moment with the same content is one state.

Exit status: 0 all rows accepted, 3 some rows refused, 1 not finished (run the same command again), 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import io
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tidemark.catalog.observations import Reason, moment
from tidemark.catalog.rules import RULES
from tidemark.catalog.words import counted, rule
from tidemark.ingest.archives import member
from tidemark.ingest.files import DATE, FileKind, InvalidFile, Record, is_utf8, records
from tidemark.ingest.layouts import Columns, beginning, columns_argument, layout, names
from tidemark.settings import Settings, describe_errors, settings

ACCEPTED, STOPPED, REFUSED = 0, 1, 3

MAX_RECORDS = 10_000  # limit of the API per request
MAX_BATCH_BYTES = 8 * 1024 * 1024
PATIENCE_SECONDS = 600.0
LONGEST_WAIT_SECONDS = 30.0
TIMEOUT = httpx.Timeout(10, read=120, write=60)  # longer than the API's own timeouts

REFUSED_COLUMNS = ("refused_byte", "refused_field", "refused_why")

_NUMBERS = frozenset(("stars", "reviews", "price", "listPrice", "category_id", "boughtInLastMonth", "id"))
_BOOLEANS = {"True": True, "False": False, "true": True, "false": False, "TRUE": True, "FALSE": False}
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_RETRYABLE = frozenset((408, 429, 500, 502, 503, 504))
_PROGRESS_SECONDS = 5.0


class Stopped(Exception):
    """Posting cannot continue; the message says why and what to do."""


class Refusal(NamedTuple):
    """A refused row: the field (empty if it concerns the whole row) and the reason."""

    row: Record
    field: str
    why: str


@dataclass
class Settled:
    """Progress of a file: all rows before byte `position` are settled. `refused_bytes` is the length of the file of refused rows."""

    of: dict[str, Any]
    position: int
    accepted: int = 0
    refused: int = 0
    refused_bytes: int = 0
    finished: bool = False


@dataclass
class Batch:
    """Rows up to byte `end`: rows to post with their JSON, and rows that cannot be converted to JSON."""

    rows: list[Record] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    bytes: int = 0
    end: int = 0

    def __len__(self) -> int:
        return len(self.lines) + len(self.refusals)


def typed(columns: Sequence[str], fields: Sequence[str], date: str | None) -> bytes:
    """A row as JSON for the API. Numbers and booleans become JSON values, digit for digit, where JSON can represent them."""
    value: dict[str, Any] = {column: _typed(column, text) for column, text in zip(columns, fields, strict=True)}
    if date is not None:
        value[DATE] = date
    return orjson.dumps(value)


def _typed(column: str, text: str) -> object:
    if column in _NUMBERS and _JSON_NUMBER.fullmatch(text):
        return orjson.Fragment(text)
    return _BOOLEANS.get(text, text) if column == "isBestSeller" else text


class Client:
    """A client for the API at a URL. Retries transient errors for `patience_seconds` and passes each to `report`."""

    def __init__(self, url: str, key: str, patience_seconds: float, report: Callable[[str], object]) -> None:
        self._url, self._patience, self._report = url, patience_seconds, report
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, headers={b"X-API-Key": key.encode()} if key else {})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, path: str, lines: Sequence[bytes]) -> httpx.Response:
        """The answer, with status 201, 413 or 422. Raises Stopped."""
        started, tried = time.monotonic(), 0
        while True:
            try:
                answer = self._http.post(path, content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
            except httpx.TransportError as error:
                reason, least = f"{self._url} does not answer: {error or type(error).__name__}", 0.0
            else:
                if answer.status_code in (201, 413, 422):
                    return answer
                if answer.status_code not in _RETRYABLE:
                    raise Stopped(self._refusal_text(answer))
                reason, least = f"{self._url} answered {answer.status_code}: {_detail(answer)}", _retry_after(answer)
            tried += 1
            wait = max(least, min(LONGEST_WAIT_SECONDS, 0.25 * 2**tried) * random.uniform(0.5, 1))
            if time.monotonic() - started + wait > self._patience:
                raise Stopped(f"{reason}. Gave up after {self._patience:g} s. Run the same command again to continue")
            self._report(reason)
            time.sleep(wait)

    def _refusal_text(self, answer: httpx.Response) -> str:
        match answer.status_code:
            case 401 | 403:
                return f"{self._url} rejected the API key: set TIDEMARK_API_KEY to one of the server's keys"
            case 404 | 405:
                return f"there is no ingestion API at {self._url}: give its address with --url, such as http://127.0.0.1:8000"
            case status:
                return f"{self._url} answered {status}: {_detail(answer)}"


def settle(client: Client, path: str, rows: Sequence[Record], lines: Sequence[bytes]) -> list[Refusal]:
    """Posts rows until each is accepted or refused; returns the refused rows. Raises Stopped."""
    answer = client.post(path, lines)
    if answer.status_code == 201:
        return []
    if answer.status_code == 413:
        if len(rows) == 1:
            return [Refusal(rows[0], "", "the row is larger than the API accepts")]
        half = len(rows) // 2
        return settle(client, path, rows[:half], lines[:half]) + settle(client, path, rows[half:], lines[half:])
    wrong = _faults(answer, len(rows))
    refusals = [Refusal(rows[number], *fault) for number, fault in wrong.items()]
    left = [number for number in range(len(rows)) if number not in wrong]
    return refusals + (settle(client, path, [rows[number] for number in left], [lines[number] for number in left]) if left else [])


def _faults(answer: httpx.Response, count: int) -> dict[int, tuple[str, str]]:
    """Field and message by record number. Raises Stopped if the answer names no record."""
    found: dict[int, tuple[str, str]] = {}
    try:
        for fault in answer.json()["detail"]:
            _, number, *fields = fault["loc"]
            found[number] = (".".join(map(str, fields)), fault["msg"])
    except (ValueError, KeyError, TypeError):
        found = {}
    if not found or not all(isinstance(number, int) and 0 <= number < count for number in found):
        raise Stopped(f"the API rejected the batch without naming a row: {answer.text[:500]}")
    return found


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT_SECONDS) if text.isdecimal() else 0.0


class Posting:
    """A file being posted, with its progress file and its file of refused rows."""

    def __init__(self, file: Path, kind: FileKind, date: str | None, url: str, named: Columns) -> None:
        self.file, self.kind, self.date = file, kind, date
        self.path = "/AmazonProduct/batch" if kind is FileKind.PRODUCT else "/Category/batch"
        self.progress_file, self.refused_file = Path(f"{file}.progress.json"), Path(f"{file}.refused.csv")
        with file.open("rb") as raw:
            content = hashlib.file_digest(raw, "sha256").hexdigest()
        if member(file, kind, named) is not None:
            raise InvalidFile("the file is compressed: unpack it and post the CSV file inside")
        self._separator, columns = layout(beginning(file), kind, named)
        with file.open("rb") as raw:
            first = next(records(raw, separator=self._separator))
        self._skipped = len(REFUSED_COLUMNS) if columns[: len(REFUSED_COLUMNS)] == REFUSED_COLUMNS else 0
        self.columns, self._names = columns[self._skipped :], names(first.fields)[self._skipped :]
        self.bytes = file.stat().st_size
        self._of = {"sha256": content, "kind": str(kind), "date": date, "url": url, "columns": list(self.columns)}
        self.settled = Settled(self._of, first.end)

    @contextmanager
    def alone(self, *, anew: bool) -> Iterator[None]:
        """Locks the file and resumes from an earlier run, unless `anew`. Raises Stopped, also if another process is posting the file."""
        with self.file.open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Stopped(f"another process is posting {self.file}: wait until it has finished") from None
            if anew or not self._resume():
                self._write()
                self.refused_file.unlink(missing_ok=True)
            yield

    def _resume(self) -> bool:
        """Loads the progress; False if nothing has been settled."""
        try:
            found = Settled(**json.loads(self.progress_file.read_text()))
        except FileNotFoundError:
            return False
        except (ValueError, TypeError):
            raise Stopped(f"cannot read {self.progress_file}: delete it, or start over with --again") from None
        if not found.accepted and not found.refused:
            return False
        if other := [name for name, value in self._of.items() if found.of.get(name) != value]:
            what = ", ".join("content" if name == "sha256" else name for name in other)
            raise Stopped(f"{self.progress_file} belongs to a posting with a different {what}: delete it, or start over with --again")
        self.settled = found
        return True

    def batches(self, most: int) -> Iterator[Batch]:
        """The rows that are not settled, in the file's order. Raises InvalidFile if a record does not end."""
        with self.file.open("rb") as raw:
            raw.seek(self.settled.position)
            batch = Batch()
            for row in records(raw, self.settled.position, separator=self._separator):
                batch.end = row.end
                fields = self._fields(row)
                if isinstance(fields, Refusal):
                    batch.refusals.append(fields)
                else:
                    batch.rows.append(row)
                    batch.lines.append(typed(self.columns, fields, self.date))
                    batch.bytes += len(batch.lines[-1])
                if len(batch) >= most or batch.bytes >= MAX_BATCH_BYTES:
                    yield batch
                    batch = Batch()
            if len(batch):
                yield batch

    def _fields(self, row: Record) -> list[str] | Refusal:
        """The row's fields as text."""
        fields = row.fields[self._skipped :]
        if len(fields) != len(self.columns):
            return Refusal(row, "", f"the row has {counted(len(fields), 'field')}, the header {len(self.columns)}")
        return fields if is_utf8(fields) else Refusal(row, "", "the row is not UTF-8")

    def write_down(self, batch: Batch, refusals: Sequence[Refusal]) -> None:
        """Records a batch as settled, durably. Refused rows are written before the progress that counts them."""
        now = self.settled
        if refusals:
            now.refused_bytes = self._add_refused(refusals)
        now.position, now.accepted, now.refused = batch.end, now.accepted + len(batch) - len(refusals), now.refused + len(refusals)
        self._write()

    def finish(self) -> None:
        self.settled.finished = True
        self._write()

    def _write(self) -> None:
        unfinished = self.progress_file.with_suffix(".part")
        with unfinished.open("w") as file:
            json.dump(asdict(self.settled), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self.progress_file)
        folder = os.open(self.progress_file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _add_refused(self, refusals: Sequence[Refusal]) -> int:
        """Appends rows, byte for byte except for quoting, each preceded by the error. Returns the new length of the file.

        First truncates anything that an interrupted run appended after its last recorded progress.
        """
        with self.refused_file.open("ab") as out:
            if out.tell() > self.settled.refused_bytes:
                out.truncate(self.settled.refused_bytes)
                out.seek(0, os.SEEK_END)
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if not out.tell():
                writer.writerow((*REFUSED_COLUMNS, *self._names))
            for row, name, why in sorted(refusals):
                writer.writerow([row.start, name, why, *row.fields[self._skipped :]])
            out.write(text.getvalue().encode(errors="surrogateescape"))
            out.flush()
            os.fsync(out.fileno())
            return out.tell()


class ProgressDisplay:
    """Shows a progress bar in a terminal, otherwise prints a line every few seconds."""

    def __init__(self, console: Console, posting: Posting) -> None:
        self._console, self._posting = console, posting
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(), console=console
        )
        self._task = self._bar.add_task("", total=posting.bytes, completed=posting.settled.position)
        self._printed_at = time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def wait(self, reason: str) -> None:
        self._console.print(f"retrying: {reason}", markup=False, highlight=False)

    def advance(self) -> None:
        now = self._posting.settled
        line = f"{now.accepted:,} accepted, {now.refused:,} refused"
        self._bar.update(self._task, completed=now.position, description=line)
        if not self._console.is_terminal and time.monotonic() - self._printed_at > _PROGRESS_SECONDS:
            self._printed_at = time.monotonic()
            self._console.print(f"{now.position / self._posting.bytes:.0%}: {line}", highlight=False)


def post(console: Console, posting: Posting, url: str, key: str, *, most: int, patience_seconds: float) -> None:
    """Posts the rows that are not settled. Raises Stopped, InvalidFile; rows settled before remain settled."""
    with ProgressDisplay(console, posting) as shown, Client(url, key, patience_seconds, shown.wait) as client:
        for batch in posting.batches(most):
            refusals = batch.refusals + (settle(client, posting.path, batch.rows, batch.lines) if batch.lines else [])
            posting.write_down(batch, refusals)
            shown.advance()
    posting.finish()


def _date(text: str) -> str:
    """A date in the API's format. Raises argparse.ArgumentTypeError if it is invalid or the rules do not allow it."""
    found = moment(text)
    if found is None or not RULES.earliest_ms <= found <= time.time_ns() // 1_000_000 + RULES.max_ahead_ms:
        raise argparse.ArgumentTypeError(f"{text} is not {rule(Reason.DATE)}")
    return datetime.fromtimestamp(found / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_RECORDS:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {MAX_RECORDS}")
    return number


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"{text} is not an address such as http://127.0.0.1:8000")
    return text.rstrip("/")


def _arguments(arguments: Sequence[str] | None, of: Settings) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.ingest.post",
        description="Post a CSV file to the HTTP API. Run it again to continue where it stopped.",
        epilog="Exit status: 0 all rows accepted, 3 some refused (see FILE.refused.csv), 1 not finished (run it again), 2 wrong arguments.",
    )
    parser.add_argument("file", type=Path, help="CSV file with the Kaggle header")
    parser.add_argument("--kind", type=FileKind, choices=list(FileKind), required=True, help="what the file contains")
    parser.add_argument("--date", type=_date, help="date of observation of the products, which a CSV file does not contain")
    parser.add_argument(
        "--columns",
        type=columns_argument,
        default=of.columns,
        help="mapping for columns with other names in the file: price=Price,title=Name",
    )
    parser.add_argument("--url", type=_url, default=of.api_url, help="address of the API (default %(default)s)")
    parser.add_argument("--batch", type=_count, default=5_000, metavar="ROWS", help="rows per request (default %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS", help="how long to retry a batch (default %(default)g)"
    )
    parser.add_argument("--again", action="store_true", help="start over, even if rows have been posted before")
    given = parser.parse_args(arguments)
    if given.kind is FileKind.PRODUCT and given.date is None:
        parser.error("product files require --date, the date of observation, such as --date 2023-12-31")
    if given.kind is FileKind.CATEGORY and given.date is not None:
        parser.error("category files have no date: leave out --date")
    return given


def _run(given: argparse.Namespace, key: str, console: Console) -> int:
    try:
        posting = Posting(given.file, given.kind, given.date, given.url, given.columns)
        with posting.alone(anew=given.again):
            now = posting.settled
            if now.finished:
                console.print("already posted: use --again to post it again")
            else:
                if now.accepted or now.refused:
                    console.print(f"continuing after {counted(now.accepted + now.refused, 'row')}")
                post(console, posting, given.url, key, most=given.batch, patience_seconds=given.patience)
    except InvalidFile as reason:
        raise Stopped(f"{given.file}: {reason}") from None
    except OSError as error:
        raise Stopped(f"{error.filename or given.file}: {error.strerror or error}") from None
    console.print(f"{given.file}: {counted(now.accepted, 'row')} accepted, {now.refused:,} refused", markup=False)
    if now.refused:
        console.print(f"Refused rows and reasons: {posting.refused_file} (correct the rows there and post that file)", markup=False)
    return REFUSED if now.refused else ACCEPTED


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(highlight=False, soft_wrap=True)
    try:
        of = settings()
        return _run(_arguments(arguments, of), of.api_key.get_secret_value(), console)
    except ValidationError as error:
        for line in describe_errors(error):
            console.print(line, markup=False)
    except Stopped as reason:
        console.print(str(reason), markup=False)
    except KeyboardInterrupt:
        console.print("interrupted: run the same command again to continue")
    return STOPPED


if __name__ == "__main__":
    sys.exit(main())
