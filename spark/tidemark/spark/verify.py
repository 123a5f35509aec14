"""Verification: compares what the speed layer has made of the events below a draft's mark with what the batch layer makes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from pymongo.database import Database
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from tidemark.catalog.marks import TideMark
from tidemark.catalog.versions import CategoryVersion
from tidemark.catalog.words import counted
from tidemark.serving import cells, ingestions, ledger, plausibility, publications, verifications
from tidemark.serving.database import Document
from tidemark.serving.documents import VerificationDocument
from tidemark.serving.ledger import Category, Ledger
from tidemark.serving.publications import Cut, Publication, StaleDraft
from tidemark.serving.snapshot import snapshot
from tidemark.serving.verifications import DifferenceKind, Differences, NotVerified
from tidemark.settings import Settings
from tidemark.spark import transforms
from tidemark.spark.compare import (
    DIFFERENCE,
    FOUND,
    ComparisonContext,
    ProductComparer,
    ProductFinder,
    QuarantineComparer,
    QuarantineFinder,
    Range,
    ranges,
)
from tidemark.spark.lake import Lake

log = logging.getLogger(__name__)

_RANGES = 8  # tasks that scan a collection

# The columns of a product's state from which its document is made.
PRODUCT_COLUMNS = (
    *("kind", "id", "version", "topic", "title", "imgUrl", "productURL", "stars", "stars_tenths", "reviews", "price", "price_cents"),
    *("listPrice", "list_price_cents", "category_id", "isBestSeller", "boughtInLastMonth"),
)


def verify(spark: SparkSession, lake: Lake, database: Database[Document], number: int, of: Settings) -> VerificationDocument:
    """Verifies a draft, stores the verification and returns it.

    Raises StaleDraft if a rebuild has begun since the cut, NoPublication, LostStates.
    """
    draft = publications.read(database, number)
    if draft.cut is None or draft.published_at is not None:
        try:
            found_before = verifications.read(database, number)
        except NotVerified:
            raise StaleDraft(f"publication {number} was published by a rebuild without a verification: start again at cut") from None
        log.info("publication %d has already been published: this is its earlier verification", number)
        return found_before
    lake.require_layers(draft.states())
    # Read first, so that later commits lie beyond the mark.
    own = ledger.read(database)
    context = ComparisonContext(of.batch_mongodb, database.name, own, draft.mark, *of.topics)
    categories = names(lake, draft)
    served, cube = publications.cells(database, draft.cut.served), publications.cells(database, number)
    cut = publications.cut_cells(database, number)
    with lake.tasks_for(own.binding.events_below(draft.mark)):
        found = {
            DifferenceKind.CELL: verifications.of_cells(cube, cut),
            DifferenceKind.PRODUCT: _products(spark, lake, database, draft, context, categories),
            DifferenceKind.CATEGORY: verifications.first(_categories(database, context, categories)),
            DifferenceKind.QUARANTINE: _quarantine(spark, lake, database, draft, context),
        }
        reconciled, found[DifferenceKind.INGESTION] = _ingestions(spark, lake, database, draft.mark)
    _require_no_rebuild_since(draft, draft.cut, ledger.read(database))
    former = publications.read(database, draft.cut.served)
    return verifications.store(database, draft, former, found, reconciled, plausibility.compare(served, cube, cut))


def names(lake: Lake, publication: Publication) -> dict[int, Category]:
    """The newest names of categories below a publication's mark."""
    rows = lake.states(publication.states(), "kind", "id", "version", "topic", "category_id", "category_name")
    return {
        row["category_id"]: Category(row["category_name"], CategoryVersion(*(row["version"][name] for name in CategoryVersion._fields)))
        for row in rows.where(F.col("kind") == transforms.CATEGORY).collect()
    }


def products(lake: Lake, publication: Publication) -> DataFrame:
    """The product states of a publication, with the columns from which documents are made."""
    rows = lake.states(publication.states(), *PRODUCT_COLUMNS)
    return transforms.with_contributions(rows.where(F.col("kind") == transforms.PRODUCT))


def rejections(lake: Lake, publication: Publication) -> DataFrame:
    """The rejected sources below a publication's mark: id, and `events` with topic, partition, offset and reason of each."""
    rows = lake.states(publication.states(), "kind", "id", "version", "topic", "reason")
    event = F.struct("topic", F.col("version.partition").alias("partition"), F.col("version.offset").alias("offset"), "reason")
    return rows.where(F.col("kind") == transforms.REJECTION).groupBy("id").agg(F.collect_list(event).alias("events"))


def scanned(spark: SparkSession, found: Iterable[Range]) -> DataFrame:
    """Ranges of keys, one per task."""
    rows = list(found)
    return spark.createDataFrame(rows, "least string, below string").repartition(len(rows), "least")


def stored_products(spark: SparkSession, database: Database[Document], context: ComparisonContext) -> DataFrame:
    """The bookkeeping of all products in MongoDB, as rows of compare.FOUND."""
    return scanned(spark, ranges(database.product, _RANGES)).mapInArrow(ProductFinder(context), FOUND)


def stored_records(spark: SparkSession, database: Database[Document], context: ComparisonContext) -> DataFrame:
    """The quarantine records in MongoDB that should belong to a rejection below the mark."""
    return scanned(spark, ranges(database.quarantine, _RANGES)).mapInArrow(QuarantineFinder(context), DIFFERENCE)


def _products(
    spark: SparkSession,
    lake: Lake,
    database: Database[Document],
    draft: Publication,
    context: ComparisonContext,
    categories: Mapping[int, Category],
) -> Differences:
    states = products(lake, draft)
    wrong = states.mapInArrow(ProductComparer(context, categories), DIFFERENCE)
    surplus = stored_products(spark, database, context).where("counts").join(states.select("id"), "id", "left_anti")
    return _named(wrong.unionByName(surplus.select("id", F.lit("should not exist").alias("how"))))


def _quarantine(
    spark: SparkSession, lake: Lake, database: Database[Document], draft: Publication, context: ComparisonContext
) -> Differences:
    rejected = rejections(lake, draft)
    wrong = rejected.mapInArrow(QuarantineComparer(context), DIFFERENCE)
    surplus = stored_records(spark, database, context).join(rejected.select("id"), "id", "left_anti")
    return _named(wrong.unionByName(surplus))


def _named(differences: DataFrame) -> Differences:
    """Counts the differences and takes the first. They are persisted meanwhile, because finding them reads all documents."""
    kept = differences.persist(StorageLevel.DISK_ONLY)
    try:
        count = kept.count()
        rows = kept.orderBy("id").limit(verifications.NAMED).collect() if count else []
        return Differences(count, [(row["id"], row["how"]) for row in rows])
    finally:
        kept.unpersist()


def _categories(database: Database[Document], context: ComparisonContext, expected: Mapping[int, Category]) -> Iterator[tuple[str, str]]:
    there = {one["_id"]: one for one in database.category.find()}
    for number in sorted({*there, *expected}):
        document, category = there.get(number), expected.get(number)
        if document is not None and context.category_is_beyond(document["_tide"]["version"]):
            continue
        if document is None:
            yield str(number), "missing"
        elif category is None:
            yield str(number), f"should not exist: '{document['category_name']}'"
        else:
            found = Category(document["category_name"], CategoryVersion(**document["_tide"]["version"]))
            if found != category:
                yield str(number), f"{_render(found)} instead of {_render(category)}"
    with snapshot(database) as now:
        yield from ((f"cells of {number}", how) for number, how in cells.misnamed(now))


def _render(category: Category) -> str:
    return f"'{category.name}' ({', '.join(f'{part} {value}' for part, value in category.version._asdict().items())})"


def _ingestions(spark: SparkSession, lake: Lake, database: Database[Document], mark: TideMark) -> tuple[int, Differences]:
    """Checks that every row of a file is an event, valid or not, however many events it has. Returns the number of ingestions reconciled.

    Checks the ingestions whose chunks all lie below the mark, each until it has been reconciled once.
    """
    rows = ingestions.to_reconcile(database, mark)
    if not rows:
        return 0, Differences(0, [])
    wanted = spark.createDataFrame([(identity,) for identity in rows], "ingestion string")
    sources = transforms.sources(lake.events(TideMark(), mark)).join(F.broadcast(wanted), "ingestion").distinct()
    found = {row["ingestion"]: row["count"] for row in sources.groupBy("ingestion").count().collect()}
    right = [identity for identity, count in rows.items() if found.get(identity, 0) == count]
    ingestions.mark_reconciled(database, right)
    wrong = [
        (identity, f"{found.get(identity, 0):,} of {counted(count, 'row')} found in the raw history")
        for identity, count in sorted(rows.items())
        if identity not in set(right)
    ]
    return len(right), verifications.first(wrong)


def _require_no_rebuild_since(draft: Publication, cut: Cut, now: Ledger) -> None:
    if (now.rebuilding, now.rebuilds) != (cut.rebuilding, cut.rebuilds):
        raise StaleDraft(f"a rebuild has begun since publication {draft.number} was cut: start again at cut")
