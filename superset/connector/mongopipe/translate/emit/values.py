"""Converts typed expressions to MongoDB expressions.

A predicate has three values in SQL and two in MongoDB. It is therefore lowered to a pair of plain booleans: `truth(p, True)` says whether
p is true, `truth(p, False)` whether p is false. If both are false, p is unknown.
"""

from __future__ import annotations

from collections.abc import Callable

from mongopipe.errors import NotSupportedError
from mongopipe.translate.emit.casts import cast
from mongopipe.translate.emit.environment import (
    Environment,
    Expression,
    Names,
    all_of,
    any_of,
    either,
    is_literal,
    is_null,
    literal,
    not_null,
    sharing,
)
from mongopipe.translate.emit.functions import LOWERINGS
from mongopipe.translate.scalars import (
    And,
    Call,
    Case,
    Cast,
    Column,
    Compare,
    InList,
    IsNull,
    IsTruth,
    Like,
    Literal,
    Not,
    Or,
    Predicate,
    Same,
    Scalar,
)

_OPERATORS = {"=": "$eq", "<>": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


class Values:
    """Lowers expressions over one environment."""

    def __init__(self, environment: Environment, names: Names) -> None:
        self.environment = environment
        self.names = names

    def value(self, scalar: Scalar) -> Expression:
        """Returns the value of an expression. SQL's NULL is null or missing."""
        match scalar:
            case Column():
                if scalar.number not in self.environment:
                    raise NotSupportedError(
                        f"the correlated subquery uses column {scalar.name} of the outer query at a place that is not supported"
                    )
                return self.environment[scalar.number]
            case Literal():
                return literal(scalar.value)
            case Call():
                return LOWERINGS[scalar.name](self.names, scalar.options, *map(self.value, scalar.args))
            case Cast():
                return cast(self.names, self.value(scalar.arg), scalar.arg.type, scalar.type, scalar.safe)
            case Case():
                *values, default = different([self.value(each) for each in (*(value for _, value in scalar.branches), scalar.default)])
                conditions = [self.truth(condition, True) for condition, _ in scalar.branches]
                branches = [{"case": condition, "then": value} for condition, value in zip(conditions, values, strict=True)]
                return {"$switch": {"branches": branches, "default": default}}
            case Predicate():
                return self._three_valued(scalar)
        raise AssertionError(scalar)

    def _three_valued(self, predicate: Predicate) -> Expression:
        true = self.truth(predicate, True)
        if isinstance(predicate, IsNull | IsTruth | Same):
            return true
        return either(true, True, either(self.truth(predicate, False), False, None))

    def truth(self, scalar: Scalar, wanted: bool) -> Expression:
        """Returns whether the predicate is true (or false, as `wanted`). The result is never null."""
        match scalar:
            case And() if wanted:
                return all_of([self.truth(each, True) for each in scalar.args])
            case And():
                return any_of([self.truth(each, False) for each in scalar.args])
            case Or() if wanted:
                return any_of([self.truth(each, True) for each in scalar.args])
            case Or():
                return all_of([self.truth(each, False) for each in scalar.args])
            case Not():
                return self.truth(scalar.arg, not wanted)
            case IsNull():
                test = is_null if wanted else not_null
                return test(self.value(scalar.arg))
            case IsTruth():
                inner = self.truth(scalar.arg, scalar.value)
                return inner if wanted else {"$not": [inner]}
            case Same():
                same = {"$eq": [{"$ifNull": [self.value(side), None]} for side in (scalar.left, scalar.right)]}
                return same if wanted else {"$not": [same]}
            case Compare():
                return self._compared(scalar, wanted)
            case InList():
                return self._listed(scalar, wanted)
            case Like():
                return self._matched(scalar, wanted)
            case Literal():
                return literal(scalar.value is wanted)
        return {"$eq": [self.value(scalar), wanted]}

    def _compared(self, scalar: Compare, wanted: bool) -> Expression:
        operator = scalar.operator if wanted else Compare.OPPOSITE[scalar.operator]
        left, right = self.value(scalar.left), self.value(scalar.right)

        def compared(one: Expression, other: Expression) -> Expression:
            """Adds a null test only to a side for which null would satisfy the comparison, because BSON orders null below all values."""
            test = {_OPERATORS[operator]: [one, other]}
            sides = {"=": [one], "<>": [one, other], "<": [one], "<=": [one], ">": [other], ">=": [other]}[operator]
            if operator == "=" and is_literal(one):
                sides = [other]
            guards = [not_null(side) for side in sides if not _never_null(side)]
            return all_of([*guards, test])

        return self._with(left, right, compared)

    def _with(self, left: Expression, right: Expression, body: Callable[[Expression, Expression], Expression]) -> Expression:
        return sharing(self.names, left, lambda one: sharing(self.names, right, lambda other: body(one, other)))

    def _listed(self, scalar: InList, wanted: bool) -> Expression:
        if not all(isinstance(each, Literal) for each in scalar.options):
            comparisons = tuple(Compare("=", scalar.arg, each) for each in scalar.options)
            return self.truth(Or(comparisons), wanted)
        values = [each.value for each in scalar.options if isinstance(each, Literal) and each.value is not None]
        if wanted:
            return {"$in": [self.value(scalar.arg), literal(values)]}
        if len(values) < len(scalar.options):
            return literal(False)
        return sharing(self.names, self.value(scalar.arg), lambda arg: all_of([not_null(arg), {"$not": [{"$in": [arg, literal(values)]}]}]))

    def _matched(self, scalar: Like, wanted: bool) -> Expression:
        def matched(text: Expression) -> Expression:
            test = {"$regexMatch": {"input": text, "regex": literal(scalar.pattern), "options": "s"}}
            return test if wanted else all_of([not_null(text), {"$not": [test]}])

        return sharing(self.names, self.value(scalar.arg), matched)


def different(branches: list[Expression]) -> list[Expression]:
    """Makes the branches of a conditional distinct: MongoDB 6.0.5 fails on duplicate fields (code 4822806, "duplicate field")."""
    seen: list[Expression] = []
    for each in branches:
        seen.append({"$ifNull": [each, None]} if isinstance(each, str) and each in seen else each)
    return seen


def _never_null(expression: Expression) -> bool:
    return is_literal(expression) and expression["$literal"] is not None
