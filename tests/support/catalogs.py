"""CSV files sent as the DAG's tasks send them, and the served reports against a recomputation from the files themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from pymongo.database import Database
from support.places import Place, wrong_products
from support.recompute import CsvFile, differences, recompute_files, reports

from tidemark.ingest import jobs
from tidemark.ingest.files import FileKind
from tidemark.ingest.produce import RECOMMENDED, produce, read_chunk
from tidemark.ingest.records import Origin, messages
from tidemark.serving import ingestions
from tidemark.serving.database import Document
from tidemark.serving.snapshot import snapshot
from tidemark.settings import CHECKOUT
from tidemark.settings.sections import IngestionSettings

# Real products, which are nobody's to pass on: where they are not at hand, tests of them are skipped.
SAMPLE = CHECKOUT.parent / "shared" / "data"
SAMPLE_PRODUCTS, SAMPLE_CATEGORIES = SAMPLE / "amazon_products_small.csv", SAMPLE / "amazon_categories.csv"

EVERY_KIND_OF_ROW = b"""\xef\xbb\xbfasin,title,imgUrl,productURL,stars,reviews,price,listPrice,category_id,isBestSeller,boughtInLastMonth
B0GOOD0001,"Bag, black",https://i.example/1.jpg,https://p.example/1,4.5,12,19.99,24.99,1,True,100
B0GOOD0002,NULL,,,0,0,0,0,999,false,0
B0GOOD0003,"Lamp ""XL""
second line",,,4.96,1.2e3, 19731.81 ,0.0,2,TRUE,50
B0GOOD0001,"Bag, black, cheaper",https://i.example/1.jpg,https://p.example/1,4.5,12,4.996,24.99,1,False,100

b0good0004,small letters,,,4,0,1,0,1,False,0
B0SHORT,title,,,4,0,1,0,1,False,0
B0FIELDS01,one too few,,,4,0,1,0,1,False
B0FIELDS02,one too many,,,4,0,1,0,1,False,0,0
B0STARS001,five and more,,,5.06,0,1,0,1,False,0
B0REVIEWS1,half a review,,,5,0.5,1,0,1,False,0
B0BOUGHT01,less than none,,,5,0,1,0,1,False,-1
B0PRICE001,not for sale,,,5,0,n/a,0,1,False,0
B0PRICE002,too dear,,,5,0,1000000.01,0,1,False,0
B0LIST0001,no list price,,,5,0,1,,1,False,0
B0CATEGORY,in no category,,,5,0,1,0,0,False,0
B0BEST0001,maybe,,,5,0,1,0,1,perhaps,0
B0UTF80001,caf\xe9,,,5,0,1,0,1,False,0
B0GOOD0005,Gr\xc3\xb6\xc3\x9fe M,,,4.44,7,299.995,400,3,False,10000
B0GOOD0006,last,,,5,0,300,0,3,False,0"""


def read(path: Path, kind: FileKind, day: str) -> jobs.File:
    """A file and the day it was true, as a run by hand names them."""
    named = {"products": [str(path)]} if kind is FileKind.PRODUCT else {"categories": [str(path)]}
    return jobs.files_of(None, {**named, "observed_at": [day]}, IngestionSettings(), Path)[0]


def ingest(place: Place, files: Sequence[jobs.File], chunk_bytes: int) -> list[str]:
    """Plans, produces and reconciles; returns the ingestions' ids."""
    planned = jobs.plan(place.database, files, chunk_bytes, place.settings)
    producer = place.producer()
    for chunk in planned.chunks:
        jobs.produce(place.database, lambda: producer, RECOMMENDED, Path, place.settings, **chunk)
    jobs.reconcile(place.database, planned.ingestions, place.settings)
    return planned.ingestions


def send_part(place: Place, file: jobs.File, chunk_bytes: int) -> None:
    """Registers a file and sends the first half of its first chunk, as a task does that is killed on the way."""
    planned = jobs.plan(place.database, [file], chunk_bytes, place.settings)
    identity, number = planned.chunks[0]["ingestion"], planned.chunks[0]["number"]
    chunk, _ = ingestions.read_chunk(place.database, identity, number)
    ingestion = ingestions.read(place.database, identity)
    origin = Origin(identity, file.kind, tuple(ingestion["columns"]), ingestion["observed_at"], ingestion["registered_at"])
    half = islice(messages(read_chunk(file.path, ingestion["bytes"], chunk), chunk.start, origin), chunk.rows // 2)
    produce(place.producer(), place.settings.product_topic, half, within_seconds=30)


def wrong_reports(
    database: Database[Document], files: Sequence[CsvFile], read_as: Mapping[tuple[str, str], str] | None = None
) -> list[str]:
    """What is wrong with the served reports, products and the quarantine, when the stream has served these files and nothing else.

    `read_as` has the paths of files by the files and kinds of their ingestions, where these are others.
    """
    truth = recompute_files(files)
    with snapshot(database) as now:
        found = [line for view, rows in reports(truth).items() for line in differences(view, rows, now.rows(view))]
        paths = {one["_id"]: (read_as or {}).get((one["file"], one["kind"]), one["file"]) for one in now.rows("ingestion")}
        rejected = {"$match": {"status": {"$nin": ["healed", "replayed"]}, "reason": {"$ne": "withdrawn"}}}
        kept = {(paths[one["source"]["ingestion"]], one["source"]["position"], one["reason"]) for one in now.rows("quarantine", rejected)}
    expected = {(path, position, reason) for (path, position), reason in truth.rejections}
    return (
        found
        + wrong_products(database, truth)
        + [f"quarantine: {one} should not be there" for one in kept - expected]
        + [f"quarantine: {one} is missing" for one in expected - kept]
    )
