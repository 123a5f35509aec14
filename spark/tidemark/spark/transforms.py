"""Transforms of events to observations and rejections, and on to states: DataFrames in, DataFrames out. Stream and batch share them.

Package catalog defines the meaning; these transforms must agree with it on every event.
"""

from __future__ import annotations

from functools import lru_cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemark.catalog import events as headers
from tidemark.catalog.cube import MEASURES
from tidemark.catalog.epochs import first_of
from tidemark.catalog.observations import Reason
from tidemark.catalog.posts import Posts
from tidemark.catalog.rules import RULES, Rules
from tidemark.spark import columns as C

# The kind of an event after validation.
PRODUCT, CATEGORY, REJECTION = "product", "category", "rejection"

VERSION = ("observed_at", "registered_at", "position", "partition", "offset")

_CORRUPT = "_tide_corrupt"  # column in which Spark's parser puts records that it cannot parse; no record uses this name

# Options that a session needs for these transforms: of duplicate keys the last value wins, as in plain Python.
SESSION_OPTIONS = {
    "spark.sql.variant.allowDuplicateKeys": "true",
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    "spark.sql.session.timeZone": "UTC",
}

# Strict JSON (RFC 8259): Spark's parser is more lenient by default.
_STRICT = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": _CORRUPT,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
    "maxNumLen": str(2**31 - 1),
}

_SPACE = " \t\n\r"  # whitespace of JSON

# Fields that must be JSON strings are parsed with their type, the others as their original text.
_FIELDS = {
    "asin": "string",
    "title": "variant",
    "imgUrl": "variant",
    "productURL": "variant",
    "stars": "string",
    "reviews": "string",
    "price": "string",
    "listPrice": "string",
    "category_id": "string",
    "isBestSeller": "string",
    "boughtInLastMonth": "string",
    "date": "string",
    "id": "string",
    "category_name": "variant",
}


def events(kafka: DataFrame, epoch: int = 0) -> DataFrame:
    """Kafka's records as events: topic, partition, offset in that epoch, timestamp (milliseconds), key, value, headers."""
    offset = F.col("offset") + F.lit(first_of(epoch)) if epoch else F.col("offset")
    return kafka.select(
        "topic", "partition", offset.alias("offset"), F.unix_millis("timestamp").alias("timestamp"), "key", "value", "headers"
    )


def digest() -> Column:
    """The CRC-32 of an event's value, as the ledger remembers it."""
    return F.crc32(F.coalesce("value", F.lit(b""))).alias("digest")


def observed(log: DataFrame, category_topic: str, rules: Rules = RULES, *, digests: bool = False) -> DataFrame:
    """One row per event: kind, id (ASIN, category id, or source of a rejection), version, the columns of the kind, and `digest` if wanted.

    Money and stars are given as doubles, and as integers of cents and tenths. Columns that a kind does not have are null.
    """
    return (
        log.withColumn("header_values", C.header_values(F.col("headers")))
        .select(*_parsed(category_topic, rules))
        .withColumn("record", _record(rules))
        .withColumn("exact", _exact_numbers(rules))
        .select(*_read(rules))
        .withColumn("reason", _reason(rules))
        .select(*_validated(rules), *([digest()] if digests else []))
    )


# Columns are made once and reused in every micro-batch: making them takes seconds, because each call goes to the JVM.


@lru_cache
def _parsed(category_topic: str, rules: Rules) -> tuple[Column, ...]:
    """The values of the headers, and the event's value as text; key and client only where the rules ask for them."""
    header_values = F.col("header_values")
    return (
        *_columns("topic", "partition", "offset", "timestamp", "value"),
        (F.col("topic") == category_topic).alias("of_category"),
        C.header(header_values, headers.FORMAT).alias("format"),
        C.header_name(header_values, headers.INGESTION).alias("ingestion"),
        C.header_number(header_values, headers.POSITION).alias("header_position"),
        C.header_number(header_values, headers.REGISTERED_AT).alias("header_registered_at"),
        C.header_number(header_values, headers.REGISTERED_BY).alias("registered_by"),
        C.header_name(header_values, headers.REPLAY_OF).alias("replay_of"),
        F.col("value").cast("string").alias("text"),
        *([F.col("key")] if rules.keyed else []),
        *([C.header_name(header_values, headers.CLIENT).alias("client")] if rules.withdrawn_posts else []),
    )


def _fields() -> dict[str, Column]:
    """A record's fields; the id of a category is its category_id."""
    record = {name: F.col(f"record.{name}") for name in _FIELDS}
    return record | {"category_id": F.when(F.col("of_category"), record["id"]).otherwise(record["category_id"])}


@lru_cache
def _exact_numbers(rules: Rules) -> Column:
    record = _fields()
    fractions = {name: record[name] for name in ("stars", "price", "listPrice")}
    integers = {name: record[name] for name in ("reviews", "category_id", "boughtInLastMonth")}
    return C.exact_numbers(fractions, integers, rules)


@lru_cache
def _read(rules: Rules) -> tuple[Column, ...]:
    """Every field with its type; null if its value does not have the type."""
    record, exact = _fields(), F.col("exact")
    return (
        *_columns("topic", "partition", "offset", "timestamp", "value", "of_category"),
        F.when(F.col("header_position").isNotNull(), F.col("ingestion")).alias("ingestion"),
        F.coalesce("header_registered_at", F.least("timestamp", "registered_by")).alias("registered_at"),
        F.coalesce("header_position", F.lit(0)).cast("bigint").alias("position"),
        _source().alias("source"),
        _malformed(rules).alias("malformed"),
        record["asin"].alias("asin"),
        (F.col("key").eqNullSafe(record["asin"].cast("binary")) if rules.keyed else F.lit(True)).alias("keyed"),
        _withdrawn(rules).alias("withdrawn"),
        _string("title").alias("title"),
        _string("imgUrl").alias("imgUrl"),
        _string("productURL").alias("productURL"),
        C.double(record["stars"]).alias("stars"),
        C.scaled(record["stars"], exact, "stars", 1).alias("stars_tenths"),
        C.integer(record["reviews"], exact, "reviews").alias("reviews"),
        C.double(record["price"]).alias("price"),
        C.scaled(record["price"], exact, "price", 2).alias("price_cents"),
        C.double(record["listPrice"]).alias("listPrice"),
        C.scaled(record["listPrice"], exact, "listPrice", 2).alias("list_price_cents"),
        C.integer(record["category_id"], exact, "category_id").alias("category_id"),
        _boolean(record["isBestSeller"], rules).alias("isBestSeller"),
        C.integer(record["boughtInLastMonth"], exact, "boughtInLastMonth").alias("boughtInLastMonth"),
        C.moment(record["date"], rules).alias("observed_at"),
        _string("category_name").alias("category_name"),
    )


@lru_cache
def _reason(rules: Rules) -> Column:
    """The first rule that fails; null for a valid event."""
    return (
        F.when(F.col("withdrawn"), Reason.WITHDRAWN.value)
        .when(F.col("malformed"), Reason.MALFORMED.value)
        .when(F.col("of_category"), _category_reason(rules))
        .otherwise(_product_reason(rules))
    )


def _withdrawn(rules: Rules) -> Column:
    found = F.lit(False)
    if rules.withdrawn:
        found |= F.col("header_position").isNotNull() & F.col("ingestion").isin(*rules.withdrawn)
    for posts in rules.withdrawn_posts:
        found |= is_of(posts)
    return found


def is_of(posts: Posts) -> Column:
    """Is an event, by its columns client and timestamp, one of these posts?"""
    return (F.col("client") == posts.client) & (F.col("timestamp") >= posts.begin) & (F.col("timestamp") < posts.end)


@lru_cache
def _validated(rules: Rules) -> tuple[Column, ...]:
    """The columns of observed()."""
    rejected = F.col("reason").isNotNull()
    kind = F.when(rejected, REJECTION).when(F.col("of_category"), CATEGORY).otherwise(PRODUCT)
    identity = F.when(rejected, F.col("source")).when(F.col("of_category"), F.col("category_id").cast("string")).otherwise(F.col("asin"))
    observed_at = F.when(kind == PRODUCT, F.col("observed_at")).otherwise(F.lit(0)).cast("bigint")
    return (
        kind.alias("kind"),
        identity.alias("id"),
        F.struct(observed_at.alias("observed_at"), *_columns("registered_at", "position", "partition", "offset")).alias("version"),
        *_columns("title", "imgUrl", "productURL", "stars", "stars_tenths", "reviews", "price", "price_cents", "listPrice"),
        *_columns("list_price_cents", "category_id", "isBestSeller", "boughtInLastMonth", "category_name"),
        *_columns("topic", "timestamp", "reason", "ingestion"),
        F.when(rejected, F.substring("value", 1, rules.max_bytes)).alias("raw"),
    )


def _columns(*names: str) -> list[Column]:
    return [F.col(name) for name in names]


def newest(rows: DataFrame, *apart: str) -> DataFrame:
    """The row of the highest version for each kind and id, and for each value of the columns `apart`. Repeats of one rejected source
    become one row.
    """
    return _highest(rows, *apart)


def states(rows: DataFrame) -> DataFrame:
    """As newest(), but each rejected event keeps its row, because any event of a source may be the one in quarantine."""
    event = F.struct("topic", "version.partition", "version.offset")
    return _highest(rows, F.when(F.col("kind") == REJECTION, event).alias("event"))


def _highest(rows: DataFrame, *apart: Column | str) -> DataFrame:
    highest, carried = _rows_of(tuple(name for name in rows.columns if name not in ("kind", "id", "digest")))
    return rows.groupBy("kind", "id", *apart).agg(highest).select("kind", "id", *carried)


@lru_cache
def _rows_of(names: tuple[str, ...]) -> tuple[Column, tuple[Column, ...]]:
    """The row of the highest version as a struct, and the struct's columns."""
    highest = F.max(F.struct("version", *(name for name in names if name != "version"))).alias("row")
    return highest, tuple(F.col(f"row.{name}").alias(name) for name in names)


def cube(states: DataFrame, rules: Rules = RULES, *beside: Column) -> DataFrame:
    """The sums of product states by cell: category_id, price_level, isBestSeller, the measures, and the aggregates `beside`."""
    products = with_contributions(states.where(F.col("kind") == PRODUCT), rules)
    sums = (F.sum(measure).alias(measure) for measure in MEASURES)
    return products.groupBy("category_id", "price_level", "isBestSeller").agg(*sums, *beside)


# The columns of states that cube() needs.
CUBED = (
    *("kind", "id", "version", "topic", "category_id", "isBestSeller"),
    *("price_cents", "list_price_cents", "stars_tenths", "reviews", "boughtInLastMonth"),
)


def sources(log: DataFrame) -> DataFrame:
    """Ingestion and position of the events that have both; one row per event."""
    header_values = F.col("header_values")
    named = log.withColumn("header_values", C.header_values(F.col("headers"))).select(
        C.header_name(header_values, headers.INGESTION).alias("ingestion"),
        C.header_number(header_values, headers.POSITION).alias("position"),
    )
    return named.where(F.col("ingestion").isNotNull() & F.col("position").isNotNull())


def posted(log: DataFrame) -> DataFrame:
    """Client and timestamp (ms) of the events that were posted under the name of an API key; one row per event."""
    client = C.header_name(C.header_values(F.col("headers")), headers.CLIENT)
    return log.select(client.alias("client"), "timestamp").where(F.col("client").isNotNull())


def with_contributions(states: DataFrame, rules: Rules = RULES) -> DataFrame:
    """Adds the cell's price_level and the measures (bigint) that each product state contributes to its cell."""
    kept = (name for name in states.columns if name not in MEASURES)
    return states.select(*kept, *_contributions(rules))


@lru_cache
def _contributions(rules: Rules) -> tuple[Column, ...]:
    price, list_price = F.col("price_cents"), F.col("list_price_cents")
    discounted = (list_price > price) & (price > 0)
    measures = {
        "products": F.lit(1),
        "priced": F.when(price > 0, 1).otherwise(0),
        "price_cents": price,
        "rated": F.when(F.col("stars_tenths") > 0, 1).otherwise(0),
        "stars_tenths": F.col("stars_tenths"),
        "reviews": F.col("reviews"),
        "bought_floor": F.col("boughtInLastMonth"),
        "discounted": F.when(discounted, 1).otherwise(0),
        "list_cents": F.when(discounted, list_price).otherwise(0),
        "discount_cents": F.when(discounted, list_price - price).otherwise(0),
    }
    # The price of a rejection may be any number: it is capped at the last level before the cast to int.
    cents = F.least(price, F.lit(rules.top_level_dollars * 100))
    level = (F.floor(cents / (rules.level_dollars * 100)) * rules.level_dollars).cast("int")
    return (
        F.when(price > 0, level).alias("price_level"),
        *(measures[name].cast("bigint").alias(name) for name in MEASURES),
    )


@lru_cache
def _record(rules: Rules) -> Column:
    schema = ", ".join(f"{name} {kind}" for name, kind in {**_FIELDS, _CORRUPT: "string"}.items())
    return F.from_json(F.col("text"), schema, _options(rules.max_nesting))


def _options(depth: int) -> dict[str, str]:
    """The parser's options; deeper values are refused."""
    return {**_STRICT, "maxNestingDepth": str(depth)}


def _malformed(rules: Rules) -> Column:
    """Is the value anything but one JSON object?"""
    text, record = F.col("text"), F.col("record")
    return (
        F.coalesce(
            (F.col("format") == "csv")
            | (F.octet_length("value") > rules.max_bytes)
            | ~F.is_valid_utf8(text)
            | ~F.ltrim(text, F.lit(_SPACE)).startswith("{")
            | record[_CORRUPT].isNotNull()
            | record.isNull(),
            text.isNull(),
        )
        | _trailing(text, rules)
        | _half_surrogate(text, rules)
    )


def _trailing(text: Column, rules: Rules) -> Column:
    """Does anything follow the object? Spark's parser stops at the end of the object.

    The check is needed only if there is a closing brace before the last byte. Then the value is parsed as the first of two array
    elements; the second is a digest of the value, which the value itself cannot contain.
    """
    trimmed = F.trim(text, F.lit(_SPACE))
    digest = F.sha2(trimmed, 256)
    pair = F.from_json(
        F.concat(F.lit("["), trimmed, F.lit(',"'), digest, F.lit('"]')),
        "array<variant>",
        _options(rules.max_nesting + 1),
    )
    alone = (F.size(pair) == 2) & (F.try_variant_get(F.try_element_at(pair, F.lit(2)), "$", "string") == digest)
    but_the_last = F.substring(F.col("value"), F.lit(1), F.octet_length("value") - 1).cast("string")  # on bytes, which is cheap
    suspect = but_the_last.contains("}")
    return F.when(suspect, ~F.coalesce(alone, F.lit(False))).otherwise(F.lit(False))


def _half_surrogate(text: Column, rules: Rules) -> Column:
    """Does a string contain half a surrogate pair? Spark's variant parser refuses it anywhere, its record parser does not."""
    escaped = text.contains("\\u") & text.rlike("\\\\u[dD][89a-fA-F]")
    return F.when(escaped, F.from_json(text, "variant", _options(rules.max_nesting)).isNull()).otherwise(F.lit(False))


def _source() -> Column:
    return F.coalesce(
        F.concat("ingestion", F.lit(":"), F.col("header_position").cast("string")),  # null if one of them is
        F.col("replay_of"),
        F.concat_ws("/", "topic", "partition", "offset"),
    )


def _string(field: str) -> Column:
    """A field that is a JSON string; null otherwise."""
    value = F.col(f"record.{field}")
    return F.when(F.schema_of_variant(value) == "STRING", F.try_variant_get(value, "$", "string"))


def _boolean(text: Column, rules: Rules) -> Column:
    return F.when(C.matches(text, rules.true), F.lit(True)).when(C.matches(text, rules.false), F.lit(False))


def _within(column: str, least: int, most: int) -> Column:
    return F.coalesce(F.col(column).between(least, most), F.lit(False))


def _product_reason(rules: Rules) -> Column:
    latest = F.col("timestamp") + rules.max_ahead_ms
    kept = {
        Reason.ASIN: C.matches(F.col("asin"), rules.asin),
        Reason.KEY: F.col("keyed"),
        Reason.TITLE: F.col("title").isNotNull(),
        Reason.STARS: _within("stars_tenths", 0, rules.max_stars * 10),
        Reason.REVIEWS: _within("reviews", 0, rules.max_count),
        Reason.BOUGHT: _within("boughtInLastMonth", 0, rules.max_count),
        Reason.PRICE: _within("price_cents", 0, rules.max_dollars * 100),
        Reason.LIST_PRICE: _within("list_price_cents", 0, rules.max_dollars * 100),
        Reason.CATEGORY_ID: _within("category_id", 1, rules.max_id),
        Reason.BEST_SELLER: F.col("isBestSeller").isNotNull(),
        Reason.DATE: F.coalesce(F.col("observed_at").between(F.lit(rules.earliest_ms), latest), F.lit(False)),
    }
    return _first_broken(kept)


def _category_reason(rules: Rules) -> Column:
    return _first_broken(
        {
            Reason.ID: _within("category_id", 1, rules.max_id),
            Reason.CATEGORY_NAME: F.coalesce(F.length("category_name").between(1, rules.max_name_length), F.lit(False)),
        }
    )


def _first_broken(kept: dict[Reason, Column]) -> Column:
    return F.coalesce(*(F.when(~keeps, reason.value) for reason, keeps in kept.items()))
