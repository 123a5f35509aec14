"""The OpenAPI description of requests and answers. The bounds come from the rules in force."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, Field

from tidemark.catalog.rules import RULES
from tidemark.ingest.api.bodies import MAX_RECORDS, Form
from tidemark.ingest.files import FileKind

DESCRIPTION = """Accepts records of products and categories. Each record is validated by the rules of the catalog and answered once
Kafka has acknowledged it.

* **201**: Kafka has acknowledged every record of the request.
* **422**: a record breaks a rule; the answer names the field and the rule. No record of the request was sent.
* **503**: Kafka did not acknowledge in time. The record, or the records of a batch that the answer lists, may or may not be stored,
  and may still be stored later. Send the same request again after the seconds in Retry-After. Sending is idempotent: a record stored
  twice is one state. A record that is stored late overtakes nothing that was sent after this answer.

Numbers and booleans may also be sent as text, as in a CSV file. Additional fields are kept with the raw event."""

PRODUCT: dict[str, Any] = {
    "asin": "B014TMV5YE",
    "title": "Sion Softside Expandable Roller Luggage, Black, Checked-Large 29-Inch",
    "imgUrl": "https://m.media-amazon.com/images/I/815dLQKYIYL._AC_UL320_.jpg",
    "productURL": "https://www.amazon.com/dp/B014TMV5YE",
    "stars": 4.5,
    "reviews": 0,
    "price": 139.99,
    "listPrice": 0.0,
    "category_id": 104,
    "isBestSeller": False,
    "boughtInLastMonth": 2000,
    "date": "31/12/2023 00:00",
}
CATEGORY: dict[str, Any] = {"id": 104, "category_name": "Suitcases"}

_EXAMPLES = {FileKind.PRODUCT: PRODUCT, FileKind.CATEGORY: CATEGORY}


def _count(most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _number(most: int, what: str) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "maximum": most, "description": what}


_URL = {"type": ["string", "null"]}
_PROPERTIES: dict[FileKind, dict[str, Any]] = {
    FileKind.PRODUCT: {
        "asin": {"type": "string", "pattern": f"^{RULES.asin}$"},
        "title": {"type": "string"},
        "imgUrl": _URL,
        "productURL": _URL,
        "stars": _number(RULES.max_stars, "0 means unrated"),
        "reviews": _count(RULES.max_count),
        "price": _number(RULES.max_dollars, "in dollars; 0 means unknown"),
        "listPrice": _number(RULES.max_dollars, "in dollars; 0 means none"),
        "category_id": _count(RULES.max_id, 1),
        "isBestSeller": {"type": "boolean"},
        "boughtInLastMonth": _count(RULES.max_count),
        "date": {
            "type": "string",
            "format": "date-time",
            "description": "time of observation: ISO 8601, 31/12/2023 18:30 or 31-12-2023 18:30:00; UTC unless a time zone is given",
        },
    },
    FileKind.CATEGORY: {"id": _count(RULES.max_id, 1), "category_name": {"type": "string", "minLength": 1}},
}
_OPTIONAL = ("imgUrl", "productURL")


def _schema(kind: FileKind) -> dict[str, Any]:
    properties = _PROPERTIES[kind]
    return {"type": "object", "properties": properties, "required": [name for name in properties if name not in _OPTIONAL]}


def one(kind: FileKind) -> dict[str, Any]:
    """The request body of a single record."""
    content = {"schema": _schema(kind), "examples": {str(kind): {"value": _EXAMPLES[kind]}}}
    return {"requestBody": {"required": True, "content": {Form.JSON.value: content}}}


def batch(kind: FileKind) -> dict[str, Any]:
    """The request body of a batch."""
    array = {"type": "array", "items": _schema(kind), "minItems": 1, "maxItems": MAX_RECORDS}
    lines = {
        "type": "string",
        "format": "ndjson",
        "contentSchema": _schema(kind),
        "description": "one record per line; empty lines are ignored",
    }
    line = orjson.dumps(_EXAMPLES[kind]).decode()
    content = {
        Form.JSON.value: {"schema": array, "examples": {"array": {"value": [_EXAMPLES[kind]]}}},
        Form.NDJSON.value: {"schema": lines, "examples": {"lines": {"value": f"{line}\n"}}},
    }
    return {"requestBody": {"required": True, "content": content}}


class Hello(BaseModel):
    message: str = Field(examples=["Hello World"])


class Health(BaseModel):
    """Whether records can be posted, and the number of partitions by topic."""

    healthy: bool
    kafka: str = Field(examples=["127.0.0.1:9092"])
    topics: dict[str, int] = Field(examples=[{"ingest-product": 4, "ingest-category": 1}])
    detail: str = Field(examples=[""])


class StoredProduct(BaseModel):
    """The product as stored, and the coordinates of the event in Kafka."""

    asin: str = Field(examples=[PRODUCT["asin"]])
    title: str = Field(examples=[PRODUCT["title"]])
    imgUrl: str | None = Field(examples=[PRODUCT["imgUrl"]])
    productURL: str | None = Field(examples=[PRODUCT["productURL"]])
    stars: float = Field(examples=[4.5])
    reviews: int = Field(examples=[0])
    price: float = Field(examples=[139.99])
    listPrice: float = Field(examples=[0.0])
    category_id: int = Field(examples=[104])
    isBestSeller: bool = Field(examples=[False])
    boughtInLastMonth: int = Field(examples=[2000])
    date: str = Field(examples=["2023-12-31T00:00:00.000Z"])
    topic: str = Field(examples=["ingest-product"])
    partition: int = Field(examples=[2])
    offset: int = Field(examples=[1234])


class StoredCategory(BaseModel):
    """The category as stored, and the coordinates of the event in Kafka."""

    id: int = Field(examples=[104])
    category_name: str = Field(examples=["Suitcases"])
    topic: str = Field(examples=["ingest-category"])
    partition: int = Field(examples=[0])
    offset: int = Field(examples=[17])


class End(BaseModel):
    """The end offset (exclusive) of a batch's events in a partition."""

    topic: str = Field(examples=["ingest-product"])
    partition: int = Field(examples=[2])
    offset: int = Field(examples=[1235])


class StoredBatch(BaseModel):
    """The number of records that Kafka has acknowledged: all of the batch."""

    acknowledged: int = Field(examples=[1])
    ends: list[End]


class FaultFound(BaseModel):
    """A broken rule: the record's position in a batch (array index or line number, counted from 0), the field, and the rule as text."""

    loc: list[str | int] = Field(examples=[["body", "price"]])
    msg: str = Field(examples=["price: must be a number of dollars from 0 to 1000000"])
    type: str = Field(examples=["price"])


class InvalidRecords(BaseModel):
    """The first broken rule of every invalid record."""

    detail: list[FaultFound]


class Problem(BaseModel):
    detail: str


class NotAcknowledged(BaseModel):
    """The records of a batch (array indexes or line numbers, counted from 0) that Kafka did not acknowledge in time."""

    detail: str
    acknowledged: int = Field(0, examples=[9_998])
    not_acknowledged: list[int] = Field([], examples=[[17, 4_711]])


_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def answers(stored: type[BaseModel], *, key: bool, unavailable: type[BaseModel] = Problem) -> dict[int | str, dict[str, Any]]:
    """The possible answers to a post."""

    def problem(description: str, detail: str) -> dict[str, Any]:
        return {"model": Problem, "description": description, "content": {Form.JSON.value: {"example": {"detail": detail}}}}

    return {
        201: {"model": stored, "description": "Kafka has acknowledged every record"},
        **({401: problem("Missing or invalid API key", "missing or invalid API key: send it in the header X-API-Key")} if key else {}),
        408: problem("The headers or the body were not received in time", "the body was not received within 60 s: send it again"),
        413: problem("The request is too large", "the body is larger than 16777216 bytes: send a smaller one"),
        415: problem(
            "The body is neither JSON nor NDJSON",
            f"Content-Type text/plain is not supported: send {Form.JSON}, or {Form.NDJSON} for a batch",
        ),
        422: {"model": InvalidRecords, "description": "A record breaks a rule; nothing was sent"},
        429: {
            **problem(
                f"Too many connections or bodies of one address{', or too many wrong API keys from it' if key else ''}; nothing was sent",
                "203.0.113.7 has too many open connections: close some, or send it again later",
            ),
            "headers": _RETRY_AFTER,
        },
        503: {
            "model": unavailable,
            "description": "Kafka did not acknowledge in time, and the records may or may not be stored; or too much is in flight",
            "headers": _RETRY_AFTER,
        },
    }
