"""CSV files of every kind, and what ingestion must make of them, worked out from the whole file at once by csv.reader."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from tidemark.ingest.files import CATEGORY_COLUMNS, PRODUCT_COLUMNS, FileKind
from tidemark.ingest.plan import Planned
from tidemark.ingest.records import Headers, Message, Origin, messages

BOM = b"\xef\xbb\xbf"
OBSERVED_AT = datetime(2023, 10, 31, 12, 30, 0, 789_000, UTC)
REGISTERED_AT = datetime(2023, 11, 2, 8, 0, 0, 123_000, UTC)
LINE_ENDS = ("\n", "\r\n", "\r")

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True)
class MemoryFile:
    """A file whose bytes are held in memory."""

    content: bytes
    name: str = "rows.csv"

    def __str__(self) -> str:
        return f"memory/{self.name}"

    def open(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self.content)


class Row(NamedTuple):
    """A record: its first byte and the byte after its line end, its bytes without that, its fields or None where it goes as it is."""

    position: int
    end: int
    raw: bytes
    fields: list[str] | None


def read_whole(content: bytes) -> tuple[list[str], int, list[Row]]:
    """A file's columns, the byte after its header, and its rows."""
    start = len(BOM) if content.startswith(BOM) else 0
    lines = _LINE.findall(content[start:].decode("utf-8", "surrogateescape"))
    ends = [start]
    for line in lines:
        ends.append(ends[-1] + len(line.encode("utf-8", "surrogateescape")))
    reader = csv.reader(lines)
    found: list[tuple[int, int, list[str]]] = []
    taken = 0
    for fields in reader:
        if fields:
            found.append((ends[taken], ends[reader.line_num], fields))
        taken = reader.line_num
    (_, header_end, columns), *rest = found
    return columns, header_end, [_row(content[begin:end], begin, fields, len(columns)) for begin, end, fields in rest]


def _row(record: bytes, position: int, fields: list[str], columns: int) -> Row:
    utf8 = not re.search("[\ud800-\udfff]", "".join(fields))
    return Row(
        position, position + len(record), re.sub(rb"(\r\n|\r|\n)\Z", b"", record), fields if utf8 and len(fields) == columns else None
    )


def expected(content: bytes, kind: FileKind, identity: str) -> list[Message]:
    """The events of a file, as the contract has them."""
    columns, _, rows = read_whole(content)
    made = []
    for row in rows:
        headers: Headers = [
            ("tide-source", b"csv"),
            ("tide-format", b"csv" if row.fields is None else b"json"),
            ("tide-ingestion", identity.encode()),
            ("tide-position", b"%d" % row.position),
            ("tide-registered-at", b"1698912000123"),
        ]
        if row.fields is None:
            made.append(Message(None, row.raw, headers))
            continue
        value = dict(zip(columns, row.fields, strict=True)) | ({"date": "2023-10-31T12:30:00.789Z"} if kind is FileKind.PRODUCT else {})
        key = value["asin" if kind is FileKind.PRODUCT else "id"].encode()
        made.append(Message(key or None, json.dumps(value).encode(), headers))
    return made


def sent(content: bytes, planned: Planned) -> list[Message]:
    """The events of all chunks of a plan, one chunk after another, each read on its own."""
    ingestion = planned.ingestion
    kind, columns = FileKind(ingestion["kind"]), tuple(ingestion["columns"])
    origin = Origin(ingestion["_id"], kind, columns, ingestion["observed_at"], REGISTERED_AT, ingestion["separator"])
    return [one for chunk in planned.chunks for one in messages(content[chunk.start : chunk.end], chunk.start, origin)]


def plain(message: Message) -> tuple[bytes | None, Any, dict[str, Any]]:
    """A message for comparison: its value parsed where it is JSON, its headers by name, each of which may come once."""
    headers = dict(message.headers)
    assert len(headers) == len(message.headers), f"a header comes twice: {message.headers}"
    return message.key, json.loads(message.value) if headers["tide-format"] == b"json" else message.value, headers


def csv_bytes(rows: Sequence[Sequence[str]], columns: Sequence[str] = PRODUCT_COLUMNS) -> bytes:
    """A plain file: header and rows, as csv.writer writes them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def product(index: int, price: str = "12.5") -> list[str]:
    """A product's row, all of it valid."""
    asin = f"B0T{index:07d}"
    images, shop = f"https://images.example/{index}.jpg", f"https://shop.example/dp/{asin}"
    return [asin, f"Lamp, {index}", images, shop, "4.5", "12", price, "0.0", str(1 + index % 9), "False", "50"]


def products(count: int, price: str = "12.5") -> bytes:
    """A file of valid products."""
    return csv_bytes([product(index, price) for index in range(count)])


def categories(count: int) -> bytes:
    """A file of valid categories."""
    return csv_bytes([(str(number), f"Category {number}") for number in range(1, count + 1)], CATEGORY_COLUMNS)


_TEXTS = (
    "",
    "plain",
    "a, b",
    'say "so"',
    "two\nlines",
    "three\r\nline\rends",
    " spaced ",
    "Größe",
    "日本製 😀",
    "NULL",
    "\x00",
    '"',
    ",",
    "\n",
)
_WILD = (
    *(b"", b" ", b",", b",,,,,,,,,,", b'""', b"only one", b"a,b,c", b"\xff\xfe,latin", b"caf\xe9" + b"," * 10, b"x" * 300),
    *(b'"quoted",text"after,"', BOM + b"B0T", b"\x00", b"1,2,3,4,5,6,7,8,9,10,11,12", b'"a""b",\'c\''),
)  # fmt: skip


def any_products(random: Random, rows: int) -> bytes:
    """A product file of mixed line ends and quoting, with rows that are ragged or not UTF-8, and empty lines."""
    content = bytearray(BOM if random.random() < 0.5 else b"")
    ends = random.choice(((random.choice(LINE_ENDS),), LINE_ENDS))
    for index in range(-1, rows):
        end = random.choice(ends).encode()
        if index >= 0 and random.random() < 0.1:
            content += random.choice(_WILD) + end
        row = list(PRODUCT_COLUMNS) if index < 0 else [f"B0T{random.randrange(10**7):07d}", *(random.choice(_TEXTS) for _ in range(10))]
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="", quoting=random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))).writerow(row)
        content += text.getvalue().encode() + end
        while index >= 0 and random.random() < 0.1:
            content += random.choice(ends).encode()
    return bytes(content.rstrip(b"\r\n") if random.random() < 0.3 else content)
