"""What the translator knows of a database: tables with typed fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from mongopipe.sql_types import SqlType


@dataclass(frozen=True)
class Field:
    """A column of a table.

    `path` leads from the document to the value, one entry a level; `name` is the path joined by dots. `element` is the sql_type of an
    array's elements. `nullable` is what the schema says; the translator relies on it for nothing.
    """

    name: str
    path: tuple[str, ...]
    type: SqlType
    nullable: bool = True
    element: SqlType | None = None


@dataclass(frozen=True)
class Table:
    """A collection or a view, by its name in the database."""

    name: str
    fields: tuple[Field, ...]
    is_view: bool = False
    comment: str | None = field(default=None, compare=False)

    @cached_property
    def by_name(self) -> dict[str, Field]:
        return {each.name: each for each in self.fields}


class Catalog(Protocol):
    """Where the translator looks tables up."""

    @property
    def database(self) -> str:
        """The database that names without a schema belong to."""

    def table(self, name: str) -> Table:
        """The table of that name. Raises ProgrammingError where there is none."""
