"""Translates SQL to one MongoDB aggregation pipeline: parse, normalise, bind (resolve names and plan), optimise, emit."""

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
    """A pipeline, and the labels of the columns in its documents (c0, c1 ...)."""

    pipeline: Pipeline
    labels: tuple[str, ...]


def translate(sql: str, catalog: Catalog, parameters: Mapping[str, Any] | None = None) -> Translation:
    """Translates a SELECT to a pipeline.

    `parameters` are the values of `:name` in the text. Raises ProgrammingError for an invalid statement, NotSupportedError for a construct
    without a translation, and DataError for a constant that does not fit its type.
    """
    bound = bind(normalise(parse(sql)), catalog, parameters or {})
    return Translation(emit(optimise(bound.plan)), bound.labels)
