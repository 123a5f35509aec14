"""Functions of numbers, text and arrays."""

from __future__ import annotations

from sqlglot import exp

from mongopipe.errors import NotSupportedError, ProgrammingError
from mongopipe.sql_types import SqlType
from mongopipe.translate.bind.binder import Binder, Handlers
from mongopipe.translate.bind.coerce import alike, as_number, as_text, comparable
from mongopipe.translate.bind.operators import contains_element
from mongopipe.translate.patterns import Fold, folded
from mongopipe.translate.scalars import Call, Case, Compare, Literal, Scalar, integer

_NAMES = {exp.Ceil: "ceil", exp.Floor: "floor", exp.Sqrt: "sqrt", exp.Exp: "exp", exp.Ln: "ln", exp.Abs: "abs", exp.Sign: "sign"}


def _number(binder: Binder, node: exp.Func) -> Scalar:
    """Binds a function of one number."""
    name = _NAMES[type(node)]
    arg = as_number(binder.bind(node.this), name.upper())
    types = {"sqrt": SqlType.DOUBLE, "exp": SqlType.DOUBLE, "ln": SqlType.DOUBLE, "sign": SqlType.INTEGER}
    return Call(name, (arg,), types.get(name, arg.type))


def _round(binder: Binder, node: exp.Round) -> Scalar:
    decimals = node.args.get("decimals")
    places = 0 if decimals is None else binder.whole(decimals, "the number of decimals")
    return _rounded(binder, "round", node.this, places)


def _rounded(binder: Binder, name: str, node: exp.Expression, places: int) -> Scalar:
    arg = as_number(binder.bind(node), name.upper())
    if not -15 <= places <= 15:
        raise NotSupportedError(f"{name.upper()} to {places} decimals is not supported: use -15 to 15")
    if arg.type is SqlType.INTEGER and places >= 0:
        return arg
    return Call(name, (arg, integer(places)), arg.type)


def _power(binder: Binder, node: exp.Pow) -> Scalar:
    return Call("power", tuple(as_number(binder.bind(each), "POWER") for each in (node.this, node.expression)), SqlType.DOUBLE)


def _log(binder: Binder, node: exp.Log) -> Scalar:
    """Binds LOG(base, x). LOG(x) is the decimal logarithm."""
    base = integer(10) if node.expression is None else as_number(binder.bind(node.this), "LOG")
    arg = as_number(binder.bind(node.expression or node.this), "LOG")
    return Call("log", (arg, base), SqlType.DOUBLE)


def _case_of_letters(binder: Binder, node: exp.Lower | exp.Upper) -> Scalar:
    fold = Fold.LOWER if isinstance(node, exp.Lower) else Fold.UPPER
    arg = as_text(binder.bind(node.this))
    if isinstance(arg, Literal) and isinstance(arg.value, str):
        return Literal(folded(arg.value, fold), SqlType.STRING)
    return Call(fold.value, (arg,), SqlType.STRING)


def _length(binder: Binder, node: exp.Length) -> Scalar:
    arg = binder.bind(node.this)
    if arg.type is SqlType.ARRAY:
        return Call("array_length", (arg,), SqlType.INTEGER)
    return Call("length", (as_text(arg),), SqlType.INTEGER)


def _substring(binder: Binder, node: exp.Substring) -> Scalar:
    start = binder.whole(node.args["start"], "the start of SUBSTRING") if node.args.get("start") else 1
    length = binder.whole(node.args["length"], "the length of SUBSTRING") if node.args.get("length") else None
    if start < 1 or (length is not None and length < 0):
        raise NotSupportedError("SUBSTRING with a start below 1 or a negative length is not supported")
    return Call("substring", (as_text(binder.bind(node.this)),), SqlType.STRING, (start - 1, length))


def _left(binder: Binder, node: exp.Left) -> Scalar:
    return Call("substring", (as_text(binder.bind(node.this)),), SqlType.STRING, (0, _count(binder, node)))


def _right(binder: Binder, node: exp.Right) -> Scalar:
    return Call("right", (as_text(binder.bind(node.this)),), SqlType.STRING, (_count(binder, node),))


def _count(binder: Binder, node: exp.Left | exp.Right) -> int:
    count = binder.whole(node.expression, f"the length of {type(node).__name__.upper()}")
    if count < 0:
        raise NotSupportedError(f"{type(node).__name__.upper()} with a negative length is not supported")
    return count


def _trim(binder: Binder, node: exp.Trim) -> Scalar:
    letters = " " if node.expression is None else binder.text(node.expression, "the characters of TRIM")
    arg = as_text(binder.bind(node.this))
    if not letters:
        return arg
    name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
    return Call(name, (arg,), SqlType.STRING, (letters,))


def _replace(binder: Binder, node: exp.Replace) -> Scalar:
    find = as_text(binder.bind(node.expression))
    if not isinstance(find, Literal) or not find.value:
        raise NotSupportedError("REPLACE needs a constant, non-empty search text")
    replacement = node.args.get("replacement")
    by = Literal("", SqlType.STRING) if replacement is None else as_text(binder.bind(replacement))
    return Call("replace", (as_text(binder.bind(node.this)), find, by), SqlType.STRING)


def _position(binder: Binder, node: exp.StrPosition) -> Scalar:
    return Call("position", (as_text(binder.bind(node.this)), as_text(binder.bind(node.args["substr"]))), SqlType.INTEGER)


def _contains(binder: Binder, node: exp.Contains | exp.StartsWith | exp.EndsWith) -> Scalar:
    text = binder.bind(node.this)
    if isinstance(node, exp.Contains) and text.type is SqlType.ARRAY:
        return contains_element(text, binder.bind(node.expression))
    name = {exp.Contains: "contains", exp.StartsWith: "starts_with", exp.EndsWith: "ends_with"}[type(node)]
    return Call(name, (as_text(text), as_text(binder.bind(node.expression))), SqlType.BOOLEAN)


def _split_part(binder: Binder, node: exp.SplitPart) -> Scalar:
    index = binder.whole(node.args["part_index"], "the index of SPLIT_PART")
    delimiter = binder.text(node.args["delimiter"], "the delimiter of SPLIT_PART")
    if index < 1 or not delimiter:
        raise NotSupportedError("SPLIT_PART needs a delimiter and an index of 1 or more")
    return Call("split_part", (as_text(binder.bind(node.this)),), SqlType.STRING, (delimiter, index - 1))


def _concat(binder: Binder, node: exp.Concat) -> Scalar:
    """Binds CONCAT, which treats null as empty text, unlike ||."""
    empty = Literal("", SqlType.STRING)
    args = (as_text(binder.bind(each)) for each in node.expressions)
    return Call("concat", tuple(Call("coalesce", (arg, empty), SqlType.STRING) for arg in args), SqlType.STRING)


def _coalesce(binder: Binder, node: exp.Coalesce) -> Scalar:
    args, sql_type = alike(binder.bind_all([node.this, *node.expressions]), "COALESCE")
    distinct = tuple(dict.fromkeys(args))
    return distinct[0] if len(distinct) == 1 else Call("coalesce", distinct, sql_type)


def _nullif(binder: Binder, node: exp.Nullif) -> Scalar:
    value = binder.bind(node.this)
    condition = Compare("=", *comparable(value, binder.bind(node.expression)))
    return Case(((condition, Literal(None, SqlType.NULL)),), value, value.type)


def _extreme(binder: Binder, node: exp.Greatest | exp.Least) -> Scalar:
    """Binds GREATEST and LEAST, which skip nulls, as in PostgreSQL."""
    name = "greatest" if isinstance(node, exp.Greatest) else "least"
    args, sql_type = alike(binder.bind_all([node.this, *node.expressions]), name.upper())
    if not sql_type.ordered:
        raise NotSupportedError(f"{name.upper()} of {sql_type.value} is not supported")
    return args[0] if len(args) == 1 else Call(name, tuple(args), sql_type)


def _array_length(binder: Binder, node: exp.ArraySize) -> Scalar:
    array = binder.bind(node.this)
    if array.type is not SqlType.ARRAY:
        raise ProgrammingError(f"ARRAY_LENGTH needs an array, not {array.type.value}")
    return Call("array_length", (array,), SqlType.INTEGER)


def _array_contains(binder: Binder, node: exp.ArrayContains) -> Scalar:
    return contains_element(binder.bind(node.this), binder.bind(node.expression))


def _named(binder: Binder, node: exp.Anonymous) -> Scalar:
    """Binds functions for which sqlglot has no node type."""
    name, args = node.name.upper(), node.expressions
    if name == "NOW" and not args:
        return Call("now", (), SqlType.TIMESTAMP)
    if name in ("TRUNC", "TRUNCATE") and len(args) in (1, 2):
        return _rounded(binder, "trunc", args[0], binder.whole(args[1], "the number of decimals") if len(args) == 2 else 0)
    raise NotSupportedError(f"function {name} is not supported")


HANDLERS: Handlers = {
    **dict.fromkeys(_NAMES, ("this", _number)),
    exp.Round: ("this decimals", _round),
    exp.Pow: ("this expression", _power),
    exp.Log: ("this expression", _log),
    exp.Lower: ("this", _case_of_letters),
    exp.Upper: ("this", _case_of_letters),
    exp.Length: ("this", _length),
    exp.Substring: ("this start length", _substring),
    exp.Left: ("this expression", _left),
    exp.Right: ("this expression", _right),
    exp.Trim: ("this expression position", _trim),
    exp.Replace: ("this expression replacement", _replace),
    exp.StrPosition: ("this substr", _position),
    exp.Contains: ("this expression", _contains),
    exp.StartsWith: ("this expression", _contains),
    exp.EndsWith: ("this expression", _contains),
    exp.SplitPart: ("this delimiter part_index", _split_part),
    exp.Concat: ("expressions", _concat),
    exp.Coalesce: ("this expressions", _coalesce),
    exp.Nullif: ("this expression", _nullif),
    exp.Greatest: ("this expressions", _extreme),
    exp.Least: ("this expressions", _extreme),
    exp.ArraySize: ("this", _array_length),
    exp.ArrayContains: ("this expression", _array_contains),
    exp.Anonymous: ("this expressions", _named),
}
