"""Separators, column orders and names: the same rows are the same events, whatever the layout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.csvs import BOM, OBSERVED_AT, MemoryFile, product, sent
from support.wording import Wording

from tidemark.ingest.files import CATEGORY_COLUMNS, PRODUCT_COLUMNS, FileKind, InvalidFile
from tidemark.ingest.layouts import SEPARATORS, UNMAPPED, columns_in, columns_of, header, layout
from tidemark.ingest.plan import Planned, plan

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


def written(columns: tuple[str, ...], rows: list[list[str]], separator: str, line_end: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    # All quoted: csv.writer quotes no carriage return that is none of its own line ends.
    csv.writer(text, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows([columns, *rows])
    return text.getvalue().encode()


def planned(content: bytes, named: Mapping[str, str] = UNMAPPED) -> Planned:
    return plan(MemoryFile(content), FileKind.PRODUCT, OBSERVED_AT, 300, named)


def values(content: bytes, named: Mapping[str, str] = UNMAPPED) -> list[tuple[bytes | None, Any]]:
    """Keys and values of a file's events."""
    return [(one.key, json.loads(one.value)) for one in sent(content, planned(content, named))]


@given(
    st.lists(st.lists(TEXTS, min_size=11, max_size=11), min_size=1, max_size=8),
    st.permutations(PRODUCT_COLUMNS),
    st.sampled_from(SEPARATORS),
    st.booleans(),
    st.dictionaries(st.sampled_from(PRODUCT_COLUMNS), st.uuids().map(str), max_size=11),
    st.sampled_from(("\n", "\r\n", "\r")),
)
def test_any_layout_gives_the_same_events(
    rows: list[list[str]], order: list[str], separator: str, bom: bool, named: dict[str, str], line_end: str
) -> None:
    as_kaggle = written(PRODUCT_COLUMNS, rows, ",")
    at = [PRODUCT_COLUMNS.index(column) for column in order]
    names = tuple(named.get(column, column) for column in order)
    other = (BOM if bom else b"") + written(names, [[row[index] for index in at] for row in rows], separator, line_end)
    assert values(other, named) == values(as_kaggle)


@pytest.mark.parametrize("separator", SEPARATORS)
def test_the_separator_is_detected_from_the_header(separator: str) -> None:
    row = product(1)
    row[1] = "a,b;c\td|e"
    content = written(PRODUCT_COLUMNS, [row], separator)
    assert layout(content, FileKind.PRODUCT).separator == separator
    assert values(content) == values(written(PRODUCT_COLUMNS, [row], ","))


def test_a_row_with_another_number_of_columns_is_sent_unchanged() -> None:
    content = written(PRODUCT_COLUMNS, [product(1)], ";") + b"one;two,three\r\n"
    *_, last = sent(content, planned(content))
    assert (last.key, last.value) == (None, b"one;two,three")


def test_additional_columns_are_kept() -> None:
    content = written((*PRODUCT_COLUMNS, "größe", ""), [[*product(1), "12", "x"]], ";")
    ((_, value),) = values(content)
    assert (value["größe"], value[""]) == ("12", "x")


def test_a_mapped_column_displaces_a_column_of_the_same_name() -> None:
    """`price` is what the file calls `now`; its own `price` is kept under another name."""
    columns = (*PRODUCT_COLUMNS, "now")
    content = written(columns, [[*product(1, price="7"), "5"]], ",")
    ((_, value),) = values(content, {"price": "now"})
    assert (value["price"], value["file:price"]) == ("5", "7")
    swapped = {"price": "listPrice", "listPrice": "price"}
    ((_, value),) = values(written(PRODUCT_COLUMNS, [product(1, price="7")], ","), swapped)
    assert (value["price"], value["listPrice"]) == ("0.0", "7")


def test_picture_and_link_columns_are_optional(wording: Wording) -> None:
    columns = tuple(one for one in PRODUCT_COLUMNS if one not in ("imgUrl", "productURL"))
    row = [text for column, text in zip(PRODUCT_COLUMNS, product(1), strict=True) if column in columns]
    content = written(columns, [row], ",")
    with pytest.raises(InvalidFile) as missing:
        planned(content)
    wording.check(str(missing.value))
    ((_, value),) = values(content, {"imgUrl": "", "productURL": ""})
    assert set(value) == {*columns, "date"}
    with pytest.raises(InvalidFile) as needed:
        planned(written(PRODUCT_COLUMNS, [product(1)], ","), {"price": ""})
    wording.check(str(needed.value), "needed")


def test_a_file_with_another_column_mapping_is_another_ingestion() -> None:
    """Otherwise a wrong mapping could not be corrected: the rows would count as sent."""
    content = written((*PRODUCT_COLUMNS, "now"), [[*product(1), "5"]], ",")
    first, corrected = planned(content), planned(content, {"price": "now"})
    assert first.ingestion["_id"] != corrected.ingestion["_id"]
    assert planned(content, {"price": "price"}).ingestion["_id"] == first.ingestion["_id"]
    assert planned(content, {"price": "now", "title": "title"}).ingestion["_id"] == corrected.ingestion["_id"]


INVALID_FILES = {
    "names the columns as the separator that fits best has them": (
        b"ASIN;Name;Price\nB0;Lamp;5\n",
        {},
    ),
    "a mapped column that is not there": (written(PRODUCT_COLUMNS, [product(1)], ";"), {"price": "Preis"}),
    "two columns of one name": (written((*PRODUCT_COLUMNS, "x", "x"), [[*product(1), "", ""]], "|"), {}),
}


@pytest.mark.parametrize("what", INVALID_FILES)
def test_invalid_layouts_are_refused(what: str, wording: Wording) -> None:
    content, named = INVALID_FILES[what]
    with pytest.raises(InvalidFile) as refused:
        planned(content, named)
    wording.check(str(refused.value))


def test_invalid_mappings_are_refused(wording: Wording) -> None:
    with pytest.raises(ValueError) as unknown:
        columns_of({"prize": "Price"})
    wording.check(str(unknown.value), "unknown")
    with pytest.raises(ValueError) as twice:
        columns_of({"imgUrl": "Link", "productURL": "Link"})
    wording.check(str(twice.value), "twice")
    with pytest.raises(ValueError) as taken:
        columns_of({"price": "listPrice"})
    wording.check(str(taken.value), "one of another name")
    assert columns_of({"imgUrl": "", "productURL": "", "id": "asin"})


def test_mappings_are_parsed_from_text(wording: Wording) -> None:
    assert columns_in("price=Preis, title = Product name ,imgUrl=") == {"price": "Preis", "title": "Product name", "imgUrl": ""}
    assert columns_in("") == {}
    with pytest.raises(ValueError) as refused:
        columns_in("price")
    wording.check(str(refused.value))


def test_layouts_apply_to_categories() -> None:
    content = written(("Name", "Nummer"), [["Luggage", "104"]], "\t")
    found = plan(MemoryFile(content), FileKind.CATEGORY, OBSERVED_AT, 100, {"id": "Nummer", "category_name": "Name"})
    (event,) = sent(content, found)
    assert (event.key, json.loads(event.value)) == (b"104", {"id": "104", "category_name": "Luggage"})
    assert header(["id", "category_name"], FileKind.CATEGORY) == CATEGORY_COLUMNS
