"""The fields that a view's pipeline defines. They do not depend on documents, so an empty view has columns, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mongopipe.schema import Field
from mongopipe.sql_types import SqlType

Fields = list[Field]
Stage = Mapping[str, Any]

_KEEPING = frozenset(("$match", "$sort", "$limit", "$skip", "$sample", "$densify", "$unionWith", "$fill"))


def after(pipeline: Sequence[Stage], fields: Iterable[Field]) -> Fields:
    """Returns the fields of documents after a pipeline, or nothing if the fields after one of its stages are unknown.

    A computed field has type NULL, which the translator accepts as any type.
    """
    found = list(fields)
    for stage in pipeline:
        ((operator, argument),) = stage.items()
        if operator in _KEEPING:
            continue
        given = _STAGES[operator](argument, found) if operator in _STAGES else None
        if given is None:
            return []
        found = given
    return found


def _project(argument: Stage, fields: Fields) -> Fields:
    keeps = {name: value for name, value in argument.items() if value not in (0, False)}
    if not keeps:
        return _unset(list(argument), fields)
    identity = [] if "_id" in argument else _under("_id", fields)
    return [
        *identity,
        *(each for name, value in keeps.items() for each in (_under(name, fields) if value in (1, True) else [_made(name, value, fields)])),
    ]


def _set(argument: Stage, fields: Fields) -> Fields:
    new = [_made(name, value, fields) for name, value in argument.items()]
    return [*_unset(list(argument), fields), *new]


def _unset(argument: str | Sequence[str], fields: Fields) -> Fields:
    gone = [_path(name) for name in ([argument] if isinstance(argument, str) else argument)]
    return [each for each in fields if not any(each.path[: len(path)] == path for path in gone)]


def _group(argument: Stage, fields: Fields) -> Fields:
    return [_made(name, value, fields) for name, value in argument.items()]


def _replace(argument: Any, fields: Fields) -> Fields | None:
    match argument:
        case str():
            path = _path(argument.removeprefix("$"))
            return [_field(each.path[len(path) :], each.type) for each in fields if each.path[: len(path)] == path and each.path != path]
        case {"$mergeObjects": [*parts]}:
            merged: dict[str, Field] = {}
            for part in parts:
                merged |= {each.name: each for each in _replace(part, fields) or ()}
            return list(merged.values()) or None
        case Mapping() if not any(name.startswith("$") for name in argument):
            return _group(argument, fields)
    return None


def _lookup(argument: Stage, fields: Fields) -> Fields:
    return [*_unset(argument["as"], fields), _field(_path(argument["as"]), SqlType.ARRAY)]


def _unwind(argument: str | Stage, fields: Fields) -> Fields:
    path = _path((argument if isinstance(argument, str) else argument["path"]).removeprefix("$"))
    return [_field(each.path, each.element or SqlType.NULL) if each.path == path else each for each in fields]


def _window(argument: Stage, fields: Fields) -> Fields:
    return _set(argument["output"], fields)


def _count(argument: str, _: Fields) -> Fields:
    return [_field((argument,), SqlType.INTEGER)]


_STAGES: dict[str, Callable[[Any, Fields], Fields | None]] = {
    "$project": _project,
    "$set": _set,
    "$addFields": _set,
    "$unset": _unset,
    "$group": _group,
    "$replaceWith": _replace,
    "$replaceRoot": lambda argument, fields: _replace(argument["newRoot"], fields),
    "$lookup": _lookup,
    "$unwind": _unwind,
    "$setWindowFields": _window,
    "$count": _count,
}


def _made(name: str, value: Any, fields: Fields) -> Field:
    """Returns the field that an expression defines. Its type is known only if the expression is a field itself."""
    source = _path(value[1:]) if isinstance(value, str) and value.startswith("$") else None
    types = [each.type for each in fields if each.path == source]
    return _field(_path(name), types[0] if types else SqlType.NULL)


def _under(name: str, fields: Fields) -> Fields:
    path = _path(name)
    return [each for each in fields if each.path[: len(path)] == path] or [_field(path, SqlType.NULL)]


def _field(path: tuple[str, ...], sql_type: SqlType) -> Field:
    return Field(".".join(path), path, sql_type)


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))
