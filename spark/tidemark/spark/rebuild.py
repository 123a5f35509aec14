"""Rebuild: resets products, categories, quarantine and reports to a publication; the stream then continues from its mark.

Repair, rollback and recovery of lost data are this one operation. It is idempotent: if interrupted, it is run again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from pymongo.database import Database
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemark.catalog.epochs import first_of
from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import cells, ingestions, ledger, publications, rebuilds
from tidemark.serving.database import Document
from tidemark.serving.ledger import Category, Ledger
from tidemark.serving.publications import Publication
from tidemark.settings import Settings
from tidemark.spark import transforms
from tidemark.spark.compare import DIFFERENCE, ComparisonContext, QuarantineComparer
from tidemark.spark.lake import Lake
from tidemark.spark.log import describe_log
from tidemark.spark.rebuild_documents import DONE, ProductRemover, ProductRestorer, QuarantineHealer, QuarantineRestorer
from tidemark.spark.tasks import fencing
from tidemark.spark.verify import names, products, rejections, stored_products, stored_records

log = logging.getLogger(__name__)


class Rebuilt(NamedTuple):
    """The numbers of documents that a rebuild has written, deleted or healed."""

    products: int
    products_removed: int
    quarantined: int
    healed: int


def rebuild(spark: SparkSession, lake: Lake, database: Database[Document], number: int, of: Settings, rules: Rules = RULES) -> Rebuilt:
    """Rebuilds a publication, or a draft that has been recomputed.

    Preconditions are checked before anything is changed: raises NoPublication, TooManyCells, LostStates, OtherRules, TopicsRecreated, or
    MissingOffsets if the log does not reach back to the mark. An interrupted rebuild is finished by running it again, and another one takes
    it over. Raises Fenced if another rebuild takes over this one.
    """
    publication = publications.read(database, number)
    cells.require_at_most(of.max_cells, len(publications.cells(database, number)), f"publication {number}")
    lake.require_layers(publication.states())
    rebuilds.require_made_under(publication, rules)
    before = ledger.read(database)
    binding = publication.adoption.binding if publication.adoption else before.binding
    found = describe_log(of, binding)
    binding.require_topics(found.identities)
    found.require(publication.mark)
    own = rebuilds.begin(database, publication, rules)
    if publication.adoption:
        ingestions.reopen(database, publication.adoption.certain, first_of(binding.epoch))
    log.info("rebuilding publication %d at %s as generation %d", number, publication.mark, own.generation)
    with lake.tasks_for(binding.events_below(publication.mark)), fencing():
        categories = names(lake, publication)
        done = _restore(spark, lake, database, of, publication, own, categories)
    rebuilds.end(database, own, publication, categories)
    log.info("publication %d is served; products: %d written, %d removed; quarantine: %d written, %d healed", number, *done)
    return done


def _restore(
    spark: SparkSession,
    lake: Lake,
    database: Database[Document],
    of: Settings,
    publication: Publication,
    own: Ledger,
    categories: Mapping[int, Category],
) -> Rebuilt:
    whose = (of.batch_mongodb, database.name, rebuilds.tag(own))
    context = ComparisonContext(of.batch_mongodb, database.name, own, publication.mark, *of.topics)
    states, rejected = products(lake, publication), rejections(lake, publication)
    surplus = stored_products(spark, database, context).join(states.select("id"), "id", "left_anti")
    wrong = rejected.join(rejected.mapInArrow(QuarantineComparer(context), DIFFERENCE).select("id"), "id")
    healed = stored_records(spark, database, context).join(rejected.select("id"), "id", "left_anti").select("id")
    return Rebuilt(
        products_removed=_count(surplus.mapInArrow(ProductRemover(*whose), DONE)),
        products=_count(states.mapInArrow(ProductRestorer(*whose, categories), DONE)),
        quarantined=_count(_newest_rejections(lake, publication).join(wrong, "id").mapInArrow(QuarantineRestorer(*whose), DONE)),
        healed=_count(healed.mapInArrow(QuarantineHealer(*whose), DONE)),
    )


def _newest_rejections(lake: Lake, publication: Publication) -> DataFrame:
    """One event of each rejected source: the one that a micro-batch would keep."""
    rows = lake.states(publication.states(), "kind", "id", "version", "topic", "timestamp", "reason", "ingestion", "raw")
    return transforms.newest(rows.where(F.col("kind") == transforms.REJECTION))


def _count(done: DataFrame) -> int:
    """Runs the tasks and returns the number of documents. The sum is null if there was nothing to do."""
    return int(done.agg(F.sum("done")).collect()[0][0] or 0)
