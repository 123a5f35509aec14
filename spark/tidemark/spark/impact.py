"""The reports under other rules: a full recomputation that writes nothing. And what clients of the HTTP API have posted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from pymongo.database import Database
from pyspark.sql import functions as F

from tidemark.catalog.cube import MEASURES
from tidemark.catalog.marks import TideMark
from tidemark.catalog.posts import PREFIX, Posts
from tidemark.catalog.rules import DAY_MS, Rules
from tidemark.catalog.words import counted
from tidemark.rendering.figures import render_changes
from tidemark.serving import cells, ledger, plausibility
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document
from tidemark.serving.snapshot import snapshot
from tidemark.spark import transforms
from tidemark.spark.documents import cell_of, sums_of
from tidemark.spark.lake import Lake

_DAYS = 30  # of a list of posts, the newest
_CATEGORIES = 10  # number of categories listed, those with the largest changes
_PRODUCTS = MEASURES.index("products")


def render_impact(lake: Lake, database: Database[Document], category_topic: str, rules: Rules) -> str:
    """Markdown: the served catalog beside the one recomputed from all landed events under these rules."""
    landed = lake.landed().mark
    with lake.tasks_for(ledger.events_below(database, landed)):
        rows = transforms.observed(lake.events(TideMark(), landed), category_topic, rules)
        products = rows.where(F.col("kind") == transforms.PRODUCT).select(*transforms.CUBED)
        cube = transforms.cube(transforms.newest(products), rules).collect()
    then = {cell_of(row): sums_of(row) for row in cube}
    with snapshot(database) as now:
        names = {one["_id"]: one["category_name"] for one in now.rows("category")}
        served = cells.read(now)
    return "\n".join([render_changes(plausibility.compare(served, then), exceeded=()), "", *_categories(served, then, names)])


def count_posts(lake: Lake, posts: Posts) -> int:
    """How many of these posts have landed."""
    return transforms.posted(lake.events(TideMark(), lake.landed().mark)).where(transforms.is_of(posts)).count()


def render_posts(lake: Lake) -> str:
    """Clients and days of the posts that have landed, one per line, the newest first."""
    day = F.date_from_unix_date(F.floor(F.col("timestamp") / DAY_MS).cast("int")).alias("day")
    events = transforms.posted(lake.events(TideMark(), lake.landed().mark))
    found = events.groupBy("client", day).count().orderBy(F.desc("day"), "client").limit(_DAYS).collect()
    return "\n".join(f"{PREFIX}{row['client']}/{row['day']}  {counted(row['count'], 'event')}" for row in found) or "none"


def _categories(served: Cells, then: Cells, names: Mapping[int, str]) -> Iterable[str]:
    """The categories that gain or lose the most products."""
    change: Counter[int] = Counter()
    for cube, sign in ((then, 1), (served, -1)):
        for cell, sums in cube.items():
            change[cell.category_id] += sign * sums[_PRODUCTS]
    most = sorted(((number, by) for number, by in change.items() if by), key=lambda one: (-abs(one[1]), one[0]))[:_CATEGORIES]
    for number, by in most:
        yield f"- {names.get(number, f'category {number}')}: {by:+,} {'product' if abs(by) == 1 else 'products'}"
