"""How much one micro-batch may change: its transaction must fit in MongoDB's cache, and very many new cells wait for a person.

A catalog has a few thousand cells. A mapping that takes another column for the category makes a cell of each product. The number of all
cells is limited, too, because the transaction at the end of a rebuild may have to change them all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from tidemark.catalog.cube import Cell
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.words import counted
from tidemark.rendering.control import render_full, render_hold
from tidemark.serving import cells, control, ledger
from tidemark.serving.control import Held
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.ledger import MicroBatch
from tidemark.settings import Settings
from tidemark.settings.airflow_names import Dag
from tidemark.spark import transforms

# Documents that a transaction changes. Uncommitted changes take 2 to 3 KB each of a fifth of MongoDB's cache, which is 0.25 GB or more.
MAX_CHANGES = 20_000
# An event changes two: the cells of the product's states before and after, or a category and its cell.
EVENTS_OF_A_SMALL_BATCH = MAX_CHANGES // 2


class TooLarge(Exception):
    """The micro-batch changes more than one transaction should: the stream goes on in smaller ones."""


def require_small(batch: MicroBatch) -> None:
    """Raises TooLarge, before anything is committed."""
    changes = len(batch.differences) + 2 * len(batch.categories)
    if changes > MAX_CHANGES:
        raise TooLarge(
            f"micro-batch {batch.number} changes {counted(changes, 'document')}, more than a transaction should ({MAX_CHANGES:,}): "
            f"continuing with {EVENTS_OF_A_SMALL_BATCH:,} events at once"
        )


def require_accepted(
    database: Database[Document],
    generation: int,
    batch: MicroBatch,
    observed: DataFrame,
    accepted: TideMark,
    of: Settings,
) -> None:
    """Holds the stream for a person if the events beyond the mark `accepted` make very many new cells, or if there would be too many cells
    in all, which nobody can accept. `observed` are the rows of the micro-batch.

    Raises Held, or Fenced if the generation has been superseded.
    """
    changed = len(batch.differences)
    there = cells.count(database, near=of.max_cells - changed)
    if changed <= of.max_new_cells and there + changed <= of.max_cells:
        return
    new = cells.missing(database, batch.differences)
    is_full = there + len(new) > of.max_cells
    if len(new) <= of.max_new_cells and not is_full:
        return
    brought = {origin: those & new for origin, those in _brought(observed, TideMark() if is_full else accepted).items()}
    count = len(set[Cell]().union(*brought.values()))
    if count <= of.max_new_cells and not is_full:
        return
    sources = _named(database, {origin: len(those) for origin, those in brought.items() if those})
    dags = of.airflow_names.of(Dag.STREAM), of.airflow_names.of(Dag.WITHDRAW)
    if is_full:
        reason = render_full(batch.number, there + len(new), int(of.max_cells), sources, *dags)
    else:
        reason = render_hold(batch.number, count, int(of.max_new_cells), sources, *dags)

    def transaction(session: ClientSession) -> None:
        ledger.heartbeat(database, generation, session)
        control.hold(database, session, reason, batch.offsets, count)

    in_transaction(database, transaction)
    raise Held(reason)


def _brought(observed: DataFrame, accepted: TideMark) -> dict[str | None, set[Cell]]:
    """The cells of the newest states whose events lie beyond the mark, by ingestion; None is the HTTP API."""
    states = transforms.with_contributions(transforms.newest(observed.where(F.col("kind") == transforms.PRODUCT)))
    cell = ("ingestion", "topic", "version.partition", "category_id", "price_level", "isBestSeller")
    found: dict[str | None, set[Cell]] = defaultdict(set)
    for row in states.groupBy(*cell).agg(F.max("version.offset").alias("last")).collect():
        if row["last"] >= accepted[TopicPartition(row["topic"], row["partition"])]:
            found[row["ingestion"]].add(Cell(row["category_id"], row["price_level"], row["isBestSeller"]))
    return found


def _named(database: Database[Document], counts: Mapping[str | None, int]) -> list[tuple[str | None, str, int]]:
    """Ingestion, file name and number of cells, the most first."""
    files = {one["_id"]: one["name"] for one in database.ingestion.find({"_id": {"$in": [*counts]}}, {"name": True})}
    most = Counter(counts).most_common()
    return [(ingestion, files.get(ingestion, ""), count) for ingestion, count in most]
