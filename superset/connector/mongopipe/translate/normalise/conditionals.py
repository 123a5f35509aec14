"""All conditional expressions become a searched CASE or a COALESCE."""

from sqlglot import exp

from mongopipe.errors import NotSupportedError


def conditionals(query: exp.Query) -> exp.Query:
    """Rewrites `IF(c, a, b)`, `CASE x WHEN v THEN a END` and NVL2 to `CASE WHEN c THEN a ELSE b END`."""
    for node in reversed(list(query.find_all(exp.Case))):  # inner nodes first, because the subject is copied
        subject = node.this
        if subject is not None:
            for branch in node.args["ifs"]:
                branch.set("this", exp.EQ(this=subject.copy(), expression=branch.this))
            node.set("this", None)
    for short in list(query.find_all(exp.If)):
        if not isinstance(short.parent, exp.Case) or short.arg_key != "ifs":
            branch = exp.If(this=short.this, true=short.args["true"])
            short.replace(exp.Case(ifs=[branch], default=short.args.get("false")))
    for choice in list(query.find_all(exp.Nvl2)):
        condition = exp.Not(this=exp.Is(this=choice.this, expression=exp.Null()))
        choice.replace(exp.Case(ifs=[exp.If(this=condition, true=choice.args["true"])], default=choice.args.get("false")))
    if query.find(exp.DecodeCase):
        raise NotSupportedError("DECODE is not supported: use CASE")
    return query
