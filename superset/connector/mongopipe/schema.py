"""The schema that the translator uses: tables with typed fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from mongopipe.sql_types import SqlType


@dataclass(frozen=True)
class Field:
    """A column of a table.

    `path` leads from the document to the value, one entry for each level; `name` is the path joined by dots. `element` is the type of an
    array's elements. `nullable` comes from the schema; the translator does not rely on it.
    """

    name: str
    path: tuple[str, ...]
    type: SqlType
    nullable: bool = True
    element: SqlType | None = None


@dataclass(frozen=True)
class Table:
    """A collection or a view, with its name in the database."""

    name: str
    fields: tuple[Field, ...]
    is_view: bool = False
    comment: str | None = field(default=None, compare=False)

    @cached_property
    def by_name(self) -> dict[str, Field]:
        return {each.name: each for each in self.fields}


class Catalog(Protocol):
    """The source of tables for the translator."""

    @property
    def database(self) -> str:
        """The database of unqualified table names."""

    def table(self, name: str) -> Table:
        """Returns the table of that name. Raises ProgrammingError if there is none."""
