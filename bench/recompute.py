"""How long a night's recomputation takes: `python -m bench.recompute`. Prints one line of JSON.

`full`: ours makes the states and the cube of all raw events. Theirs is DuckDB, as many threads and as much memory, which makes the same
of the same Parquet files: it judges the fields by the same rules as far as generated catalogs break them, writes the newest state of
each product and all rejections to a file, and sums the cube from it. Both cubes must be equal. `incremental`: ours goes on from a
publication of all but the last events, theirs is our own full recomputation; the ratio is that of the times.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import SparkSession
from support.places import Place

from bench.histories import days_landed, draft_at, everything, land_day, spark_and_place
from bench.sides import Measured, in_turns, measured, print_line, report
from tidemark.catalog.cube import Cell
from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import RULES
from tidemark.ingest.generate import day_rows
from tidemark.serving import publications
from tidemark.serving.cells import Cells
from tidemark.spark.lake import Lake
from tidemark.spark.recompute import Mode, recompute

THREADS = 2  # as local[2] has
MILLION = 1_000_000

# One parse of each value. The header of a position makes a rejection's source, as the stream names it.
_STATES = f"""
WITH observed AS (
    SELECT topic, partition, "offset", timestamp, value,
        map_from_entries(list_transform(headers, lambda h: (h.key, decode(h.value)))) AS headers
    FROM read_parquet($files)
), parsed AS (
    SELECT *, CASE WHEN headers['tide-format'] <> 'csv' AND json_valid(decode(value)) THEN json_transform(decode(value),
        '{{"asin": "VARCHAR", "title": "VARCHAR", "imgUrl": "VARCHAR", "productURL": "VARCHAR", "stars": "VARCHAR", "reviews": "VARCHAR",
          "price": "VARCHAR", "listPrice": "VARCHAR", "category_id": "VARCHAR", "isBestSeller": "VARCHAR",
          "boughtInLastMonth": "VARCHAR", "date": "VARCHAR"}}') END AS r
    FROM observed
), read AS (
    SELECT topic, partition, "offset", timestamp, value,
        headers['tide-ingestion'] AS ingestion, TRY_CAST(headers['tide-position'] AS BIGINT) AS position,
        TRY_CAST(headers['tide-registered-at'] AS BIGINT) AS registered_at,
        r IS NULL AS malformed, r.asin, r.title, r.imgUrl, r.productURL,
        TRY_CAST(r.stars AS DOUBLE) AS stars, CAST(round(TRY_CAST(r.stars AS DECIMAL(18, 9)) * 10) AS BIGINT) AS stars_tenths,
        TRY_CAST(r.reviews AS BIGINT) AS reviews,
        TRY_CAST(r.price AS DOUBLE) AS price, CAST(round(TRY_CAST(r.price AS DECIMAL(18, 9)) * 100) AS BIGINT) AS price_cents,
        TRY_CAST(r.listPrice AS DOUBLE) AS listPrice,
        CAST(round(TRY_CAST(r.listPrice AS DECIMAL(18, 9)) * 100) AS BIGINT) AS list_price_cents,
        TRY_CAST(r.category_id AS BIGINT) AS category_id, TRY_CAST(r.isBestSeller AS BOOLEAN) AS isBestSeller,
        TRY_CAST(r.boughtInLastMonth AS BIGINT) AS boughtInLastMonth, epoch_ms(TRY_CAST(r.date AS TIMESTAMPTZ)) AS observed_at
    FROM parsed
), validated AS (
    SELECT *, CASE
        WHEN malformed THEN 'malformed'
        WHEN NOT coalesce(regexp_full_match(asin, '{RULES.asin}'), false) THEN 'asin'
        WHEN title IS NULL THEN 'title'
        WHEN NOT coalesce(stars_tenths BETWEEN 0 AND {RULES.max_stars * 10}, false) THEN 'stars'
        WHEN NOT coalesce(reviews BETWEEN 0 AND {RULES.max_count}, false) THEN 'reviews'
        WHEN NOT coalesce(boughtInLastMonth BETWEEN 0 AND {RULES.max_count}, false) THEN 'boughtInLastMonth'
        WHEN NOT coalesce(price_cents BETWEEN 0 AND {RULES.max_dollars * 100}, false) THEN 'price'
        WHEN NOT coalesce(list_price_cents BETWEEN 0 AND {RULES.max_dollars * 100}, false) THEN 'listPrice'
        WHEN NOT coalesce(category_id BETWEEN 1 AND {RULES.max_id}, false) THEN 'category_id'
        WHEN isBestSeller IS NULL THEN 'isBestSeller'
        WHEN NOT coalesce(observed_at BETWEEN {RULES.earliest_ms} AND timestamp + {RULES.max_ahead_ms}, false) THEN 'date'
        END AS reason
    FROM read
), versions AS (
    SELECT reason IS NOT NULL AS rejected, CASE WHEN reason IS NULL THEN asin ELSE ingestion || ':' || position END AS id,
        CASE WHEN reason IS NOT NULL THEN {{t: topic, p: partition, o: "offset"}} END AS event,
        {{observed_at: CASE WHEN reason IS NULL THEN observed_at ELSE 0 END, registered_at: registered_at, position: position,
         partition: partition,
          "offset": "offset"}} AS version,
        {{title: title, imgUrl: imgUrl, productURL: productURL, stars: stars, stars_tenths: stars_tenths, reviews: reviews, price: price,
          price_cents: price_cents, listPrice: listPrice, list_price_cents: list_price_cents, category_id: category_id,
          isBestSeller: isBestSeller, boughtInLastMonth: boughtInLastMonth, topic: topic, timestamp: timestamp, reason: reason,
          ingestion: ingestion, raw: CASE WHEN reason IS NOT NULL THEN value END}} AS state
    FROM validated
)
SELECT rejected, id, event, max(version) AS version, arg_max(state, version) AS state FROM versions GROUP BY rejected, id, event
"""

_LEVEL = f"least(price_cents // {RULES.level_dollars * 100} * {RULES.level_dollars}, {RULES.top_level_dollars})"
_CUBE = f"""
WITH product AS (SELECT unnest(state) FROM read_parquet($states) WHERE NOT rejected),
known AS (SELECT *, list_price_cents > price_cents AND price_cents > 0 AS discounted FROM product)
SELECT category_id, CASE WHEN price_cents > 0 THEN {_LEVEL} END, isBestSeller,
    count(*), count_if(price_cents > 0), sum(price_cents), count_if(stars_tenths > 0), sum(stars_tenths), sum(reviews),
    sum(boughtInLastMonth), count_if(discounted), coalesce(sum(list_price_cents) FILTER (discounted), 0),
    coalesce(sum(list_price_cents - price_cents) FILTER (discounted), 0)
FROM known GROUP BY ALL
"""


def in_duckdb(files: list[str], folder: Path, memory: str) -> dict[Cell, tuple[int, ...]]:
    """The cube of these files; states are left in the folder."""
    states = folder / "states.parquet"
    with duckdb.connect(config={"threads": THREADS, "memory_limit": memory + "b", "temp_directory": str(folder)}) as peer:
        peer.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        peer.execute(f"COPY ({_STATES.replace('$files', str(files))}) TO '{states}'")
        rows = peer.execute(_CUBE.replace("$states", f"'{states}'")).fetchall()
    return {Cell(category, level, best): tuple(map(int, sums)) for category, level, best, *sums in rows}


def max_memory_mb(spark: SparkSession) -> int:
    """The most that the JVM has had in memory so far, heap and all."""
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    process = jvm.java.lang.ProcessHandle.current().pid()
    (line,) = (one for one in Path(f"/proc/{process}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


class Night:
    """Recomputations of all below a mark."""

    def __init__(self, here: Place, spark: SparkSession, lake: Lake, mark: TideMark) -> None:
        self.here, self.lake, self.mark = here, lake, mark
        self.events = TideMark().behind(mark)
        self.files = sorted(
            one.removeprefix("file://") for one in spark.read.format("delta").load(f"{here.settings.lake_url}/events").inputFiles()
        )
        self.folder = here.settings.home / "duckdb"
        self.folder.mkdir(exist_ok=True)
        self.cubes: dict[str, Cells] = {}

    def ours(self, mode: Mode) -> Measured:
        number = draft_at(self.here, self.mark)
        found = measured(self.events, lambda: recompute(self.lake, self.here.database, number, self.here.settings, mode), everything)
        self.cubes["ours"] = {cell: tuple(sums) for cell, sums in publications.cells(self.here.database, number).items()}
        self.number = number
        print_line(f"{self.events:,} events {mode.value} by us: {self.events / found.rate:.1f} s")
        return found

    def theirs(self) -> Measured:
        def work() -> None:
            self.cubes["theirs"] = in_duckdb(self.files, self.folder, self.here.settings.batch_memory)

        found = measured(self.events, work, everything)
        print_line(f"{self.events:,} events by DuckDB: {self.events / found.rate:.1f} s")
        return found

    def against_duckdb(self, rounds: int) -> dict[str, Any]:
        found = in_turns(rounds, lambda _: self.ours(Mode.FULL), lambda _: self.theirs())
        if self.cubes["ours"] != self.cubes["theirs"]:
            raise RuntimeError("the two cubes differ")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recompute")
    parser.add_argument("--products", type=int, default=1_400_000, help="in each day's file")
    parser.add_argument("--days", type=int, default=1, help="ten of the default make 14 million events (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with spark_and_place("bench-recompute") as (spark, here):
        lake = Lake(spark, here.settings.lake_url)
        night = Night(here, spark, lake, days_landed(here, spark, lake, given.products, range(given.days)))
        for _ in range(1 if night.events > 5 * MILLION else 2):
            night.ours(Mode.FULL)  # the first of a JVM compiles
        comparisons = {"full": night.against_duckdb(given.rounds)}

        if not publications.publish(here.database, night.number, RULES.fingerprint()):
            raise RuntimeError("the full recomputation cannot be published")
        change = islice(day_rows(given.products, 1, given.days), night.events // 20)
        later = Night(here, spark, lake, land_day(here, spark, lake, change, given.days))
        later.ours(Mode.INCREMENTAL)
        comparisons["incremental"] = in_turns(given.rounds, lambda _: later.ours(Mode.INCREMENTAL), lambda _: later.ours(Mode.FULL))
        most = max_memory_mb(spark)
    reach = {"full": 1 / 3, "incremental": 10}
    report("recompute", "events/s", comparisons, reach=reach, events=night.events, files=len(night.files), jvm_max_mb=most)


if __name__ == "__main__":
    main()
