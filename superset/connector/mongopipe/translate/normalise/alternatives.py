"""Equality tests of one column, joined by OR, become a list: MongoDB searches a list of any length with one lookup."""

from functools import reduce

from sqlglot import exp

_CONSTANTS = (exp.Literal, exp.Boolean)


def alternatives(query: exp.Query) -> exp.Query:
    """Rewrites `x = 1 OR y OR x = 2` to `x IN (1, 2) OR y`."""
    for node in list(query.find_all(exp.Or)):
        if isinstance(node.parent, exp.Or):
            continue  # part of a longer OR
        values: dict[exp.Expression, list[exp.Expression]] = {}
        kept: list[exp.Expression] = []
        for each in list(node.flatten()):
            if not _says_a_value(each):
                kept.append(each)
            elif each.this in values:
                values[each.this].append(each.expression)
            else:
                values[each.this] = [each.expression]
                kept.append(each)
        listed = [_listed(each, values[each.this]) if _says_a_value(each) else each for each in kept]
        if any(len(of) > 1 for of in values.values()):
            node.replace(reduce(lambda one, other: exp.Or(this=one, expression=other), listed))
    return query


def _says_a_value(node: exp.Expression) -> bool:
    return isinstance(node, exp.EQ) and isinstance(node.this, exp.Column) and isinstance(node.expression, _CONSTANTS)


def _listed(equal: exp.Expression, values: list[exp.Expression]) -> exp.Expression:
    return equal if len(values) == 1 else exp.In(this=equal.this, expressions=values)
