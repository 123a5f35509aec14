"""BETWEEN becomes two comparisons."""

from sqlglot import exp

from mongopipe.errors import NotSupportedError


def between(query: exp.Query) -> exp.Query:
    """Rewrites `x BETWEEN a AND b` to `x >= a AND x <= b`. Raises NotSupportedError for BETWEEN SYMMETRIC."""
    for node in reversed(list(query.find_all(exp.Between))):  # inner nodes first, because the subject is copied
        if node.args.get("symmetric"):
            raise NotSupportedError("BETWEEN SYMMETRIC is not supported: use BETWEEN with the lower bound first")
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"])
        high = exp.LTE(this=node.this, expression=node.args["high"])
        node.replace(exp.paren(exp.And(this=low, expression=high)))
    return query
