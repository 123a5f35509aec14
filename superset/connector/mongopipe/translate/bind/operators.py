"""Names, constants, arithmetic, comparisons, predicates, CASE and CAST."""

from __future__ import annotations

from operator import add, mul, sub

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType, common_type
from mongopipe.translate.bind.binder import Binder, Handlers
from mongopipe.translate.bind.coerce import alike, as_number, as_text, as_truth, comparable, literal_as, number, whole
from mongopipe.translate.bind.dates import date_arithmetic, with_interval
from mongopipe.translate.bind.names import Name
from mongopipe.translate.bind.subqueries import in_subquery
from mongopipe.translate.patterns import Fold, folded, like_regex
from mongopipe.translate.scalars import (
    FALSE,
    NULL,
    TRUE,
    And,
    Call,
    Case,
    Cast,
    Compare,
    InList,
    IsNull,
    IsTruth,
    Like,
    Literal,
    Not,
    Or,
    Same,
    Scalar,
)

_TYPES = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "MEDIUMINT", "BIGINT"), SqlType.INTEGER),
    **dict.fromkeys(("FLOAT", "DOUBLE"), SqlType.DOUBLE),
    "DECIMAL": SqlType.DECIMAL,
    **dict.fromkeys(("CHAR", "NCHAR", "VARCHAR", "NVARCHAR", "TEXT"), SqlType.STRING),
    "BOOLEAN": SqlType.BOOLEAN,
    "DATE": SqlType.DATE,
    **dict.fromkeys(("TIMESTAMP", "DATETIME", "TIMESTAMPTZ", "TIMESTAMPNTZ"), SqlType.TIMESTAMP),
}


def _column(binder: Binder, node: exp.Column | exp.Dot) -> Scalar:
    name = Name.of(node)
    found = binder.scope.find(name)
    if found is None and len(name.parts) == 1 and name.parts[0] in binder.aliases:
        return binder.aliases[name.parts[0]]
    return found if found is not None else binder.scope.column(name)


def _literal(_: Binder, node: exp.Literal) -> Scalar:
    return Literal(node.this, SqlType.STRING) if node.is_string else number(node.this)


def _boolean(_: Binder, node: exp.Boolean) -> Scalar:
    return TRUE if node.this else FALSE


def _null(_: Binder, __: exp.Null) -> Scalar:
    return NULL


def _placeholder(binder: Binder, node: exp.Placeholder) -> Scalar:
    if not node.name:
        raise ProgrammingError("positional parameters are not supported: use :name")
    return binder.parameter(node.name)


def _inner(binder: Binder, node: exp.Expression) -> Scalar:
    return binder.bind(node.this)


def _arithmetic(binder: Binder, node: exp.Binary) -> Scalar:
    name = {exp.Add: "add", exp.Sub: "subtract", exp.Mul: "multiply", exp.Div: "divide", exp.Mod: "modulo"}[type(node)]
    shifting = name in ("add", "subtract")
    moved = with_interval(binder, node) if shifting else None
    if moved is not None:
        return moved
    first, second = binder.bind(node.left), binder.bind(node.right)
    moved = date_arithmetic(first, second, -1 if name == "subtract" else 1) if shifting else None
    if moved is not None:
        return moved
    left, right = (as_number(_numeral(each), f"operator {name}") for each in (first, second))
    sql_type = common_type((left.type, right.type))
    if name in _FOLDED and isinstance(left, Literal) and isinstance(right, Literal) and sql_type is SqlType.INTEGER:
        values = (left.value, right.value)
        return NULL if None in values else whole(_FOLDED[name](*values))
    if name == "divide" and sql_type is SqlType.INTEGER:
        sql_type = SqlType.DOUBLE
    return Call(name, (left, right), sql_type)


_FOLDED = {"add": add, "subtract": sub, "multiply": mul}


def _numeral(scalar: Scalar) -> Scalar:
    """Converts a text constant to a number."""
    if isinstance(scalar, Literal) and isinstance(scalar.value, str):
        return number(scalar.value)
    return scalar


def _negative(binder: Binder, node: exp.Neg) -> Scalar:
    arg = as_number(binder.bind(node.this), "operator -")
    if isinstance(arg, Literal) and arg.type in (SqlType.INTEGER, SqlType.DOUBLE):
        return Literal(-arg.value, arg.type)
    return Call("multiply", (arg, Literal(-1, SqlType.INTEGER)), arg.type)


_OPERATORS: dict[type[exp.Expression], str] = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}


def _comparison(binder: Binder, node: exp.Binary) -> Scalar:
    operator = _OPERATORS[type(node)]
    if isinstance(node.expression, exp.Any | exp.All):
        return _quantified(binder, node, operator)
    left, right = comparable(binder.bind(node.left), binder.bind(node.right), operator)
    return Compare(operator, left, right)


def _quantified(binder: Binder, node: exp.Binary, operator: str) -> Scalar:
    """Binds `x = ANY (SELECT ...)` and `'x' = ANY (array)`. Raises NotSupportedError for other comparisons with ANY or ALL."""
    inner = node.expression.this.unnest() if isinstance(node.expression.this, exp.Paren) else node.expression.this
    if operator != "=" or isinstance(node.expression, exp.All):
        raise NotSupportedError(f"{operator} {type(node.expression).__name__.upper()} is not supported")
    if isinstance(inner, exp.Subquery | exp.Query):
        return in_subquery(binder, node.left, inner)
    return contains_element(binder.bind(inner), binder.bind(node.left))


def contains_element(array: Scalar, element: Scalar) -> Scalar:
    """Returns whether the array contains the element; unknown if either is null."""
    if array.type is not SqlType.ARRAY:
        raise ProgrammingError(f"expected an array, got {array.type.value}")
    return Call("array_contains", (array, element), SqlType.BOOLEAN)


def _same(binder: Binder, node: exp.Binary) -> Scalar:
    same = Same(*comparable(binder.bind(node.left), binder.bind(node.right)))
    return same if isinstance(node, exp.NullSafeEQ) else Not(same)


def _is(binder: Binder, node: exp.Is) -> Scalar:
    left = binder.bind(node.this)
    if isinstance(node.expression, exp.Null):
        return IsNull(left)
    if isinstance(node.expression, exp.Boolean):
        if isinstance(left, Literal):
            left = literal_as(left, SqlType.BOOLEAN) or left
        return IsTruth(as_truth(left), bool(node.expression.this))
    raise NotSupportedError(f"IS {node.expression.sql()} is not supported")


def _and(binder: Binder, node: exp.And) -> Scalar:
    return And(tuple(as_truth(binder.bind(each)) for each in node.flatten()))


def _or(binder: Binder, node: exp.Or) -> Scalar:
    return Or(tuple(as_truth(binder.bind(each)) for each in node.flatten()))


def _not(binder: Binder, node: exp.Not) -> Scalar:
    return Not(as_truth(binder.bind(node.this)))


def _in(binder: Binder, node: exp.In) -> Scalar:
    query = node.args.get("query")
    if query is not None:
        return in_subquery(binder, node.this, query)
    if isinstance(node.this, exp.Tuple):
        raise NotSupportedError("IN over a tuple of columns is not supported")
    arg = binder.bind(node.this)
    options = []
    for each in binder.bind_all(node.expressions):
        compared, option = comparable(arg, each)
        if compared is not arg and isinstance(arg, Literal):
            return Or(tuple(Compare("=", *comparable(arg, other)) for other in binder.bind_all(node.expressions)))
        arg = compared
        options.append(option)
    return InList(arg, tuple(options))


def _like(binder: Binder, node: exp.Like | exp.ILike, escape: str | None = None) -> Scalar:
    if isinstance(node.expression, exp.Any | exp.All):
        raise NotSupportedError("LIKE ANY is not supported")
    arg = as_text(binder.bind(node.this))
    pattern = binder.constant(node.expression, "a LIKE pattern").value
    if pattern is None:
        return Literal(None, SqlType.BOOLEAN)
    if not isinstance(pattern, str):
        raise ProgrammingError("a LIKE pattern must be text")
    shown = pattern if escape is None else f"{pattern} escape {escape}"
    if isinstance(node, exp.ILike):
        return Like(arg, like_regex(folded(pattern, Fold.LOWER), escape, Fold.LOWER), f"{shown} ignoring case")
    if isinstance(arg, Call) and arg.name in ("lower", "upper"):
        return Like(arg.args[0], like_regex(pattern, escape, Fold(arg.name)), f"{shown} in {arg.name} case")
    return Like(arg, like_regex(pattern, escape), shown)


def _escape(binder: Binder, node: exp.Escape) -> Scalar:
    escape = binder.text(node.expression, "ESCAPE")
    if len(escape) != 1:
        raise ProgrammingError("ESCAPE must be one character")
    inner = node.this
    if isinstance(inner, exp.Not):
        return Not(_escape(binder, exp.Escape(this=inner.this, expression=node.expression)))
    if not isinstance(inner, exp.Like | exp.ILike):
        raise NotSupportedError("ESCAPE is supported for LIKE and ILIKE only")
    return _like(binder, inner, escape)


def _case(binder: Binder, node: exp.Case) -> Scalar:
    conditions = [as_truth(binder.bind(branch.this)) for branch in node.args["ifs"]]
    default = node.args.get("default")
    values = [binder.bind(branch.args["true"]) for branch in node.args["ifs"]]
    values.append(NULL if default is None else binder.bind(default))
    values, sql_type = alike(values, "CASE")
    return Case(tuple(zip(conditions, values[:-1], strict=True)), values[-1], sql_type)


def _cast(binder: Binder, node: exp.Cast) -> Scalar:
    target = node.to
    sql_type = _TYPES.get(target.this.name if isinstance(target.this, exp.DataType.Type) else "")
    if sql_type is None or (sql_type is not SqlType.DECIMAL and sql_type is not SqlType.STRING and target.expressions):
        raise NotSupportedError(f"CAST to {target.sql()} is not supported")
    arg = binder.bind(node.this)
    if sql_type is SqlType.STRING and target.expressions and not isinstance(node, exp.TryCast):
        raise NotSupportedError(f"CAST to {target.sql()} is not supported: use LEFT to truncate")
    decimals = None
    if sql_type is SqlType.DECIMAL and target.expressions:
        decimals = int(target.expressions[1].name) if len(target.expressions) > 1 else 0
    safe = isinstance(node, exp.TryCast)
    if sql_type is SqlType.STRING:
        return as_text(arg)
    if isinstance(arg, Literal) and isinstance(arg.value, str) and sql_type.temporal and not safe:
        moment = literal_as(arg, SqlType.TIMESTAMP)
        assert moment is not None
        if sql_type is SqlType.DATE:
            return Literal(moment.value.replace(hour=0, minute=0, second=0, microsecond=0), sql_type)
        return moment
    allowed = {
        SqlType.INTEGER: (SqlType.INTEGER, SqlType.DOUBLE, SqlType.DECIMAL, SqlType.STRING, SqlType.BOOLEAN),
        SqlType.DOUBLE: (SqlType.INTEGER, SqlType.DOUBLE, SqlType.DECIMAL, SqlType.STRING, SqlType.BOOLEAN),
        SqlType.DECIMAL: (SqlType.INTEGER, SqlType.DOUBLE, SqlType.DECIMAL, SqlType.STRING, SqlType.BOOLEAN),
        SqlType.BOOLEAN: (SqlType.BOOLEAN, SqlType.INTEGER, SqlType.STRING),
        SqlType.DATE: (SqlType.DATE, SqlType.TIMESTAMP, SqlType.STRING),
        SqlType.TIMESTAMP: (SqlType.DATE, SqlType.TIMESTAMP, SqlType.STRING),
    }[sql_type]
    if arg.type not in (*allowed, SqlType.NULL):
        raise NotSupportedError(f"CAST of {arg.type.value} to {sql_type.value} is not supported")
    if arg.type is sql_type and decimals is None:
        return arg
    cast: Scalar = Cast(arg, sql_type, safe)
    return cast if decimals is None else Call("round", (cast, Literal(decimals, SqlType.INTEGER)), sql_type)


def _concatenation(binder: Binder, node: exp.DPipe) -> Scalar:
    args = tuple(as_text(binder.bind(each)) for each in node.flatten())
    texts = [each.value for each in args if isinstance(each, Literal)]
    if len(texts) == len(args):  # makes the pattern in `LIKE :name || '%'` a constant
        return Literal(None if None in texts else "".join(texts), SqlType.STRING)
    return Call("concat", args, SqlType.STRING)


_BINARY = "this expression"
HANDLERS: Handlers = {
    exp.Column: ("this table db catalog", _column),
    exp.Dot: ("this expression", _column),
    exp.Literal: ("this is_string", _literal),
    exp.Boolean: ("this", _boolean),
    exp.Null: ("", _null),
    exp.Placeholder: ("this", _placeholder),
    exp.Paren: ("this", _inner),
    exp.Neg: ("this", _negative),
    **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod), (_BINARY, _arithmetic)),
    **dict.fromkeys(_OPERATORS, (_BINARY, _comparison)),
    **dict.fromkeys((exp.NullSafeEQ, exp.NullSafeNEQ), (_BINARY, _same)),
    exp.Is: (_BINARY, _is),
    exp.And: (_BINARY, _and),
    exp.Or: (_BINARY, _or),
    exp.Not: ("this", _not),
    exp.In: ("this expressions query", _in),
    exp.Like: (_BINARY, _like),
    exp.ILike: (_BINARY, _like),
    exp.Escape: (_BINARY, _escape),
    exp.Case: ("ifs default", _case),
    exp.Cast: ("this to", _cast),
    exp.TryCast: ("this to", _cast),
    exp.DPipe: (_BINARY, _concatenation),
}
