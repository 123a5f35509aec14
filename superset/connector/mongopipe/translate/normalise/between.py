"""BETWEEN is two comparisons."""

from sqlglot import exp

from mongopipe.errors import NotSupportedError


def between(query: exp.Query) -> exp.Query:
    """`x BETWEEN a AND b` becomes `x >= a AND x <= b`. Raises NotSupportedError for BETWEEN SYMMETRIC."""
    for node in reversed(list(query.find_all(exp.Between))):  # inner ones first, as the subject is copied
        if node.args.get("symmetric"):
            raise NotSupportedError("BETWEEN SYMMETRIC is not supported")
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"])
        high = exp.LTE(this=node.this, expression=node.args["high"])
        node.replace(exp.paren(exp.And(this=low, expression=high)))
    return query
