"""Parses SQL text to sqlglot's syntax tree. Accepts exactly one query, and no statement that writes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.generator import Generator as BaseGenerator
from sqlglot.parser import Parser as BaseParser

from mongopipe.errors import NotSupportedError, ProgrammingError


def _date_diff(args: Sequence[exp.Expression]) -> exp.Expression:
    """DATEDIFF(unit, from, to): the unit is text or a bare word. Two arguments mean days, with the later date first (MySQL)."""
    if len(args) == 2:
        return exp.DateDiff(this=args[0], expression=args[1], unit=exp.var("DAY"))
    unit, start, end = args
    return exp.DateDiff(this=end, expression=start, unit=exp.var(unit.name.upper()))


def _date_diff_sql(generator: BaseGenerator, node: exp.DateDiff) -> str:
    unit = exp.Literal.string((node.args.get("unit") or exp.var("DAY")).name)
    return str(generator.func("DATE_DIFF", unit, node.expression, node.this))


_PLAIN_FUNCTIONS = ("TRUNC", "TRUNCATE")
"""Functions that some versions of sqlglot parse to a node of their own. All versions leave them as Anonymous nodes instead."""


def _with_not(query: exp.Query) -> exp.Query:
    """Writes NOT LIKE as NOT (... LIKE ...): sqlglot 30 has an argument `negate` instead."""
    for node in list(query.find_all(exp.Like, exp.ILike)):
        if node.args.get("negate"):
            node.set("negate", None)
            negation = exp.Not()
            node.replace(negation)
            negation.set("this", node)
    return query


class Mongopipe(Dialect):  # type: ignore[misc]
    """sqlglot's default SQL: nulls are small, names may have double quotes, '' is the only escape in strings."""

    class Tokenizer(tokens.Tokenizer):  # type: ignore[misc]
        pass

    class Parser(BaseParser):  # type: ignore[misc]
        TERM = {token: node for token, node in BaseParser.TERM.items() if token is not tokens.TokenType.MOD}  # noqa: RUF012
        FACTOR = {**BaseParser.FACTOR, tokens.TokenType.MOD: exp.Mod}  # noqa: RUF012  # % has the precedence of *, not of +
        FUNCTIONS = {  # noqa: RUF012  # sqlglot declares it this way
            **{name: build for name, build in BaseParser.FUNCTIONS.items() if name not in _PLAIN_FUNCTIONS},
            **dict.fromkeys(("DATEDIFF", "DATE_DIFF", "TIMESTAMPDIFF"), _date_diff),
        }

    class Generator(BaseGenerator):  # type: ignore[misc]
        TRANSFORMS = {**BaseGenerator.TRANSFORMS, exp.DateDiff: _date_diff_sql}  # noqa: RUF012


DIALECT = Mongopipe()


def parse(sql: str) -> exp.Query:
    """Returns the tree of a single SELECT, with or without WITH and set operations.

    Raises ProgrammingError for a syntax error or several statements, and NotSupportedError for any other statement.
    """
    try:
        statements = [each for each in DIALECT.parse(sql) if each is not None and not isinstance(each, exp.Semicolon)]
    except (SqlglotError, ValueError) as error:
        raise ProgrammingError(f"syntax error: {error}") from error
    if len(statements) != 1:
        raise ProgrammingError(f"expected one statement, got {len(statements)}: execute each statement separately")
    statement = statements[0].unnest()
    if not isinstance(statement, exp.Query) or isinstance(statement, exp.Table):
        raise NotSupportedError(f"{type(statement).__name__.upper()} statements are not supported: mongopipe is read-only")
    return _with_not(statement)
