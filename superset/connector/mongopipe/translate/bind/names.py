"""Name resolution.

A name in double quotes matches exactly. A bare name matches exactly, or else regardless of case if only one column then matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.translate.scalars import Column

T = TypeVar("T")


@dataclass(frozen=True)
class Name:
    """A name as written: its dotted parts, and whether all parts have quotes."""

    parts: tuple[str, ...]
    quoted: bool

    @classmethod
    def of(cls, node: exp.Expression) -> Name:
        """Returns the name in a Column, Dot or Identifier node. Raises NotSupportedError for other nodes."""
        identifiers: list[exp.Expression] = []
        while isinstance(node, exp.Dot):
            identifiers.append(node.expression)
            node = node.this
        if isinstance(node, exp.Column):
            identifiers.extend(each for key in ("this", "table", "db", "catalog") if (each := node.args.get(key)) is not None)
        else:
            identifiers.append(node)
        if not all(isinstance(each, exp.Identifier) for each in identifiers):
            raise NotSupportedError(f"{node.sql()} is not supported as a name")
        return cls(tuple(each.name for each in reversed(identifiers)), all(each.args.get("quoted") for each in identifiers))

    def __str__(self) -> str:
        return ".".join(self.parts)


def matching(name: str, quoted: bool, candidates: Iterable[tuple[str, T]]) -> list[T]:
    """Returns the candidates that the name matches."""
    found = list(candidates)
    exact = [value for candidate, value in found if candidate == name]
    if exact or quoted:
        return exact
    return [value for candidate, value in found if candidate.lower() == name.lower()]


@dataclass
class Relation:
    """The columns of one entry of FROM. `shadowed` are columns that USING merges into an earlier relation's."""

    alias: str
    columns: list[tuple[str, Column]]
    schema: str | None = None
    shadowed: set[str] = field(default_factory=set)

    def visible(self) -> list[tuple[str, Column]]:
        return [(name, column) for name, column in self.columns if name not in self.shadowed]


@dataclass
class Scope:
    """The relations of one SELECT, inside the scope of the enclosing query."""

    relations: list[Relation] = field(default_factory=list)
    outer: Scope | None = None

    def find(self, name: Name) -> Column | None:
        """Returns the column from this scope or an enclosing one. Raises ProgrammingError if several columns match."""
        found = self._qualified(name) or self._bare(name)
        if len(found) > 1:
            raise ProgrammingError(f"column {name} is ambiguous: qualify it with a table")
        if found:
            return found[0]
        return None if self.outer is None else self.outer.find(name)

    def column(self, name: Name) -> Column:
        """Returns the column. Raises ProgrammingError if no column matches."""
        found = self.find(name)
        if found is None:
            raise ProgrammingError(f"no such column: {name}")
        return found

    def _qualified(self, name: Name) -> list[Column]:
        for skip in (1, 2):
            if len(name.parts) > skip:
                for relation in self.relations:
                    if skip == 2 and relation.schema != name.parts[0]:
                        continue
                    if matching(name.parts[skip - 1], name.quoted, [(relation.alias, relation)]):
                        found = matching(".".join(name.parts[skip:]), name.quoted, relation.columns)
                        if found:
                            return found
        return []

    def _bare(self, name: Name) -> list[Column]:
        candidates = [pair for relation in self.relations for pair in relation.visible()]
        return matching(str(name), name.quoted, candidates)

    def relation(self, name: Name) -> Relation:
        """Returns the relation of `alias.*`."""
        found = matching(name.parts[-1], name.quoted, [(each.alias, each) for each in self.relations])
        if len(found) != 1:
            raise ProgrammingError(f"no such table: {name}")
        return found[0]
