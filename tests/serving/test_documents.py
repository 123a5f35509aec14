"""The types of stored documents have the fields that the validators have. Nothing but comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from tidemark.serving.documents import ChunkDocument, IngestionDocument, PublicationDocument, VerificationDocument
from tidemark.serving.schema import COLLECTIONS, Schema

STORED: dict[str, type] = {
    "publication": PublicationDocument,
    "verification": VerificationDocument,
    "ingestion": IngestionDocument,
    "ingestion_chunk": ChunkDocument,
}
# Fields that the validators leave open.
NOT_VALIDATED = {
    "publication": {"rebuilds"},
    "verification": {"_id", "rules", "rules_changed", "counts", "named", "reconciled"},
    "verification.compared.before": {"discounted"},
    "verification.compared.after": {"discounted"},
}
OF_BSON: dict[str, type] = {
    **{"int": int, "long": int, "double": float, "bool": bool, "string": str, "binData": bytes},
    **{"date": datetime, "object": dict, "array": list, "null": NoneType},
}


def differences(where: str, schema: Schema, declared: Any) -> Iterator[str]:
    """Where a type and the schema of its values differ, as lines."""
    members = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    if "enum" in schema:
        wanted = {str} if members == (str,) else {repr(one) for one in schema["enum"]}
        found = {str} if members == (str,) else {repr(one) for member in members for one in values(member)}
    else:
        kinds = schema["bsonType"] if isinstance(schema["bsonType"], list) else [schema["bsonType"]]
        wanted = {OF_BSON[kind] for kind in kinds}
        if float in wanted:
            wanted.discard(int)  # a float may be an int
        found = {dict if is_typeddict(member) else get_origin(member) or member for member in members}
    if wanted != found:
        yield f"{where} is {found}, the validator wants {wanted}"
    for member in members:
        if is_typeddict(member):
            yield from of_fields(where, schema, member)
        elif get_origin(member) is list and "items" in schema:
            yield from differences(f"{where}[]", schema["items"], get_args(member)[0])


def values(member: Any) -> tuple[Any, ...]:
    """The values of a Literal or of an enum."""
    return get_args(member) if get_origin(member) is Literal else tuple(one.value for one in member)


def of_fields(where: str, schema: Schema, declared: type) -> Iterator[str]:
    # Not __required_keys__, which is wrong for annotations that are text.
    hints = get_type_hints(declared, include_extras=True)
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    open_fields, properties = NOT_VALIDATED.get(where, set()), schema.get("properties", {})
    if hints.keys() - open_fields != properties.keys() or not open_fields <= hints.keys() - properties.keys():
        yield f"{where} has {sorted(hints)}, the validator has {sorted(properties)} and leaves {sorted(open_fields)} open"
    if (required := hints.keys() - open_fields - optional) != set(schema.get("required", ())):
        yield f"{where} requires {sorted(required)}, the validator requires {sorted(schema.get('required', ()))}"
    for name in hints.keys() & properties.keys():
        hint = get_args(hints[name])[0] if name in optional else hints[name]
        yield from differences(f"{where}.{name}", properties[name], hint)


@pytest.mark.parametrize("name", STORED)
def test_a_type_has_the_fields_of_its_validator(name: str) -> None:
    (schema,) = (one.schema for one in COLLECTIONS if one.name == name)
    assert list(differences(name, schema, STORED[name])) == []


class Inner(TypedDict):
    at: datetime


class Outer(TypedDict):
    number: int
    status: Literal["open", "done"]
    inner: NotRequired[list[Inner] | None]


AT: Schema = {"bsonType": "object", "required": ["at"], "properties": {"at": {"bsonType": "date"}}}
FIELDS: Schema = {
    "number": {"bsonType": ["int", "long"]},
    "status": {"enum": ["open", "done"]},
    "inner": {"bsonType": ["array", "null"], "items": AT},
}
REQUIRED = ["number", "status"]


def lines(required: list[str], properties: Schema) -> list[str]:
    return list(differences("outer", {"bsonType": "object", "required": required, "properties": properties}, Outer))


def test_equal_fields_give_no_difference() -> None:
    assert lines(REQUIRED, FIELDS) == []


@pytest.mark.parametrize(
    ("required", "properties"),
    [
        (REQUIRED, {**FIELDS, "more": {"bsonType": "int"}}),
        (REQUIRED, {name: of for name, of in FIELDS.items() if name != "inner"}),
        ([*REQUIRED, "inner"], FIELDS),
        (["number"], FIELDS),
        (REQUIRED, {**FIELDS, "number": {"bsonType": "double"}}),
        (REQUIRED, {**FIELDS, "number": {"bsonType": ["int", "null"]}}),
        (REQUIRED, {**FIELDS, "status": {"enum": ["open"]}}),
        (REQUIRED, {**FIELDS, "inner": {"bsonType": "array", "items": AT}}),
        (REQUIRED, {**FIELDS, "inner": {**FIELDS["inner"], "items": {**AT, "required": []}}}),
        (REQUIRED, {**FIELDS, "inner": {**FIELDS["inner"], "items": {**AT, "properties": {"at": {"bsonType": "string"}}}}}),
    ],
)
def test_each_different_field_requirement_or_type_is_one_difference(required: list[str], properties: Schema) -> None:
    assert len(lines(required, properties)) == 1
