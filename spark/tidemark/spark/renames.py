"""Renames products: writes the names of categories to the products that bear other names.

Nothing in a product could reject the rename of a stalled stream. So each rename is a transaction together with the ledger: only its newest
generation can commit it, and it records the categories until a micro-batch is committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from pymongo import UpdateMany
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.serving import ledger
from tidemark.serving.database import Document, in_transaction, latest
from tidemark.serving.ledger import Category
from tidemark.spark.documents import category_name, category_version

PRODUCTS_PER_BATCH = 1_000  # per transaction

Categories = Mapping[int, Category | None]  # by id; None is a category without a name


class _Product(NamedTuple):
    asin: str
    category_id: int


def rename(database: Database[Document], generation: int, categories: Categories) -> None:
    """Gives all products of these categories their category's name. A product that bears it already is not written.

    Raises Fenced if the generation has been superseded; the ledger then names the categories of the products that have been renamed.
    """
    products = _misnamed(database, categories)
    while some := list(islice(products, PRODUCTS_PER_BATCH)):
        _rename_at_once(database, generation, categories, some)


def _misnamed(database: Database[Document], categories: Categories) -> Iterator[_Product]:
    if not categories:
        return
    names = {number: category_name(number, category) for number, category in categories.items()}
    fields = {"category_id": True, "category_name": True}
    for one in latest(database.product).find({"category_id": {"$in": list(names)}}, fields, batch_size=PRODUCTS_PER_BATCH):
        if one["category_name"] != names[one["category_id"]]:
            yield _Product(one["_id"], one["category_id"])


def _rename_at_once(database: Database[Document], generation: int, categories: Categories, products: Iterable[_Product]) -> None:
    ids = defaultdict(list)
    for product in products:
        ids[product.category_id].append(product.asin)
    # A stray task may have moved a product to another category since it was read.
    updates = [
        UpdateMany(
            {"_id": {"$in": those}, "category_id": number},
            {
                "$set": {
                    "category_name": category_name(number, categories[number]),
                    "_tide.category": category_version(categories[number]),
                }
            },
        )
        for number, those in ids.items()
    ]

    def transaction(session: ClientSession) -> None:
        ledger.record_renames(database, session, generation, ids, sum(map(len, ids.values())))
        database.product.bulk_write(updates, ordered=False, session=session)

    in_transaction(database, transaction)
