"""Names and types: from sqlglot's syntax tree to a relational plan (qualify and plan in one walk, as each needs the other)."""

from mongopipe.translate.bind.query import Bound, bind

__all__ = ["Bound", "bind"]
