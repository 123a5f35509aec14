"""Equivalent rewrites of the syntax tree into fewer constructs: a tuple of functions, one file for each rule."""

from sqlglot import exp

from mongopipe.translate.normalise.alternatives import alternatives
from mongopipe.translate.normalise.between import between
from mongopipe.translate.normalise.conditionals import conditionals
from mongopipe.translate.normalise.date_parts import date_parts
from mongopipe.translate.normalise.named_windows import named_windows

RULES = (named_windows, between, conditionals, date_parts, alternatives)
"""The rules in the order of application. Each rule may change the given tree, and returns the tree."""


def normalise(query: exp.Query) -> exp.Query:
    """Applies all rules to the query."""
    for rule in RULES:
        query = rule(query)
    return query
