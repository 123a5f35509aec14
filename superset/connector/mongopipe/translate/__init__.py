"""SQL to one MongoDB aggregation pipeline: parse, normalise, bind (qualify and plan), optimise, emit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mongopipe.schema import Catalog
from mongopipe.translate.bind import bind
from mongopipe.translate.emit import Pipeline, emit
from mongopipe.translate.normalise import normalise
from mongopipe.translate.optimise import optimise
from mongopipe.translate.parse import parse


@dataclass(frozen=True)
class Translation:
    """A pipeline, and the labels of the columns that its documents hold (c0, c1 ...)."""

    pipeline: Pipeline
    labels: tuple[str, ...]


def translate(sql: str, catalog: Catalog, parameters: Mapping[str, Any] | None = None) -> Translation:
    """The pipeline that answers a SELECT.

    `parameters` are the values of `:name` in the text. Raises ProgrammingError for a statement that is wrong, NotSupportedError, naming
    the construct, for one that cannot be translated, DataError for a constant that does not fit its type.
    """
    bound = bind(normalise(parse(sql)), catalog, parameters or {})
    return Translation(emit(optimise(bound.plan)), bound.labels)
