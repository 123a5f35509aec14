"""Posts a CSV file to the HTTP API: `python -m tidemark.ingest.post FILE --kind product --date 2023-12-31`.

Beside FILE it keeps FILE.progress.json, which tells how far it has come, and FILE.refused.csv with the rows that the API refused, and
why. A run that was cut short goes on after the last batch whose answer it has written down. A batch whose answer was lost is posted
again, and so is one that Kafka has not acknowledged: that changes nothing, because batches go one after the other, so what comes twice
is still followed by what follows it in the file, and a product seen twice at the same moment with the same content is one state.

Exit status: 0 all rows are accepted, 3 some were refused, 1 it has not come to its end (the same command goes on), 2 wrong arguments.
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
from tidemark.catalog.words import rule
from tidemark.ingest.archives import member
from tidemark.ingest.files import DATE, FileKind, Record, UnfitFile, records
from tidemark.ingest.layouts import Columns, beginning, columns_argument, layout, names
from tidemark.settings import describe_errors, settings

ACCEPTED, STOPPED, REFUSED = 0, 1, 3

MOST_RECORDS = 10_000  # that the API takes at once
MOST_BATCH_BYTES = 8 * 1024 * 1024
PATIENCE_SECONDS = 600.0
LONGEST_WAIT_SECONDS = 30.0
TIMEOUT = httpx.Timeout(10, read=120, write=60)  # longer than the API may take to answer

REFUSED_COLUMNS = ("refused_byte", "refused_field", "refused_why")

_NUMBERS = frozenset(("stars", "reviews", "price", "listPrice", "category_id", "boughtInLastMonth", "id"))
_BOOLEANS = {"True": True, "False": False, "true": True, "false": False, "TRUE": True, "FALSE": False}
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_AGAIN = frozenset((408, 429, 500, 502, 503, 504))
_TELL_EVERY_SECONDS = 5.0


class Stopped(Exception):
    """It cannot go on; says why and what to do."""


class Refusal(NamedTuple):
    """A row that is not accepted: the field (empty where it is the row as a whole) and why."""

    row: Record
    field: str
    why: str


@dataclass
class Settled:
    """What is settled of a file: all before byte `position`. `refused_bytes` is the length of the file of refused rows."""

    of: dict[str, Any]
    position: int
    accepted: int = 0
    refused: int = 0
    refused_bytes: int = 0
    finished: bool = False


@dataclass
class Batch:
    """Rows up to byte `end`: those that go to the API with their JSON, and those that cannot be JSON."""

    rows: list[Record] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    bytes: int = 0
    end: int = 0

    def __len__(self) -> int:
        return len(self.lines) + len(self.refusals)


def typed(columns: Sequence[str], fields: Sequence[str], date: str | None) -> bytes:
    """A row as the API's JSON: numbers and booleans of the catalog as such, digit for digit, where JSON can hold them."""
    value: dict[str, Any] = {column: _typed(column, text) for column, text in zip(columns, fields, strict=True)}
    if date is not None:
        value[DATE] = date
    return orjson.dumps(value)


def _typed(column: str, text: str) -> object:
    if column in _NUMBERS and _JSON_NUMBER.fullmatch(text):
        return orjson.Fragment(text)
    return _BOOLEANS.get(text, text) if column == "isBestSeller" else text


class Client:
    """The API at a URL. It tries again what may pass by itself, for so long, and tells `say` what it waits for."""

    def __init__(self, url: str, key: str, patience_seconds: float, say: Callable[[str], object]) -> None:
        self._url, self._patience, self._say = url, patience_seconds, say
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, headers={b"X-API-Key": key.encode()} if key else {})

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, path: str, lines: Sequence[bytes]) -> httpx.Response:
        """The answer: 201, 413 or 422. Raises Stopped."""
        started, tried = time.monotonic(), 0
        while True:
            try:
                answer = self._http.post(path, content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
            except httpx.TransportError as error:
                reason, least = f"{self._url} does not answer: {error or type(error).__name__}", 0.0
            else:
                if answer.status_code in (201, 413, 422):
                    return answer
                if answer.status_code not in _AGAIN:
                    raise Stopped(self._why_not(answer))
                reason, least = f"{self._url} answers {answer.status_code}: {_detail(answer)}", _retry_after(answer)
            tried += 1
            wait = max(least, min(LONGEST_WAIT_SECONDS, 0.25 * 2**tried) * random.uniform(0.5, 1))
            if time.monotonic() - started + wait > self._patience:
                raise Stopped(f"{reason}. It was tried for {self._patience:g} s; once it works, the same command goes on where it stopped")
            self._say(reason)
            time.sleep(wait)

    def _why_not(self, answer: httpx.Response) -> str:
        match answer.status_code:
            case 401 | 403:
                return f"{self._url} wants another API key: set TIDEMARK_API_KEY to the server's"
            case 404 | 405:
                return f"there is no such API at {self._url}: give its address with --url, such as http://127.0.0.1:8000"
            case status:
                return f"{self._url} answers {status}: {_detail(answer)}"


def settle(client: Client, path: str, rows: Sequence[Record], lines: Sequence[bytes]) -> list[Refusal]:
    """Posts rows until each is accepted or refused; the refused ones. Raises Stopped."""
    answer = client.post(path, lines)
    if answer.status_code == 201:
        return []
    if answer.status_code == 413:
        if len(rows) == 1:
            return [Refusal(rows[0], "", "larger than the API takes")]
        half = len(rows) // 2
        return settle(client, path, rows[:half], lines[:half]) + settle(client, path, rows[half:], lines[half:])
    wrong = _faults(answer, len(rows))
    refusals = [Refusal(rows[number], *fault) for number, fault in wrong.items()]
    left = [number for number in range(len(rows)) if number not in wrong]
    return refusals + (settle(client, path, [rows[number] for number in left], [lines[number] for number in left]) if left else [])


def _faults(answer: httpx.Response, count: int) -> dict[int, tuple[str, str]]:
    """Field and rule by the number of the record. Stopped where the answer names none."""
    found: dict[int, tuple[str, str]] = {}
    try:
        for fault in answer.json()["detail"]:
            _, number, *fields = fault["loc"]
            found[number] = (".".join(map(str, fields)), fault["msg"])
    except (ValueError, KeyError, TypeError):
        found = {}
    if not found or not all(isinstance(number, int) and 0 <= number < count for number in found):
        raise Stopped(f"the API refuses the batch, and not for a row of it: {answer.text[:500]}")
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
    """A file on its way to the API, with what it keeps beside the file."""

    def __init__(self, file: Path, kind: FileKind, date: str | None, url: str, named: Columns) -> None:
        self.file, self.kind, self.date = file, kind, date
        self.path = "/AmazonProduct/batch" if kind is FileKind.PRODUCT else "/Category/batch"
        self.progress_file, self.refused_file = Path(f"{file}.progress.json"), Path(f"{file}.refused.csv")
        with file.open("rb") as raw:
            content = hashlib.file_digest(raw, "sha256").hexdigest()
        if member(file, kind, named) is not None:
            raise UnfitFile("it is compressed: unpack it and post what is in it")
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
        """Takes up what an earlier run has settled, unless it is to begin anew. Raises Stopped, also where another run is under way."""
        with self.file.open("rb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Stopped(f"{self.file} is being posted by another process") from None
            if anew or not self._take_up():
                self._write()
                self.refused_file.unlink(missing_ok=True)
            yield

    def _take_up(self) -> bool:
        """False where nothing has been settled."""
        try:
            found = Settled(**json.loads(self.progress_file.read_text()))
        except FileNotFoundError:
            return False
        except (ValueError, TypeError):
            raise Stopped(f"{self.progress_file} is not readable: remove it, or begin anew with --again") from None
        if not found.accepted and not found.refused:
            return False
        if other := [name for name, value in self._of.items() if found.of.get(name) != value]:
            what = ", ".join("content" if name == "sha256" else name for name in other)
            raise Stopped(f"{self.progress_file} is of a posting with another {what}: remove it, or begin anew with --again")
        self.settled = found
        return True

    def batches(self, most: int) -> Iterator[Batch]:
        """What is not settled, in the file's order. UnfitFile where a record has no end."""
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
                if len(batch) >= most or batch.bytes >= MOST_BATCH_BYTES:
                    yield batch
                    batch = Batch()
            if len(batch):
                yield batch

    def _fields(self, row: Record) -> list[str] | Refusal:
        """The row's fields as text."""
        fields = row.fields[self._skipped :]
        if len(fields) != len(self.columns):
            return Refusal(row, "", f"it has {len(fields)} fields, the header {len(self.columns)}")
        try:
            return [text if text.isascii() else text.encode("latin-1").decode() for text in fields]
        except UnicodeDecodeError:
            return Refusal(row, "", "it is not UTF-8")

    def write_down(self, batch: Batch, refusals: Sequence[Refusal]) -> None:
        """Makes a batch settled, durably: the refused rows first, so that a progress that counts them is never without them."""
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
        """Adds rows as they came, byte for byte but for quotation marks, each after what is wrong with it; the file's length then.

        What a run that was cut short has added after what it wrote down as settled is taken away before.
        """
        with self.refused_file.open("ab") as out:
            if out.tell() > self.settled.refused_bytes:
                out.truncate(self.settled.refused_bytes)
                out.seek(0, os.SEEK_END)
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            if not out.tell():
                writer.writerow(column.encode().decode("latin-1") for column in (*REFUSED_COLUMNS, *self._names))
            for row, name, why in sorted(refusals):
                writer.writerow([row.start, *(one.encode().decode("latin-1") for one in (name, why)), *row.fields[self._skipped :]])
            out.write(text.getvalue().encode("latin-1"))
            out.flush()
            os.fsync(out.fileno())
            return out.tell()


class Shown:
    """A bar where somebody looks on, a line every few seconds where output goes to a file."""

    def __init__(self, console: Console, posting: Posting) -> None:
        self._console, self._posting = console, posting
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(), console=console
        )
        self._task = self._bar.add_task("", total=posting.bytes, completed=posting.settled.position)
        self._told = time.monotonic()

    def __enter__(self) -> Shown:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def wait(self, reason: str) -> None:
        self._console.print(f"trying again: {reason}", markup=False, highlight=False)

    def advance(self) -> None:
        now = self._posting.settled
        line = f"{now.accepted:,} accepted, {now.refused:,} refused"
        self._bar.update(self._task, completed=now.position, description=line)
        if not self._console.is_terminal and time.monotonic() - self._told > _TELL_EVERY_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"{now.position / self._posting.bytes:.0%}: {line}", highlight=False)


def post(console: Console, posting: Posting, url: str, key: str, *, most: int, patience_seconds: float) -> None:
    """Posts what is not settled. Raises Stopped, UnfitFile; what has been settled by then stays so."""
    with Shown(console, posting) as shown, Client(url, key, patience_seconds, shown.wait) as client:
        for batch in posting.batches(most):
            refusals = batch.refusals + (settle(client, posting.path, batch.rows, batch.lines) if batch.lines else [])
            posting.write_down(batch, refusals)
            shown.advance()
    posting.finish()


def _date(text: str) -> str:
    """A date in the API's form. argparse.ArgumentTypeError where it is none, or none that the rules allow."""
    found = moment(text)
    if found is None or not RULES.earliest_ms <= found <= time.time_ns() // 1_000_000 + RULES.ahead_ms:
        raise argparse.ArgumentTypeError(f"{text} is not {rule(Reason.DATE)}")
    return datetime.fromtimestamp(found / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST_RECORDS:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MOST_RECORDS}")
    return number


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"{text} is no address such as http://127.0.0.1:8000")
    return text.rstrip("/")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.ingest.post",
        description="Posts a CSV file to the HTTP API, and goes on where it stopped.",
        epilog="Exit status: 0 all rows accepted, 3 some refused (FILE.refused.csv says why), 1 not finished (run it again), 2 usage.",
    )
    parser.add_argument("file", type=Path, help="CSV file with the Kaggle header")
    parser.add_argument("--kind", type=FileKind, choices=list(FileKind), required=True, help="what the file holds")
    parser.add_argument("--date", type=_date, help="when the products were like that; a CSV file does not say it")
    parser.add_argument(
        "--columns",
        type=columns_argument,
        default=settings().columns,
        help="columns that have other names in the file: price=Price,title=Name",
    )
    parser.add_argument("--url", type=_url, default=settings().api_url, help="the API's address (default %(default)s)")
    parser.add_argument("--batch", type=_count, default=5_000, metavar="ROWS", help="rows a request (default %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS", help="how long to try a batch again (default %(default)g)"
    )
    parser.add_argument("--again", action="store_true", help="begin anew, whatever has been posted")
    given = parser.parse_args(arguments)
    if given.kind is FileKind.PRODUCT and given.date is None:
        parser.error("--date: say when the products were like that, such as --date 2023-12-31")
    if given.kind is FileKind.CATEGORY and given.date is not None:
        parser.error("--date: categories have none")
    return given


def _run(given: argparse.Namespace, console: Console) -> int:
    try:
        posting = Posting(given.file, given.kind, given.date, given.url, given.columns)
        with posting.alone(anew=given.again):
            now = posting.settled
            if now.finished:
                console.print("posted before; --again posts it once more")
            else:
                if now.accepted or now.refused:
                    console.print(f"going on after {now.accepted + now.refused:,} rows")
                post(console, posting, given.url, settings().api_key.get_secret_value(), most=given.batch, patience_seconds=given.patience)
    except (UnfitFile, OSError) as reason:
        raise Stopped(f"{given.file}: {reason}") from None
    console.print(f"{given.file}: {now.accepted:,} rows accepted, {now.refused:,} refused", markup=False)
    if now.refused:
        console.print(f"Which and why: {posting.refused_file} (mend the rows there and post that file)", markup=False)
    return REFUSED if now.refused else ACCEPTED


def main(arguments: Sequence[str] | None = None) -> int:
    console = Console(highlight=False, soft_wrap=True)
    try:
        return _run(_arguments(arguments), console)
    except ValidationError as error:
        for line in describe_errors(error):
            console.print(line, markup=False)
    except Stopped as reason:
        console.print(str(reason), markup=False)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where it stopped")
    return STOPPED


if __name__ == "__main__":
    sys.exit(main())
