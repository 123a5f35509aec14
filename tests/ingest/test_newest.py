"""The newest state of each product, over files whose registration is known only once they have been read."""

from __future__ import annotations

from pathlib import Path

from support.csvs import OBSERVED_AT, REGISTERED_AT, csv_bytes, product

from tidemark.catalog.events import Event
from tidemark.catalog.observations import ProductObservation, product_observation
from tidemark.ingest.files import PRODUCT_COLUMNS, FileKind
from tidemark.ingest.newest import Newest
from tidemark.ingest.records import Origin, messages

AT = round(OBSERVED_AT.timestamp() * 1000)


def observed(*rows: list[str]) -> list[ProductObservation]:
    """Rows of one file, each of which is valid."""
    origin = Origin("a", FileKind.PRODUCT, PRODUCT_COLUMNS, OBSERVED_AT, REGISTERED_AT)
    content = csv_bytes(rows, ()).lstrip(b"\n")
    events = (Event("products", 0, 0, AT, one.key, one.value, tuple(one.headers)) for one in messages(content, 100, origin))  # type: ignore[arg-type]
    return [one for one in map(product_observation, events) if isinstance(one, ProductObservation)]


def test_the_later_registration_wins_in_any_reading_order(tmp_path: Path) -> None:
    """The first file is registered now, the second has been before: it is older."""
    with Newest(tmp_path) as newest:
        newest.add(observed(product(1, "10"), product(2, "20")))
        newest.end_file(200)
        newest.add(observed(product(2, "21"), product(3, "30")))
        newest.end_file(100)
        newest.add(observed(product(3, "31"), product(1, "11"), product(1, "12")))
        newest.end_file(200)
        (states,) = newest.batches()
    prices = {asin: state.fields[5] for asin, state in states.items()}
    assert prices == {"B0T0000001": 12.0, "B0T0000002": 20.0, "B0T0000003": 31.0}
    assert {state.version[:2] for state in states.values()} == {(AT, 200)}
    assert list(tmp_path.iterdir()) == []
