"""Rewrites of the syntax tree that say the same in fewer words: a tuple of functions, a file per rule."""

from sqlglot import exp

from mongopipe.translate.normalise.alternatives import alternatives
from mongopipe.translate.normalise.between import between
from mongopipe.translate.normalise.conditionals import conditionals
from mongopipe.translate.normalise.date_parts import date_parts
from mongopipe.translate.normalise.named_windows import named_windows

RULES = (named_windows, between, conditionals, date_parts, alternatives)
"""In the order they run. Each may change the tree that it is given, and returns the tree."""


def normalise(query: exp.Query) -> exp.Query:
    """The query with all rules applied."""
    for rule in RULES:
        query = rule(query)
    return query
