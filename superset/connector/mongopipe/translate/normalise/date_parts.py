"""Functions that return a part of a date become EXTRACT."""

from sqlglot import exp

_CLASSES: dict[type[exp.Expression], str] = {
    exp.Year: "YEAR",
    exp.Quarter: "QUARTER",
    exp.Month: "MONTH",
    exp.Week: "WEEK",
    exp.WeekOfYear: "WEEK",
    exp.Day: "DAY",
    exp.DayOfMonth: "DAY",
    exp.DayOfYear: "DOY",
    exp.DayOfWeekIso: "ISODOW",
    exp.Hour: "HOUR",
    exp.Minute: "MINUTE",
    exp.Second: "SECOND",
}
_NAMES = {"EPOCH": "EPOCH", "HOUR": "HOUR", "MINUTE": "MINUTE", "SECOND": "SECOND", "ISODOW": "ISODOW"}


def date_parts(query: exp.Query) -> exp.Query:
    """Rewrites `YEAR(x)` and `DATE_PART('year', x)` to `EXTRACT(YEAR FROM x)`."""
    for node in list(query.find_all(*_CLASSES)):
        inner = node.this.this if isinstance(node.this, exp.TsOrDsToDate) else node.this
        node.replace(exp.Extract(this=exp.var(_CLASSES[type(node)]), expression=inner))
    for node in list(query.find_all(exp.Anonymous)):
        name = node.name.upper()
        if name == "DATE_PART" and len(node.expressions) == 2 and isinstance(node.expressions[0], exp.Literal):
            node.replace(exp.Extract(this=exp.var(node.expressions[0].name.upper()), expression=node.expressions[1]))
        elif name in _NAMES and len(node.expressions) == 1:
            node.replace(exp.Extract(this=exp.var(_NAMES[name]), expression=node.expressions[0]))
    return query
