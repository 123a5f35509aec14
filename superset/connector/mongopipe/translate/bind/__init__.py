"""Resolves names and types, and builds a relational plan from sqlglot's syntax tree. Both happen in one pass: each needs the other."""

from mongopipe.translate.bind.query import Bound, bind

__all__ = ["Bound", "bind"]
