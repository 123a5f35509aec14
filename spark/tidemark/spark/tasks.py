"""Common parts of the Spark tasks that use MongoDB, and how Fenced reaches their driver."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pymongo import MongoClient
from pyspark.errors import PySparkException

from tidemark.serving.database import Document, connect
from tidemark.serving.ledger import Fenced

DUPLICATE_KEY = 11000  # MongoDB's error code
DOCUMENTS_PER_BATCH = 2_000  # per find and bulk write

# A task's Fenced in the text of Spark's exception.
_FENCED = re.compile(rf"{re.escape(f'{Fenced.__module__}.{Fenced.__qualname__}')}: (.+)")


@cache
def client(url: str) -> MongoClient[Document]:
    """One client per worker process."""
    return connect(url)


def slices(batches: Iterable[pa.RecordBatch]) -> Iterator[list[dict[str, Any]]]:
    """Rows in lists of one find's size, whatever the size of the Arrow batches."""
    rows = (row for batch in batches for row in batch.to_pylist())
    while some := list(islice(rows, DOCUMENTS_PER_BATCH)):
        yield some


@contextmanager
def fencing() -> Iterator[None]:
    """Raises Fenced if a task has raised it, instead of Spark's exception."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        if fenced := _FENCED.search(str(error)):
            raise Fenced(fenced[1]) from error
        raise
