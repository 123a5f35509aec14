"""A file's layout: what separates its fields, and which of its columns is which of ours. Read from its first record, never guessed."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from tidemark.ingest.files import CATEGORY_COLUMNS, DATE, MOST_RECORD_BYTES, PRODUCT_COLUMNS, FileKind, Readable, UnfitFile, records

SEPARATORS = (",", ";", "\t", "|")
OPTIONAL = frozenset(("imgUrl", "productURL"))  # the rules let a product do without
ABSENT = ""  # in Columns: the file has no such column
DISPLACED = "file:"  # stands before a column that bears one of our names and is not what we mean by it

Columns = Mapping[str, str]  # by our name the file's, where it is another
AS_THEY_ARE: Columns = MappingProxyType({})


class Layout(NamedTuple):
    """`columns` by our names, in the file's order."""

    separator: str
    columns: tuple[str, ...]


def beginning(file: Readable) -> bytes:
    """As much of a file as a first record may have."""
    with file.open("rb") as raw:
        return bytes(raw.read(MOST_RECORD_BYTES + 1))


def layout(begins: bytes, kind: FileKind, named: Columns = AS_THEY_ARE) -> Layout:
    """The layout of a file of that kind which begins so: the separator with which its first record is the header.

    Raises UnfitFile with the columns found and needed, as the separator that makes most columns has them.
    """
    complaints = []
    for separator in SEPARATORS:
        first = next(records(io.BytesIO(begins), separator=separator), None)
        if first is None:
            raise UnfitFile("it is empty: was it written to its end?")
        try:
            return Layout(separator, header(first.fields, kind, named))
        except UnfitFile as reason:
            complaints.append((len(first.fields), reason))
    raise max(complaints, key=lambda one: one[0])[1]


def header(fields: Sequence[str], kind: FileKind, named: Columns = AS_THEY_ARE) -> tuple[str, ...]:
    """The columns that these fields, as Latin-1, name, by our names. Others may stand beside those needed.

    Raises UnfitFile where they are not the header of a file of that kind.
    """
    found = names(fields)
    theirs = {ours: named.get(ours, ours) for ours in kind.columns}
    if wanting := [ours for ours, name in theirs.items() if name == ABSENT and ours not in OPTIONAL]:
        raise UnfitFile(f"no {kind} can do without {', '.join(wanting)}: say which column of the file it is")
    needed = {name: ours for ours, name in theirs.items() if name != ABSENT}
    if missing := [name for name in needed if name not in found]:
        raise UnfitFile(
            f"the first line is not the header of a {kind} file: column {', '.join(missing)} is missing "
            f"(needed: {','.join(needed)}; found: {','.join(found)[:300]}). Where the columns have other names, say which is which"
        )
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise UnfitFile(f"the header names column {', '.join(twice)} twice: rename or remove one")
    if DATE in found:
        raise UnfitFile(f"the header has a column {DATE}, which the ingestion states: rename or remove it")
    return tuple(needed.get(name) or (DISPLACED + name if name in kind.columns else name) for name in found)


def names(fields: Sequence[str]) -> tuple[str, ...]:
    """Latin-1 fields as the UTF-8 text they are. UnfitFile where one is not."""
    try:
        return tuple(field.encode("latin-1").decode() for field in fields)
    except UnicodeDecodeError:
        raise UnfitFile("the header is not UTF-8: save the file as UTF-8") from None


def columns_of(named: Columns) -> Columns:
    """The same, checked. Raises ValueError where a name is none of ours, or two of ours are one of the file's."""
    ours = (*PRODUCT_COLUMNS, *CATEGORY_COLUMNS)
    if unknown := [name for name in named if name not in ours]:
        raise ValueError(f"{', '.join(unknown)} is no column of a catalog: those are {', '.join(ours)}")
    for kind in FileKind:
        theirs = [name for name in (named.get(one, one) for one in kind.columns) if name != ABSENT]
        if twice := sorted({name for name in theirs if theirs.count(name) > 1}):
            raise ValueError(
                f"column {', '.join(twice)} of the file cannot be two columns of a {kind}: say of the other one too which it is"
            )
    return named


def columns_in(text: str) -> Columns:
    """Columns written as price=Price,title=Product name. Raises ValueError as columns_of does, and where that is no such text."""
    pairs = [one.partition("=") for one in text.split(",") if one.strip()]
    if wrong := [ours for ours, sign, _ in pairs if not sign]:
        raise ValueError(f"'{wrong[0]}' names no column of the file: write price=Price,title=Name")
    return columns_of({ours.strip(): theirs.strip() for ours, _, theirs in pairs})


def columns_argument(text: str) -> Columns:
    """columns_in() as a command's argument takes it: what is wrong is told as argparse tells it."""
    try:
        return columns_in(text)
    except ValueError as reason:
        raise argparse.ArgumentTypeError(str(reason)) from None
