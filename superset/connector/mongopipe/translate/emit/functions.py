"""Functions and arithmetic operators by name, as MongoDB expressions with SQL's semantics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mongopipe.translate.emit.environment import Expression, Names, either, is_literal, literal, sharing, unless_null
from mongopipe.translate.patterns import Fold, case_pairs

Lowering = Callable[..., Expression]
"""A function that takes the names, the options and the lowered arguments, and returns the expression."""


def _operator(name: str) -> Lowering:
    """Lowers a function to an operator that propagates null."""
    return lambda _names, _options, *args: {name: list(args)}


def _text(value: Expression) -> Expression:
    """Replaces null with "" for operators that fail on null.

    MongoDB evaluates constants before the condition around them, and every variable of a $lookup is a constant. Such an operator therefore
    must never get a null, even in a branch that is not taken.
    """
    return value if is_literal(value) else {"$ifNull": [value, ""]}


def _array(value: Expression) -> Expression:
    """Replaces null with an empty array (see _text)."""
    return {"$ifNull": [value, []]}


def _length(names: Names, _options: Any, arg: Expression) -> Expression:
    return unless_null(names, [arg], lambda text: {"$strLenCP": _text(text)})


def _division(operator: str) -> Lowering:
    """Returns null for a division by zero. The test is inside the operator, because MongoDB folds constants before it evaluates $cond."""

    def divided(names: Names, _options: Any, left: Expression, right: Expression) -> Expression:
        if is_literal(right) and right["$literal"]:
            return {operator: [left, right]}
        return {operator: [left, sharing(names, right, lambda divisor: either({"$eq": [divisor, 0]}, None, divisor))]}

    return divided


def _scaled(value: Expression, places: int) -> Expression:
    """Returns the value times ten to the power of `places`."""
    if places == 0:
        return value
    return {"$multiply": [value, 10**places]} if places > 0 else {"$divide": [value, 10**-places]}


def _round(names: Names, _options: Any, arg: Expression, places: Expression) -> Expression:
    """Rounds halves away from zero. MongoDB's $round rounds them to even."""

    def rounded(x: Expression) -> Expression:
        fraction = {"$subtract": [x, {"$trunc": [x]}]}
        return {"$add": [{"$trunc": [x]}, {"$trunc": [{"$multiply": [fraction, 2]}]}]}

    return _scaled(sharing(names, _scaled(arg, places["$literal"]), rounded), -places["$literal"])


def _trunc(_names: Names, _options: Any, arg: Expression, places: Expression) -> Expression:
    return _scaled({"$trunc": [_scaled(arg, places["$literal"])]}, -places["$literal"])


def _sign(names: Names, _options: Any, arg: Expression) -> Expression:
    return unless_null(names, [arg], lambda x: {"$cmp": [x, 0]})


def _changed_case(fold: Fold) -> Lowering:
    """Converts the case of all of Unicode. $toLower and $toUpper convert only ASCII, and return "" for null."""
    operator = "$toLower" if fold is Fold.LOWER else "$toUpper"

    def lowered(names: Names, _options: Any, arg: Expression) -> Expression:
        pairs = {letter: changed for letter, changed in case_pairs(fold).items() if not letter.isascii()}
        before, after = literal("".join(pairs)), literal("".join(pairs.values()))
        letter = {"$substrCP": ["$$text", "$$this", 1]}
        place = {"$indexOfCP": [before, "$$letter"]}
        changed = {
            "$let": {
                "vars": {"letter": letter},
                "in": {
                    "$let": {
                        "vars": {"place": place},
                        "in": either({"$lt": ["$$place", 0]}, "$$letter", {"$substrCP": [after, "$$place", 1]}),
                    }
                },
            }
        }
        letters = {"$range": [0, {"$strLenCP": "$$text"}]}
        every = {"$reduce": {"input": letters, "initialValue": "", "in": {"$concat": ["$$value", changed]}}}
        foreign = {"$regexMatch": {"input": "$$text", "regex": r"[^\x00-\x7f]"}}
        return unless_null(
            names,
            [arg],
            lambda text: {"$let": {"vars": {"text": {operator: text}}, "in": either(foreign, every, "$$text")}},
        )

    return lowered


def _substring(names: Names, options: tuple[int, int | None], arg: Expression) -> Expression:
    start, length = options
    return unless_null(names, [arg], lambda text: {"$substrCP": [text, start, 2**31 - 1 - start if length is None else length]})


def _right(names: Names, options: tuple[int], arg: Expression) -> Expression:
    def last(text: Expression) -> Expression:
        return {"$substrCP": [text, {"$max": [0, {"$subtract": [{"$strLenCP": _text(text)}, options[0]]}]}, options[0]]}

    return unless_null(names, [arg], last)


def _trim(name: str) -> Lowering:
    return lambda _names, options, arg: {name: {"input": arg, "chars": literal(options[0])}}


def _replace(_names: Names, _options: Any, arg: Expression, find: Expression, by: Expression) -> Expression:
    return {"$replaceAll": {"input": arg, "find": find, "replacement": by}}


def _position(names: Names, _options: Any, text: Expression, part: Expression) -> Expression:
    return unless_null(names, [text, part], lambda whole, wanted: {"$add": [{"$indexOfCP": [whole, _text(wanted)]}, 1]})


def _contains(names: Names, _options: Any, text: Expression, part: Expression) -> Expression:
    return unless_null(names, [text, part], lambda whole, wanted: {"$gte": [{"$indexOfCP": [whole, _text(wanted)]}, 0]})


def _starts_with(names: Names, _options: Any, text: Expression, part: Expression) -> Expression:
    def starts(whole: Expression, wanted: Expression) -> Expression:
        return {"$eq": [{"$substrCP": [whole, 0, {"$strLenCP": _text(wanted)}]}, wanted]}

    return unless_null(names, [text, part], starts)


def _ends_with(names: Names, _options: Any, text: Expression, part: Expression) -> Expression:
    def ends(whole: Expression, wanted: Expression) -> Expression:
        length = {"$strLenCP": _text(wanted)}
        start = {"$max": [0, {"$subtract": [{"$strLenCP": _text(whole)}, length]}]}
        return {"$eq": [{"$substrCP": [whole, start, length]}, wanted]}

    return unless_null(names, [text, part], ends)


def _split_part(names: Names, options: tuple[str, int], arg: Expression) -> Expression:
    """Returns empty text for an index beyond the last part."""
    delimiter, index = options
    return unless_null(names, [arg], lambda text: {"$ifNull": [{"$arrayElemAt": [{"$split": [text, literal(delimiter)]}, index]}, ""]})


def _coalesce(_names: Names, _options: Any, *args: Expression) -> Expression:
    """Removes duplicate branches: MongoDB 6.0.5 fails on `$ifNull: [a, a]` (code 4822806)."""
    different: list[Expression] = []
    for arg in args:
        if arg not in different:
            different.append(arg)
    return different[0] if len(different) == 1 else {"$ifNull": different}


def _date_trunc(_names: Names, options: tuple[str] | tuple[str, int], arg: Expression) -> Expression:
    unit, size = options if len(options) == 2 else (options[0], 1)
    more = {**({"startOfWeek": "monday"} if unit == "week" else {}), **({"binSize": size} if size > 1 else {})}
    return {"$dateTrunc": {"date": arg, "unit": unit, **more}}


_PARTS: dict[str, Callable[[Expression], Expression]] = {
    "year": lambda date: {"$year": date},
    "isoyear": lambda date: {"$toLong": {"$isoWeekYear": date}},
    "quarter": lambda date: {"$toInt": {"$ceil": {"$divide": [{"$month": date}, 3]}}},
    "month": lambda date: {"$month": date},
    "week": lambda date: {"$isoWeek": date},
    "day": lambda date: {"$dayOfMonth": date},
    "doy": lambda date: {"$dayOfYear": date},
    "dow": lambda date: {"$subtract": [{"$dayOfWeek": date}, 1]},
    "isodow": lambda date: {"$isoDayOfWeek": date},
    "hour": lambda date: {"$hour": date},
    "minute": lambda date: {"$minute": date},
    "second": lambda date: {"$second": date},
    "epoch": lambda date: {"$divide": [{"$toLong": date}, 1000]},
}


def _date_part(_names: Names, options: tuple[str], arg: Expression) -> Expression:
    return _PARTS[options[0]](arg)


def _date_add(_names: Names, options: tuple[str], date: Expression, amount: Expression) -> Expression:
    return {"$dateAdd": {"startDate": date, "unit": options[0], "amount": amount}}


def _date_diff(_names: Names, options: tuple[str], start: Expression, end: Expression) -> Expression:
    week = {"startOfWeek": "monday"} if options[0] == "week" else {}
    return {"$dateDiff": {"startDate": start, "endDate": end, "unit": options[0], **week}}


def _array_length(names: Names, _options: Any, arg: Expression) -> Expression:
    return unless_null(names, [arg], lambda array: {"$size": _array(array)})


def _array_contains(names: Names, _options: Any, array: Expression, element: Expression) -> Expression:
    """Returns unknown if the element is null, or if the array contains a null but not the element."""

    def held(values: Expression, wanted: Expression) -> Expression:
        return either({"$in": [wanted, _array(values)]}, True, either({"$in": [None, _array(values)]}, None, False))

    return unless_null(names, [array, element], held)


LOWERINGS: dict[str, Lowering] = {
    "add": _operator("$add"),
    "subtract": _operator("$subtract"),
    "multiply": _operator("$multiply"),
    "divide": _division("$divide"),
    "modulo": _division("$mod"),
    "ceil": _operator("$ceil"),
    "floor": _operator("$floor"),
    "sqrt": _operator("$sqrt"),
    "exp": _operator("$exp"),
    "ln": _operator("$ln"),
    "abs": _operator("$abs"),
    "power": _operator("$pow"),
    "log": _operator("$log"),
    "sign": _sign,
    "round": _round,
    "trunc": _trunc,
    "lower": _changed_case(Fold.LOWER),
    "upper": _changed_case(Fold.UPPER),
    "length": _length,
    "substring": _substring,
    "right": _right,
    "trim": _trim("$trim"),
    "ltrim": _trim("$ltrim"),
    "rtrim": _trim("$rtrim"),
    "replace": _replace,
    "position": _position,
    "contains": _contains,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "split_part": _split_part,
    "concat": _operator("$concat"),
    "coalesce": _coalesce,
    "greatest": _operator("$max"),
    "least": _operator("$min"),
    "now": lambda _names, _options: "$$NOW",
    "date_trunc": _date_trunc,
    "date_part": _date_part,
    "date_add": _date_add,
    "date_diff": _date_diff,
    "array_length": _array_length,
    "array_contains": _array_contains,
}
