"""CSV files all the way to the reports, which must be those of a recomputation from the files themselves."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from support.catalogs import EVERY_KIND_OF_ROW, SAMPLE_CATEGORIES, SAMPLE_PRODUCTS, CsvFile, ingest, read, send_part, wrong_reports
from support.places import Place
from support.streams import stream, wait_until_served

from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write

pytestmark = pytest.mark.servers


@pytest.mark.soak(proof="stack")
@pytest.mark.skipif(not SAMPLE_PRODUCTS.exists(), reason="the real sample data is not at hand")
def test_a_sample_of_the_real_catalog(place: Place) -> None:
    files = [read(SAMPLE_CATEGORIES, FileKind.CATEGORY, "2023-12-31"), read(SAMPLE_PRODUCTS, FileKind.PRODUCT, "2023-12-31")]
    ingest(place, files, chunk_bytes=64 * 1024)
    with stream() as running:
        wait_until_served(place, running)
    expected = [CsvFile(SAMPLE_CATEGORIES, "category", "2023-12-31", 1), CsvFile(SAMPLE_PRODUCTS, "product", "2023-12-31", 2)]
    assert wrong_reports(place.database, expected) == []
    assert place.database.product.count_documents({}) > 1_000


def test_days_in_any_order_repeated_and_interrupted_give_exact_reports(place: Place, tmp_path: Path) -> None:
    categories, *days = write(1_500, 4, seed=5, out=tmp_path, first_day=date(2024, 1, 1))
    bad = tmp_path / "bad.csv"
    bad.write_bytes(EVERY_KIND_OF_ROW)
    dates = {path: path.stem.removeprefix("products_") for path in days} | {bad: "2024-01-02"}
    # Newest first, then older ones: what was true counts, not what came last.
    order = [days[2], days[0], bad, days[3], days[1]]
    with stream() as running:
        ingest(place, [read(categories, FileKind.CATEGORY, "2024-01-01")], chunk_bytes=1_000)
        for path in order:
            file = read(path, FileKind.PRODUCT, dates[path])
            send_part(place, file, chunk_bytes=20_000)
            ingest(place, [file], chunk_bytes=20_000)
        sent = place.ends()
        ingest(place, [read(path, FileKind.PRODUCT, dates[path]) for path in order], chunk_bytes=7_000)
        assert place.ends() == sent, "a file that was told before has been sent again"
        wait_until_served(place, running)
    expected = [CsvFile(categories, "category", "2024-01-01", 0)]
    expected += [CsvFile(path, "product", dates[path], number) for number, path in enumerate(order, start=1)]
    assert wrong_reports(place.database, expected) == []
