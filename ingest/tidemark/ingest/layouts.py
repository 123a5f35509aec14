"""A file's layout: its separator, and how its columns map to ours. Read from the header, never guessed."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple

from tidemark.catalog.words import counted
from tidemark.ingest.files import (
    CATEGORY_COLUMNS,
    DATE,
    MAX_RECORD_BYTES,
    PRODUCT_COLUMNS,
    FileKind,
    InvalidFile,
    Readable,
    is_utf8,
    records,
)

SEPARATORS = (",", ";", "\t", "|")
OPTIONAL = frozenset(("imgUrl", "productURL"))  # the rules do not require them
_ALIKE = 0.7  # of 1, as difflib measures it
ABSENT = ""  # in Columns: the file has no such column
DISPLACED = "file:"  # prefix of a file's column that has one of our names but a different meaning

Columns = Mapping[str, str]  # our name -> the name in the file, where they differ
UNMAPPED: Columns = MappingProxyType({})


class Layout(NamedTuple):
    """`columns` are our names, in the file's order."""

    separator: str
    columns: tuple[str, ...]


def beginning(file: Readable) -> bytes:
    """The beginning of a file: one byte more than the longest possible first record."""
    with file.open("rb") as raw:
        return bytes(raw.read(MAX_RECORD_BYTES + 1))


def layout(begins: bytes, kind: FileKind, named: Columns = UNMAPPED) -> Layout:
    """The layout of a file of that kind that begins with these bytes: the separator that makes its first record a valid header.

    Raises InvalidFile with the columns found and required, for the separator that yields most columns.
    """
    problems = []
    for separator in SEPARATORS:
        first = next(records(io.BytesIO(begins), separator=separator), None)
        if first is None:
            raise InvalidFile("the file is empty: check that it was written completely")
        try:
            return Layout(separator, header(first.fields, kind, named))
        except InvalidFile as reason:
            problems.append((len(first.fields), reason))
    raise max(problems, key=lambda one: one[0])[1]


def header(fields: Sequence[str], kind: FileKind, named: Columns = UNMAPPED) -> tuple[str, ...]:
    """The columns of a header, by our names. Additional columns are allowed.

    Raises InvalidFile if this is not the header of a file of that kind.
    """
    found = names(fields)
    theirs = {ours: named.get(ours, ours) for ours in kind.columns}
    if unmapped := [ours for ours, name in theirs.items() if name == ABSENT and ours not in OPTIONAL]:
        raise InvalidFile(
            f"the column mapping leaves out {listed(unmapped, 'column')}, required in a {kind} file: map every required column"
        )
    needed = {name: ours for ours, name in theirs.items() if name != ABSENT}
    if missing := [name for name in needed if name not in found]:
        raise InvalidFile(
            f"the first line is not the header of a {kind} file: missing {listed(missing, 'column')} "
            f"(required: {','.join(needed)}; {_found(found, needed)}). If the file uses other names, give a column mapping"
        )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise InvalidFile(f"the header contains {listed(twice, 'column')} more than once: rename or remove the duplicates")
    if DATE in found:
        raise InvalidFile(f"the header contains a column {DATE}, but the ingestion sets the date: rename or remove that column")
    return tuple(needed.get(name) or (DISPLACED + name if name in kind.columns else name) for name in found)


def _found(found: Sequence[str], needed: Iterable[str]) -> str:
    """The columns found, by name only where they resemble what is needed: in another file they would be its content."""
    by_letters = {name.lower(): name for name in found}
    alike = {match for name in needed for match in get_close_matches(name.lower(), by_letters, 3, _ALIKE)}
    similar = [name for letters, name in by_letters.items() if letters in alike]
    return f"found: {counted(len(found), 'column')}{', such as ' + ','.join(similar)[:300] if similar else ''}"


def names(fields: Sequence[str]) -> tuple[str, ...]:
    """The names in a header. Raises InvalidFile if one is not UTF-8."""
    if not is_utf8(fields):
        raise InvalidFile("the header is not UTF-8: save the file as UTF-8")
    return tuple(fields)


def columns_of(named: Columns) -> Columns:
    """The mapping, validated. Raises ValueError for a name that is not ours, or if two of ours map to one column of the file."""
    ours = (*PRODUCT_COLUMNS, *CATEGORY_COLUMNS)
    if unknown := [name for name in named if name not in ours]:
        raise ValueError(f"unknown {listed(unknown, 'column')} (valid names: {', '.join(ours)})")
    for kind in FileKind:
        theirs = [name for name in (named.get(one, one) for one in kind.columns) if name != ABSENT]
        if twice := sorted({name for name in theirs if theirs.count(name) > 1}):
            raise ValueError(
                f"{listed(twice, 'column')} of the file would be used for two {kind} columns: map one of them to another column"
            )
    return named


def columns_in(text: str) -> Columns:
    """Parses a mapping written as price=Price,title=Product name. Raises ValueError for other text, and as columns_of does."""
    pairs = [one.partition("=") for one in text.split(",") if one.strip()]
    if wrong := [ours for ours, sign, _ in pairs if not sign]:
        raise ValueError(f"'{wrong[0]}' is not a column mapping: write it as price=Price,title=Name")
    return columns_of({ours.strip(): theirs.strip() for ours, _, theirs in pairs})


def columns_argument(text: str) -> Columns:
    """columns_in() for argparse: errors are reported as argparse reports them."""
    try:
        return columns_in(text)
    except ValueError as reason:
        raise argparse.ArgumentTypeError(str(reason)) from None


def listed(names: Sequence[str], noun: str) -> str:
    """Names after their noun: column a; columns a, b."""
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names)}"
