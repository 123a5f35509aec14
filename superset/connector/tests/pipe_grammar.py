"""Random queries over the data of pipe_data, in the SQL of mongopipe, of DuckDB and, where it has the functions, of SQLite.

The generator prefers rare constructs. It counts constructs, and pairs of a construct directly inside another.

Kinds of expressions: int, num (exact doubles), apx (doubles that engines may round differently; outputs only), str, bool, ts, date, arr.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipe_data import GROUP, ITEM

Pair = tuple[str, str]


@dataclass(frozen=True)
class Node:
    """A piece of SQL in the three dialects. `lite` is None if SQLite has no equivalent."""

    pipe: str
    duck: str
    lite: str | None
    kind: str = ""


@dataclass(frozen=True)
class Query:
    """A whole query: the kinds of its columns, whether its ORDER BY determines the order of rows, and its constructs."""

    node: Node
    kinds: tuple[str, ...]
    keys: tuple[tuple[int, bool, bool], ...]  # output column, descending, nulls first
    constructs: frozenset[str]
    pairs: frozenset[Pair]


_FAMILIES = {
    "arithmetic": ["+", "-", "*", "%", "/", "/ exact", "negate"],
    "numeric function": [
        "abs",
        "sign",
        "sqrt",
        "power",
        "ln",
        "log10",
        "exp",
        "floor",
        "ceil",
        "round",
        "round to tenths",
        "trunc",
        "floor of /",
        "greatest",
    ],
    "string function": [
        "lower",
        "upper",
        "||",
        "concat",
        "substring",
        "left/right",
        "trim",
        "replace",
        "split_part",
        "length",
        "position",
        "starts_with",
    ],
    "date function": ["date_trunc", "interval", "date + days", "extract", "year()", "date_diff"],
    "cast": [
        f"cast {pair}"
        for pair in (
            "num to int",
            "bool to int",
            "str to int",
            "int to num",
            "int to str",
            "bool to str",
            "ts to str",
            "date to str",
            "date to ts",
            "ts to date",
        )
    ],
    "case": ["case", "simple case", "case of kinds"],
    "compare": ["compare", "compare str", "compare time", "between", "alternatives"],
    "like": ["like", "ilike", "like escape", "like of lower"],
    "array function": ["array_length", "array_contains"],
    "aggregate": ["sum", "avg", "min/max", "count", "count(*)"],
    "spread": ["stddev", "stddev_pop", "variance", "var_pop"],
    "percentile": ["median", "percentile_cont", "percentile_disc"],
    "distinct aggregate": ["count distinct", "sum distinct"],
    "rank": ["row_number", "rank", "dense_rank"],
    "aggregate over": ["running", "frame of rows", "whole partition"],
    "value over": ["lag/lead", "first/last_value"],
    "table": ["table", "small table", "view"],
    "join": ["join", "left join", "join of two keys", "non-equal join"],
}
_FAMILY = {tag: name for name, tags in _FAMILIES.items() for tag in tags}


def family(tag: str) -> str:
    """Returns the category of a construct. Pairs of neighbours are counted by category."""
    return _FAMILY.get(tag, tag)


@dataclass
class Use:
    """The number of times that constructs and pairs of neighbours occurred."""

    constructs: Counter[str] = field(default_factory=Counter)
    pairs: Counter[Pair] = field(default_factory=Counter)
    inside: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, constructs: set[str], pairs: set[Pair]) -> None:
        """Counts a query."""
        self.constructs.update(constructs)
        self.pairs.update(pairs)
        for parent, child in pairs:
            self.inside.setdefault(parent, Counter())[child] += 1

    def weight(self, parent: str, tag: str) -> float:
        """Returns the weight of a construct inside the parent. Rare constructs, rare pairs and parents of rare pairs have large weights."""
        thin = sum(1 for count in self.inside.get(family(tag), {}).values() if count < 6)
        rare = 8 if self.constructs[tag] < 60 else 1
        return (1 + thin) * rare / (1 + self.pairs[family(parent), family(tag)]) ** 2


@dataclass
class Source:
    """A FROM clause with its columns and a unique column (None if there is none)."""

    node: Node
    columns: list[Node]
    unique: Node | None


def form(kind: str, template: str, *children: Node, duck: str | None = None, lite: str | None = "same") -> Node:
    """Fills the template with {0}, {1} ... in each dialect. `lite` None means that SQLite has no equivalent."""
    values = [child.lite for child in children]
    light = None
    if lite is not None and None not in values:
        light = (template if lite == "same" else lite).format(*values)
    return Node(template.format(*(c.pipe for c in children)), (duck or template).format(*(c.duck for c in children)), light, kind)


Builder = Callable[[int], Node]

_UNITS = ["year", "quarter", "month", "week", "day", "hour", "minute", "second"]
_PARTS = ["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "DOY", "DOW", "ISODOW", "HOUR", "MINUTE", "EPOCH"]
_PATTERNS = ["%a%", "B%", "%0_", "_eta%", "%", "%Ü%", "b0%", "%ä", "a_b", "C-%-%", "", "%$%", "%.%", "ALPHA", "%5%%"]
_TEXTS = ["Alpha", "beta", "B07", "", "x_y", "$dollar", "Ä", "one", "it's", "C-1-2"]


class Grammar:
    """Generates queries from a random source. All queries of a run share `use`."""

    def __init__(self, seed: int, use: Use) -> None:
        self.rng = random.Random(seed)
        self.use = use
        self.columns: list[Node] = []
        self.outer: list[Node] = []
        self.constructs: set[str] = set()
        self.pairs: set[Pair] = set()
        self.path: list[str] = ["query"]
        self.aliases = 0
        self.subqueries = True

    # Choice

    def pick(self, options: Sequence[tuple[str, Builder]], depth: int) -> Node:
        """Builds one of the options. Options that are rare inside the current construct are more likely."""
        parent = self.path[-1]
        weights = [self.use.weight(parent, tag) for tag, _ in options]
        tag, build = self.rng.choices(options, weights)[0]
        return self.inside(tag, build, depth)

    def inside(self, tag: str, build: Builder, depth: int) -> Node:
        self.constructs.add(tag)
        self.pairs.add((family(self.path[-1]), family(tag)))
        self.path.append(tag)
        try:
            return build(depth)
        finally:
            self.path.pop()

    def mark(self, tag: str) -> None:
        self.constructs.add(tag)
        self.pairs.add((family(self.path[-1]), family(tag)))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def alias(self) -> str:
        self.aliases += 1
        return f"x{self.aliases}"

    # Expressions

    def expr(self, kind: str, depth: int) -> Node:
        """Returns an expression of the kind with at most `depth` levels of constructs."""
        options = list(self.leaves(kind))
        if depth > 0:
            options += getattr(self, f"_{kind}")()
        return self.pick(options, depth - 1)

    def leaves(self, kind: str) -> list[tuple[str, Builder]]:
        found: list[tuple[str, Builder]] = []
        fitting = [column for column in self.columns if column.kind == kind]
        if fitting:
            found.append(("column", lambda _: self.rng.choice(fitting)))
        if kind != "arr" and (not fitting or self.chance(0.25)):
            found.append(("literal", lambda _: self.literal(kind)))
        return found

    def literal(self, kind: str) -> Node:
        rng = self.rng
        if kind == "int":
            return form("int", str(rng.randint(0, 6)))
        if kind in ("num", "apx"):
            number = str(rng.randint(0, 40) / 4)
            return form("num", number, duck=f"{number}e0")  # DuckDB's 4.5 is a decimal, and rounding decimals has other results
        if kind == "str":
            return form("str", "'" + rng.choice(_TEXTS).replace("'", "''") + "'")
        if kind == "bool":
            return form("bool", rng.choice(["TRUE", "FALSE"]))
        day = f"2024-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        if kind == "date":
            return form("date", f"DATE '{day}'", lite=None)
        return form("ts", f"TIMESTAMP '{day} {rng.randint(0, 23):02d}:30:00'", lite=None)

    def number(self, depth: int) -> Node:
        return self.expr(self.rng.choice(["int", "num"]), depth)

    def scalar(self, depth: int) -> Node:
        return self.expr(self.rng.choice(["int", "num", "str", "bool", "bool", "bool", "bool", "ts", "date"]), depth)

    def _shared(self, kind: str) -> list[tuple[str, Builder]]:
        """Returns CASE, COALESCE or NULLIF, which exist for any kind."""

        def case(depth: int) -> Node:
            parts = [self.expr("bool", depth), self.expr(kind, depth)]
            if self.chance(0.4):
                parts += [self.expr("bool", depth), self.expr(kind, depth)]
            text = "CASE" + "".join(f" WHEN {{{i}}} THEN {{{i + 1}}}" for i in range(0, len(parts), 2))
            if self.chance(0.7):
                parts.append(self.expr(kind, depth))
                text += f" ELSE {{{len(parts) - 1}}}"
            return form(kind, f"({text} END)", *parts)

        def simple_case(depth: int) -> Node:
            return form(kind, "(CASE {0} WHEN {1} THEN {2} ELSE {3} END)", *(self.expr(k, depth) for k in ("int", "int", kind, kind)))

        def coalesce(depth: int) -> Node:
            return form(kind, "COALESCE({0}, {1})", self.expr(kind, depth), self.expr(kind, depth))

        def nullif(depth: int) -> Node:
            return form(kind, "NULLIF({0}, {1})", self.expr(kind, depth), self.expr(kind, depth))

        return [("case", case), ("simple case", simple_case), ("coalesce", coalesce), ("nullif", nullif)]

    def _int(self) -> list[tuple[str, Builder]]:
        e = self.expr

        def part(depth: int) -> Node:
            name = self.rng.choice(_PARTS)
            cast = "CAST({0} AS BIGINT)" if name == "EPOCH" else "{0}"
            return form("int", cast.format(f"EXTRACT({name} FROM {{0}})"), e("ts", depth), lite=None)

        def length_of(depth: int) -> Node:
            return form("int", "ARRAY_LENGTH({0})", e("arr", 0), duck="LEN({0})", lite=None)

        def greatest(depth: int) -> Node:
            return form("int", f"{self.rng.choice(['GREATEST', 'LEAST'])}({{0}}, {{1}})", e("int", depth), e("int", depth), lite=None)

        def difference(depth: int) -> Node:
            unit = self.rng.choice(["year", "quarter", "month", "day", "hour", "minute"])  # DuckDB counts weeks differently
            return form("int", f"DATE_DIFF('{unit}', {{0}}, {{1}})", e("ts", depth), e("ts", depth), lite=None)

        def try_cast(depth: int) -> Node:
            return form("int", "TRY_CAST({0} AS BIGINT)", e("str", depth), lite=None)

        def text_cast(depth: int) -> Node:
            return form("int", f"CAST('{self.rng.randint(-9, 99)}' AS BIGINT)", lite=None)

        options: list[tuple[str, Builder]] = [
            ("+", lambda d: form("int", "({0} + {1})", e("int", d), e("int", d))),
            ("-", lambda d: form("int", "({0} - {1})", e("int", d), e("int", d))),
            ("*", lambda d: form("int", "({0} * {1})", e("int", d), e("int", d))),
            ("%", lambda d: form("int", "({0} % {1})", e("int", d), e("int", d))),
            ("negate", lambda d: form("int", "(- {0})", e("int", d))),
            ("abs", lambda d: form("int", "ABS({0})", e("int", d))),
            ("sign", lambda d: form("int", "SIGN({0})", self.number(d), lite=None)),
            ("length", lambda d: form("int", "LENGTH({0})", e("str", d))),
            ("position", lambda d: form("int", "POSITION({0} IN {1})", e("str", 0), e("str", d), lite="INSTR({1}, {0})")),
            ("extract", part),
            ("year()", lambda d: form("int", "YEAR({0})", e("ts", d), lite=None)),
            ("date_diff", difference),
            ("cast num to int", lambda d: form("int", "CAST({0} AS BIGINT)", e("num", d), lite=None)),
            ("cast bool to int", lambda d: form("int", "CAST({0} AS INT)", e("bool", d))),
            ("cast bool to int", lambda d: form("int", "CAST({0} AS INT)", e("bool", d))),
            ("cast str to int", text_cast),
            ("try_cast", try_cast),
            ("greatest", greatest),
            *self._shared("int"),
        ]
        if any(column.kind == "arr" for column in self.columns):
            options.append(("array_length", length_of))
        return options

    def _num(self) -> list[tuple[str, Builder]]:
        e = self.expr

        def rounded(depth: int) -> Node:
            return form("num", f"ROUND({{0}}{self.rng.choice(['', ', 0'])})", e("num", depth))

        def floor_division(depth: int) -> Node:
            name = self.rng.choice(["FLOOR", "CEIL", "ROUND"])
            return form("num", f"({name}({{0}} / {self.rng.choice([2, 3, 5])}) * 5)", e("num", depth), lite=None)

        def greatest(depth: int) -> Node:
            return form("num", f"{self.rng.choice(['GREATEST', 'LEAST'])}({{0}}, {{1}})", e("num", depth), self.number(depth), lite=None)

        return [
            ("+", lambda d: form("num", "({0} + {1})", e("num", d), self.number(d))),
            ("-", lambda d: form("num", "({0} - {1})", self.number(d), e("num", d))),
            ("*", lambda d: form("num", "({0} * {1})", e("num", d), self.number(d))),
            ("/ exact", lambda d: form("num", f"({{0}} / {self.rng.choice(['4', '0.5', '0'])})", e("num", d), lite=None)),
            ("%", lambda d: form("num", "({0} % {1})", e("num", d), e("num", d), lite=None)),
            ("negate", lambda d: form("num", "(- {0})", e("num", d))),
            ("abs", lambda d: form("num", "ABS({0})", e("num", d))),
            ("floor", lambda d: form("num", "FLOOR({0})", e("num", d), lite=None)),
            ("ceil", lambda d: form("num", "CEIL({0})", e("num", d), lite=None)),
            ("round", rounded),
            ("trunc", lambda d: form("num", "TRUNC({0})", e("num", d), lite=None)),
            ("floor of /", floor_division),
            ("cast int to num", lambda d: form("num", "CAST({0} AS DOUBLE)", e("int", d), lite="CAST({0} AS REAL)")),
            ("greatest", greatest),
            *self._shared("num"),
        ]

    def _apx(self) -> list[tuple[str, Builder]]:
        return [
            ("/", lambda d: form("apx", "({0} / {1})", self.number(d), self.number(d), lite=None)),
            # A tenth is exact as a decimal and inexact as a double, so results computed from it differ in the last digit.
            ("round to tenths", lambda d: form("apx", "ROUND({0}, 1)", self.expr("num", d), lite=None)),
            ("sqrt", lambda d: form("apx", "SQRT(ABS({0}))", self.number(d), lite=None)),
            ("power", lambda d: form("apx", "POWER(ABS({0}), 2)", self.number(d), lite=None)),
            ("ln", lambda d: form("apx", "LN(ABS({0}) + 1)", self.number(d), lite=None)),
            ("log10", lambda d: form("apx", "LOG10(ABS({0}) + 1)", self.number(d), lite=None)),
            ("exp", lambda d: form("apx", "EXP(- ABS({0}))", self.number(d), lite=None)),
        ]

    def _str(self) -> list[tuple[str, Builder]]:
        e = self.expr

        def cut(depth: int) -> Node:
            start, length = self.rng.randint(1, 4), self.rng.randint(0, 4)
            tail = f", {length}" if self.chance(0.7) else ""
            return form("str", f"SUBSTRING({{0}}, {start}{tail})", e("str", depth), lite=f"SUBSTR({{0}}, {start}{tail})")

        def side(depth: int) -> Node:
            return form("str", f"{self.rng.choice(['LEFT', 'RIGHT'])}({{0}}, {self.rng.randint(0, 4)})", e("str", depth), lite=None)

        def trim(depth: int) -> Node:
            return form("str", f"{self.rng.choice(['TRIM', 'LTRIM', 'RTRIM'])}({{0}})", e("str", depth))

        def replaced(depth: int) -> Node:
            return form("str", f"REPLACE({{0}}, '{self.rng.choice(['a', 'B0', '-', ' '])}', {{1}})", e("str", depth), e("str", 0))

        def split(depth: int) -> Node:
            return form("str", f"SPLIT_PART({{0}}, '-', {self.rng.randint(1, 3)})", e("str", depth), lite=None)

        def mixed_case(depth: int) -> Node:
            duck = "(CASE WHEN {0} THEN CAST({1} AS VARCHAR) ELSE 'Others' END)"
            return form("str", "(CASE WHEN {0} THEN {1} ELSE 'Others' END)", e("bool", depth), e("int", depth), duck=duck, lite=None)

        return [
            ("lower", lambda d: form("str", "LOWER({0})", e("str", d), lite=None)),
            ("upper", lambda d: form("str", "UPPER({0})", e("str", d), lite=None)),
            ("||", lambda d: form("str", "({0} || {1})", e("str", d), e("str", d))),
            ("concat", lambda d: form("str", "CONCAT({0}, {1})", e("str", d), e("str", d), lite=None)),
            ("substring", cut),
            ("left/right", side),
            ("trim", trim),
            ("replace", replaced),
            ("split_part", split),
            ("cast int to str", lambda d: form("str", "CAST({0} AS VARCHAR)", e("int", d), lite="CAST({0} AS TEXT)")),
            ("cast bool to str", lambda d: form("str", "CAST({0} AS VARCHAR)", e("bool", d), lite=None)),
            ("cast ts to str", lambda d: form("str", "CAST({0} AS VARCHAR)", e("ts", d), lite=None)),
            ("cast date to str", lambda d: form("str", "CAST({0} AS VARCHAR)", e("date", d), lite=None)),
            ("case of kinds", mixed_case),
            *self._shared("str"),
        ]

    def _ts(self) -> list[tuple[str, Builder]]:
        e = self.expr

        def shifted(depth: int) -> Node:
            unit = self.rng.choice(["YEAR", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE"])
            sign, number = self.rng.choice("+-"), self.rng.randint(1, 40)
            return form("ts", f"({{0}} {sign} INTERVAL '{number}' {unit})", e("ts", depth), lite=None)

        return [
            ("date_trunc", lambda d: form("ts", f"DATE_TRUNC('{self.rng.choice(_UNITS)}', {{0}})", e("ts", d), lite=None)),
            ("interval", shifted),
            ("cast date to ts", lambda d: form("ts", "CAST({0} AS TIMESTAMP)", e("date", d), lite=None)),
            *self._shared("ts"),
        ]

    def _date(self) -> list[tuple[str, Builder]]:
        return [
            ("cast ts to date", lambda d: form("date", "CAST({0} AS DATE)", self.expr("ts", d), lite=None)),
            ("date + days", lambda d: form("date", f"({{0}} + {self.rng.randint(1, 40)})", self.expr("date", d), lite=None)),
        ]

    def _arr(self) -> list[tuple[str, Builder]]:
        return []

    def _bool(self) -> list[tuple[str, Builder]]:
        e = self.expr

        def compared(kinds: Sequence[str]) -> Builder:
            def build(depth: int) -> Node:
                kind = self.rng.choice(kinds)
                operator = self.rng.choice(["=", "<>", "<", "<=", ">", ">="])
                return form("bool", f"({{0}} {operator} {{1}})", e(kind, depth), e(kind, depth))

            return build

        def between(depth: int) -> Node:
            kind = self.rng.choice(["int", "num", "str", "ts"])
            word = self.rng.choice(["BETWEEN", "NOT BETWEEN"])
            return form("bool", f"({{0}} {word} {{1}} AND {{2}})", e(kind, depth), e(kind, 0), e(kind, 0))

        def listed(depth: int) -> Node:
            kind = self.rng.choice(["int", "str", "num"])
            options = [self.literal(kind) for _ in range(self.rng.randint(1, 4))]
            if self.chance(0.15):
                options.append(form(kind, "NULL"))
            if self.chance(0.2):
                options.append(e(kind, 0))
            marks = ", ".join(f"{{{i}}}" for i in range(1, len(options) + 1))
            return form("bool", f"({{0}} {self.rng.choice(['IN', 'NOT IN'])} ({marks}))", e(kind, depth), *options)

        def alternatives(depth: int) -> Node:
            kind = self.rng.choice(["int", "str", "num"])
            same, options = e(kind, 0), [self.literal(kind) for _ in range(self.rng.randint(2, 4))]
            said = [f"{{0}} = {{{i}}}" for i in range(1, len(options) + 1)]
            if self.chance(0.3):
                said.insert(self.rng.randrange(len(said)), "{0} IS NULL")
            return form("bool", f"({' OR '.join(said)})", same, *options)

        def is_null(depth: int) -> Node:
            return form("bool", f"({{0}} IS {self.rng.choice(['', 'NOT '])}NULL)", self.scalar(depth))

        def is_truth(depth: int) -> Node:
            return form("bool", f"({{0}} IS {self.rng.choice(['', 'NOT '])}{self.rng.choice(['TRUE', 'FALSE'])})", e("bool", depth))

        def distinct(depth: int) -> Node:
            kind = self.rng.choice(["int", "num", "str", "ts", "bool", "bool"])
            word = self.rng.choice(["", "NOT "])
            lite = f"({{0}} IS {'' if word else 'NOT '}{{1}})"
            return form("bool", f"({{0}} IS {word}DISTINCT FROM {{1}})", e(kind, depth), e(kind, depth), lite=lite)

        def like(depth: int) -> Node:
            pattern = self.rng.choice(_PATTERNS)
            return form("bool", f"({{0}} {self.rng.choice(['LIKE', 'NOT LIKE'])} '{pattern}')", e("str", depth))

        def ilike(depth: int) -> Node:
            pattern = self.rng.choice(_PATTERNS)
            return form("bool", f"({{0}} {self.rng.choice(['ILIKE', 'NOT ILIKE'])} '{pattern}')", e("str", depth), lite=None)

        def escaped(depth: int) -> Node:
            pattern = self.rng.choice(["%!%", "x!_y", "%!_%", "!!%", "%5%!%"])
            return form("bool", f"({{0}} LIKE '{pattern}' ESCAPE '!')", e("str", depth))

        def folded_like(depth: int) -> Node:
            name = self.rng.choice(["LOWER", "UPPER"])
            return form("bool", f"({name}({{0}}) LIKE {name}('{self.rng.choice(_PATTERNS)}'))", e("str", depth), lite=None)

        def held(depth: int) -> Node:
            word = self.rng.choice(["red", "Red", "blue"])
            if self.chance(0.5):
                return form("bool", f"ARRAY_CONTAINS({{0}}, '{word}')", e("arr", 0), lite=None)
            return form("bool", f"('{word}' = ANY({{0}}))", e("arr", 0), duck=f"LIST_CONTAINS({{0}}, '{word}')", lite=None)

        def text_test(depth: int) -> Node:
            name = self.rng.choice(["STARTS_WITH", "CONTAINS", "ENDS_WITH"])
            return form("bool", f"{name}({{0}}, {{1}})", e("str", depth), e("str", 0), lite=None)

        options: list[tuple[str, Builder]] = [
            ("compare", compared(["int", "num"])),
            ("compare str", compared(["str"])),
            ("compare time", compared(["ts", "date"])),
            ("between", between),
            ("in", listed),
            ("alternatives", alternatives),
            ("is null", is_null),
            ("is true", is_truth),
            ("distinct from", distinct),
            ("like", like),
            ("ilike", ilike),
            ("like escape", escaped),
            ("like of lower", folded_like),
            ("and", lambda d: form("bool", "({0} AND {1})", e("bool", d), e("bool", d))),
            ("or", lambda d: form("bool", "({0} OR {1})", e("bool", d), e("bool", d))),
            ("not", lambda d: form("bool", "(NOT {0})", e("bool", d))),
            ("starts_with", text_test),
            *self._shared("bool"),
        ]
        if any(column.kind == "arr" for column in self.columns):
            options.append(("array_contains", held))
        if self.subqueries:
            options += [("in subquery", self._in_subquery), ("exists", self._exists)]
        return options

    # Subqueries in expressions

    def _in_subquery(self, depth: int) -> Node:
        kind = self.rng.choice(["int", "num", "str"])
        needle = self.expr(kind, 0)
        inner = self.small_query([kind])
        return form("bool", f"({{0}} {self.rng.choice(['IN', 'NOT IN'])} ({{1}}))", needle, inner)

    def _exists(self, depth: int) -> Node:
        return form("bool", f"({self.rng.choice(['', 'NOT '])}EXISTS ({{0}}))", self.small_query(["int"], correlated=True))

    def small_query(self, kinds: list[str], *, correlated: bool = False) -> Node:
        """Returns a SELECT of one column over one table. It may use the enclosing query's columns."""
        before, nested = self.columns, self.subqueries
        source = self.table(GROUP if self.chance(0.7) else ITEM)
        self.subqueries = False
        try:
            self.columns = source.columns
            item = self.expr(kinds[0], 1)
            where = None
            if correlated:
                kind = self.rng.choice(["int", "num", "str"])
                inner = self.expr(kind, 0)
                self.columns = before
                outer = self.expr(kind, 0)
                where = form("bool", f"{{0}} {self.rng.choice(['=', '=', '<'])} {{1}}", inner, outer)
                if self.chance(0.3):
                    self.columns = source.columns
                    where = form("bool", "{0} AND {1}", where, self.expr("bool", 1))
            elif self.chance(0.6):
                where = self.expr("bool", 1)
        finally:
            self.columns, self.subqueries = before, nested
        if where is None:
            return form("", "SELECT {0} FROM {1}", item, source.node)
        return form("", "SELECT {0} FROM {1} WHERE {2}", item, source.node, where)

    # FROM

    def table(self, columns: tuple[object, ...]) -> Source:
        alias = self.alias()
        name, found = ("item", ITEM) if columns is ITEM else ("group", GROUP)
        nodes = []
        for column in found:
            sql = f"{alias}.{column.sql}"
            nodes.append(Node(sql, sql, None if column.kind in ("ts", "arr") else sql, column.kind))
        return Source(form("", f'"{name}" AS {alias}'), nodes, nodes[0])

    def view(self, _: int) -> Source:
        source = self.table(ITEM)
        return Source(
            Node(source.node.pipe.replace('"item"', '"item_view"'), source.node.duck, source.node.lite), source.columns, source.unique
        )

    def source(self) -> Source:
        """Returns a FROM clause."""
        found: list[Source] = []

        def keep(build: Callable[[int], Source]) -> Builder:
            def run(depth: int) -> Node:
                found.append(build(depth))
                return found[-1].node

            return run

        self.pick(
            [
                ("table", keep(lambda _: self.table(ITEM))),
                ("table", keep(lambda _: self.table(ITEM))),
                ("small table", keep(lambda _: self.table(GROUP))),
                ("view", keep(self.view)),
                ("subquery", keep(self._derived)),
                ("cte", keep(self._common)),
                ("join", keep(lambda _: self._join("JOIN"))),
                ("left join", keep(lambda _: self._join("LEFT JOIN"))),
                ("join of two keys", keep(lambda _: self._join("JOIN", keys=2))),
                ("non-equal join", keep(lambda _: self._join("LEFT JOIN", equal=False))),
                ("union in from", keep(self._united)),
            ],
            0,
        )
        return found[-1]

    def _columns_of(self, alias: str, query: Query, names: Sequence[str], lite: bool) -> list[Node]:
        fit = [(name, kind) for name, kind in zip(names, query.kinds, strict=True) if kind != "apx"]
        return [Node(f'{alias}."{name}"', f'{alias}."{name}"', f'{alias}."{name}"' if lite else None, kind) for name, kind in fit]

    def _inner(self) -> tuple[Query, list[str]]:
        before = self.columns, self.subqueries
        try:
            self.subqueries = self.chance(0.3)
            if self.chance(0.35):
                query, names = self.grouped(inner=True)
            else:
                query, names = self.plain(inner=True)
            return query, names
        finally:
            self.columns, self.subqueries = before

    def _derived(self, _: int) -> Source:
        query, names = self._inner()
        alias = self.alias()
        columns = self._columns_of(alias, query, names, query.node.lite is not None)
        return Source(form("", f"({{0}}) AS {alias}", query.node), columns, None)

    def _common(self, _: int) -> Source:
        query, names = self._inner()
        name, alias = self.alias(), self.alias()
        self.commons.append(form("", f"{name} AS ({{0}})", query.node))
        return Source(form("", f"{name} AS {alias}"), self._columns_of(alias, query, names, query.node.lite is not None), None)

    def _united(self, _: int) -> Source:
        kinds = self.rng.sample(["int", "num", "str", "ts"], 2)
        united, names = self.union(kinds, inner=True)
        alias = self.alias()
        columns = self._columns_of(alias, united, names, united.node.lite is not None)
        return Source(form("", f"({{0}}) AS {alias}", united.node), columns, None)

    def _join(self, word: str, *, keys: int = 1, equal: bool = True) -> Source:
        left, right = self.table(ITEM), self.table(GROUP)
        left_keys = [column for column in left.columns if column.kind == "int"]
        right_keys = right.columns[:2]
        conditions = []
        for place in range(keys):
            operator = "=" if equal else self.rng.choice(["<", "<>", ">="])
            conditions.append(
                form("bool", f"{{0}} {operator} {{1}}", self.rng.choice(left_keys), right_keys[(place + self.rng.randint(0, 1)) % 2])
            )
        if self.chance(0.3):
            before, nested = self.columns, self.subqueries
            self.columns, self.subqueries = [*left.columns, *right.columns], False
            conditions.append(self.expr("bool", 1))
            self.columns, self.subqueries = before, nested
        marks = " AND ".join(f"{{{place + 2}}}" for place in range(len(conditions)))
        node = form("", f"{{0}} {word} {{1}} ON {marks}", left.node, right.node, *conditions)
        return Source(node, [*left.columns, *right.columns], None)

    # Queries

    def query(self) -> Query:
        """Returns one query."""
        self.commons: list[Node] = []
        found: list[Query] = []

        def keep(build: Callable[[], tuple[Query, Sequence[str]]]) -> Builder:
            def run(_: int) -> Node:
                found.append(build()[0])
                return found[-1].node

            return run

        self.pick(
            [
                ("select", keep(self.plain)),
                ("select", keep(self.plain)),
                ("group by", keep(self.grouped)),
                ("group by", keep(self.grouped)),
                ("total", keep(self.total)),
                ("distinct", keep(self.distinct)),
                ("window", keep(self.windowed)),
                ("union", keep(lambda: self.union(self.rng.sample(["int", "num", "str", "ts", "bool"], self.rng.randint(1, 3))))),
            ],
            0,
        )
        result = found[-1]
        node = result.node
        if self.commons:
            heads = ", ".join(f"{{{place + 1}}}" for place in range(len(self.commons)))
            node = form("", f"WITH {heads} {{0}}", node, *self.commons)
        self.use.add(self.constructs, self.pairs)
        return Query(node, result.kinds, result.keys, frozenset(self.constructs), frozenset(self.pairs))

    def where(self) -> Node | None:
        if self.chance(0.45):
            return None
        if self.chance(0.25):
            return self.inside("plain filter", self._plain_filter, 0)
        found = self.inside("where", lambda d: self.expr("bool", d), 2)
        if self.chance(0.75):  # most queries should return rows
            column = self.rng.choice([c for c in self.columns if c.kind != "arr"])
            found = form("bool", "({0} OR {1} IS NOT NULL)" if self.chance(0.8) else "({0} OR {1} IS NULL)", found, column)
        return found

    def _plain_filter(self, _: int) -> Node:
        """Returns a comparison of a column with a constant, as in a chart's filter."""
        columns = [column for column in self.columns if column.kind in ("int", "num", "str", "bool")]
        if not columns:
            return form("bool", "{0} IS NOT NULL", self._column())
        column = self.rng.choice(columns)
        operator = self.rng.choice(["=", "<>", "<>", "<", "<=", ">", ">="])
        word = self.rng.choice(["", "", "NOT "])
        return form("bool", f"{word}({{0}} {operator} {{1}})", column, self.literal(column.kind))

    def _assemble(
        self,
        items: list[Node],
        source: Source,
        where: Node | None,
        *,
        names: list[str],
        head: str = "SELECT",
        tail: Sequence[tuple[str, list[Node]]] = (),
        inner: bool = False,
        total_order: bool = True,
        extra_order: Node | None = None,
    ) -> Query:
        """Returns the statement with random ORDER BY, LIMIT and OFFSET."""
        children = [*items, source.node]
        text = f"{head} " + ", ".join(f'{{{place}}} AS "{name}"' for place, name in enumerate(names)) + f" FROM {{{len(items)}}}"
        if where is not None:
            children.append(where)
            text += f" WHERE {{{len(children) - 1}}}"
        for word, nodes in tail:
            marks = []
            for node in nodes:
                children.append(node)
                marks.append(f"{{{len(children) - 1}}}")
            text += f" {word} {', '.join(marks)}"
        keys: list[tuple[int, bool, bool]] = []
        limited = self.chance(0.35)
        if limited or self.chance(0.4):
            text, keys, children = self._ordered(text, items, names, children, limited, extra_order, total_order)
        return Query(form("", text, *children), tuple(item.kind for item in items), tuple(keys), frozenset(), frozenset())

    def _ordered(
        self, text: str, items: list[Node], names: list[str], children: list[Node], limited: bool, extra: Node | None, total: bool
    ) -> tuple[str, list[tuple[int, bool, bool]], list[Node]]:
        places = [place for place, item in enumerate(items) if item.kind not in ("arr", "apx")]
        if limited and (len(places) < len(items) and extra is None):
            limited = False
        self.rng.shuffle(places)
        if not limited and places:
            places = places[: self.rng.randint(1, len(places))]
        terms: list[str] = []
        keys: list[tuple[int, bool, bool]] = []
        hidden = extra is not None and self.chance(0.3)
        if hidden:
            self.mark("order by hidden")
            key = self.expr(self.rng.choice(["int", "num", "str"]), 1)
            children.append(key if '"' in key.pipe else self._column())
            terms.append(f"{{{len(children) - 1}}}{self.rng.choice(['', ' DESC'])}")
        for place in places:
            descending = self.chance(0.4)
            nulls_first = not descending
            term = str(place + 1) if self.chance(0.2) else f'"{names[place]}"'
            term += " DESC" if descending else self.rng.choice(["", " ASC"])
            if self.chance(0.25):
                self.mark("nulls first/last")
                nulls_first = self.chance(0.5)
                term += " NULLS FIRST" if nulls_first else " NULLS LAST"
            terms.append(term)
            if not hidden:
                keys.append((place, descending, nulls_first))
        if extra is not None and (limited or hidden):
            children.append(extra)
            terms.append(f"{{{len(children) - 1}}}")
        if not terms:
            return text, [], children
        self.mark("order by")
        text += " ORDER BY " + ", ".join(terms)
        if limited:
            self.mark("limit")
            text += f" LIMIT {self.rng.randint(1, 30)}"
            if self.chance(0.3):
                self.mark("offset")
                text += f" OFFSET {self.rng.randint(1, 15)}"
        return text, keys, children

    def _names(self, count: int) -> list[str]:
        """Returns labels: plain ones, ones with special characters, and names of columns, which they then shadow."""
        odd = ["a.b", "$sum", "COUNT(*)", "price", "seen", "we [ird]", "title", "Ünï", "a b", "small"]
        names: list[str] = []
        for place in range(count):
            name = self.rng.choice(odd) if self.chance(0.25) else f"o{place}"
            names.append(name if name not in names else f"o{place}")
        return names

    def plain(self, *, inner: bool = False) -> tuple[Query, list[str]]:
        """Returns SELECT expressions FROM something."""
        source = self.source()
        self.columns = source.columns
        kinds = (
            ["int", "num", "str", "bool", "ts", "date"]
            if inner
            else ["int", "num", "str", "bool", "ts", "date", "apx", "apx", "apx", "apx", "apx", "arr"]
        )
        items = []
        for _ in range(self.rng.randint(1, 4)):
            kind = self.rng.choice(kinds)
            if kind == "arr" and not any(column.kind == "arr" for column in self.columns):
                kind = "int"
            items.append(self.expr(kind, self.rng.choice([0, 1, 2, 2, 3])))
        names = self._names(len(items))
        where = self.where()
        return self._assemble(items, source, where, names=names, inner=inner, extra_order=None if inner else source.unique), names

    def distinct(self) -> tuple[Query, list[str]]:
        source = self.source()
        self.columns = source.columns
        items = [self.scalar(self.rng.choice([0, 1])) for _ in range(self.rng.randint(1, 3))]
        names = self._names(len(items))
        return self._assemble(items, source, self.where(), names=names, head="SELECT DISTINCT"), names

    def aggregate(self) -> Node:
        """Returns an aggregate function."""
        e = self.expr
        quantile = self.rng.choice(["0.5", "0.25", "0.9", "0", "1"])

        def extreme(_: int) -> Node:
            arg = e(self.rng.choice(["int", "num", "str", "ts"]), 1)
            return form(arg.kind, f"{self.rng.choice(['MIN', 'MAX'])}({{0}})", arg)

        def summed(_: int) -> Node:
            arg = self.number(1)
            return form(arg.kind, "SUM({0})", arg)

        def filtered(_: int) -> Node:
            inner = self.pick([("count(*)", lambda _: form("int", "COUNT(*)")), ("sum", summed), ("min/max", extreme)], 0)
            return form(inner.kind, "{0} FILTER (WHERE {1})", inner, e("bool", 1))

        def disc(_: int) -> Node:
            arg = self.number(0)
            return form(arg.kind, f"PERCENTILE_DISC({quantile}) WITHIN GROUP (ORDER BY {{0}})", arg, lite=None)

        def summed_distinct(_: int) -> Node:
            arg = self.number(1)
            return form(arg.kind, "SUM(DISTINCT {0})", arg)

        def spread(name: str) -> Builder:
            return lambda _: form("apx", f"{name}({{0}})", self.number(1), lite=None)

        nested, self.subqueries = self.subqueries, False
        try:
            return self.pick(
                [
                    ("count(*)", lambda _: form("int", "COUNT(*)")),
                    ("count", lambda _: form("int", "COUNT({0})", self.scalar(1))),
                    ("count distinct", lambda _: form("int", "COUNT(DISTINCT {0})", self.scalar(1))),
                    ("sum", summed),
                    ("sum distinct", summed_distinct),
                    ("avg", lambda _: form("apx", "AVG({0})", self.number(1))),
                    ("min/max", extreme),
                    ("stddev", spread("STDDEV")),
                    ("stddev_pop", spread("STDDEV_POP")),
                    ("variance", spread("VARIANCE")),
                    ("var_pop", spread("VAR_POP")),
                    ("median", spread("MEDIAN")),
                    (
                        "percentile_cont",
                        lambda _: form("apx", f"PERCENTILE_CONT({quantile}) WITHIN GROUP (ORDER BY {{0}})", self.number(0), lite=None),
                    ),
                    ("percentile_disc", disc),
                    ("filter", filtered),
                ],
                0,
            )
        finally:
            self.subqueries = nested

    def grouped(self, *, inner: bool = False) -> tuple[Query, list[str]]:
        source = self.source()
        self.columns = source.columns
        where = self.where()
        nested, self.subqueries = self.subqueries, False
        keys = [self.scalar(self.rng.choice([0, 0, 1, 2])) for _ in range(self.rng.randint(1, 3))]
        keys = [key if '"' in key.pipe else self._column() for key in keys]  # engines differ on constant keys
        keys = list({key.pipe: key for key in keys}.values())
        aggregates = [self.aggregate() for _ in range(self.rng.randint(0, 4))]
        if inner:
            aggregates = [each for each in aggregates if each.kind != "apx"]
        items = [*keys, *aggregates]
        if self.chance(0.3):
            self.columns = [*(key for key in keys if key.kind != "bool"), *(each for each in aggregates if each.kind not in ("apx", "arr"))]
            items.append(self.inside("expression of aggregates", lambda d: self.expr(self.rng.choice(["int", "num", "str"]), d), 1))
        names = self._names(len(items))
        by = [form("", str(place + 1)) if self.chance(0.15) else key for place, key in enumerate(keys)]
        tail = [("GROUP BY", by)]
        if self.chance(0.25):
            self.columns = [*(key for key in keys if key.kind != "bool"), *(each for each in aggregates if each.kind not in ("apx", "arr"))]
            having = self.inside("having", lambda d: self.expr("bool", d), 1)
            tail.append(("HAVING", [form("bool", "({0} OR COUNT(*) > 1)", having)]))
        self.subqueries = nested
        return self._assemble(items, source, where, names=names, tail=tail, inner=inner, extra_order=None), names

    def _column(self) -> Node:
        return self.rng.choice([column for column in self.columns if column.kind not in ("arr", "apx")])

    def total(self) -> tuple[Query, list[str]]:
        source = self.source()
        self.columns = source.columns
        items = [self.aggregate() for _ in range(self.rng.randint(2, 5))]
        names = self._names(len(items))
        where = self.where()
        if self.chance(0.25):
            self.mark("empty total")
            where = form("bool", "{0} IS NULL AND {0} IS NOT NULL", self._column())
        return self._assemble(items, source, where, names=names), names

    def window(self, unique: Node) -> Node:
        """Returns a window function. Its order ends with the unique column, except for ranks and for sums over peers."""
        e = self.expr
        partition = "PARTITION BY {1} " if self.chance(0.6) else ""
        part = self.scalar(0)
        key = self.expr(self.rng.choice(["int", "num", "str", "ts"]), self.rng.choice([0, 1]))
        direction = self.rng.choice(["", " DESC", " NULLS LAST", " DESC NULLS FIRST"])

        def over(kind: str, call: str, arg: Node, *, ties: bool = False, frame: str = "", order: bool = True) -> Node:
            by = f"ORDER BY {{2}}{direction}{'' if ties else ', {3}'} " if order else ""
            return form(kind, f"{call} OVER ({partition}{by}{frame})".replace(" )", ")"), arg, part, key, unique)

        def shifted(_: int) -> Node:
            kind = self.rng.choice(["int", "str", "num"])
            arg, offset = e(kind, 1), self.rng.randint(1, 3)
            default = self.rng.choice(["", f", {offset}", f", {offset}, {self.literal(kind).pipe}"])
            return over(kind, f"{self.rng.choice(['LAG', 'LEAD'])}({{0}}{default})", arg)

        def ends(_: int) -> Node:
            kind = self.rng.choice(["int", "str", "num"])
            frame = self.rng.choice(
                ["", "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"]
            )
            return over(kind, f"{self.rng.choice(['FIRST_VALUE', 'LAST_VALUE'])}({{0}})", e(kind, 1), frame=frame)

        def aggregate(frame_of: Callable[[], dict[str, object]]) -> Builder:
            def build(_: int) -> Node:
                name = self.rng.choice(["SUM", "COUNT", "AVG", "MIN", "MAX"])
                arg = self.number(1)
                kind = {"COUNT": "int", "AVG": "apx"}.get(name, arg.kind)
                return over(kind, f"{name}({{0}})", arg, **frame_of())  # type: ignore[arg-type]

            return build

        def rows() -> dict[str, object]:
            low = self.rng.choice(["UNBOUNDED PRECEDING", "2 PRECEDING", "CURRENT ROW", "1 FOLLOWING"])
            high = self.rng.choice(["CURRENT ROW", "1 FOLLOWING", "UNBOUNDED FOLLOWING"])
            if low == "1 FOLLOWING":
                high = "UNBOUNDED FOLLOWING"
            return {"frame": f"ROWS BETWEEN {low} AND {high}"}

        one = form("int", "1")
        return self.pick(
            [
                ("row_number", lambda _: over("int", "ROW_NUMBER()", one)),
                ("rank", lambda _: over("int", "RANK()", one, ties=True)),
                ("dense_rank", lambda _: over("int", "DENSE_RANK()", one, ties=True)),
                ("lag/lead", shifted),
                ("first/last_value", ends),
                ("running", aggregate(lambda: {"ties": True})),
                ("frame of rows", aggregate(rows)),
                ("whole partition", aggregate(lambda: {"order": False})),
            ],
            0,
        )

    def windowed(self) -> tuple[Query, list[str]]:
        source = self.table(self.rng.choice([ITEM, ITEM, GROUP]))
        self.columns = source.columns
        where = self.where()
        nested, self.subqueries = self.subqueries, False
        items = [self.scalar(1), *(self.window(source.columns[0]) for _ in range(self.rng.randint(1, 3)))]
        self.subqueries = nested
        names = self._names(len(items))
        return self._assemble(items, source, where, names=names, extra_order=source.unique), names

    def union(self, kinds: list[str], *, inner: bool = False) -> tuple[Query, list[str]]:
        word = self.rng.choice(["UNION ALL", "UNION"])
        self.mark(word.lower())
        names = self._names(len(kinds))
        sides = []
        for _ in range(2 if self.chance(0.8) else 3):
            source = self.table(self.rng.choice([ITEM, GROUP]))
            self.columns = source.columns
            items = [self.expr(kind, self.rng.choice([0, 1])) for kind in kinds]
            where = self.where()
            text = "SELECT " + ", ".join(f'{{{place}}} AS "{name}"' for place, name in enumerate(names)) + f" FROM {{{len(items)}}}"
            sides.append(
                form("", text + (" WHERE {" + str(len(items) + 1) + "}" if where else ""), *items, source.node, *([where] if where else []))
            )
        text = f" {word} ".join(f"{{{place}}}" for place in range(len(sides)))
        keys: list[tuple[int, bool, bool]] = []
        children = list(sides)
        if not inner and self.chance(0.6):
            items = [form(kind, "") for kind in kinds]
            text, keys, children = self._ordered(text, items, names, children, self.chance(0.6), None, True)
        return Query(form("", text, *children), tuple(kinds), tuple(keys), frozenset(), frozenset()), names
