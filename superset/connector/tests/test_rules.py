"""Tests each rule of the translator against its fixture file."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from bson import json_util
from pipe_fixtures import FOLDER, Shop, cases, check
from sqlglot import exp

from mongopipe.translate import translate
from mongopipe.translate.bind import bind
from mongopipe.translate.normalise import RULES as NORMALISE
from mongopipe.translate.normalise import normalise
from mongopipe.translate.optimise import LOWERINGS, RULES
from mongopipe.translate.parse import DIALECT, parse
from mongopipe.translate.patterns import Fold, like_regex
from mongopipe.translate.plans import Plan, described


def _bound(sql: str) -> Plan:
    return bind(normalise(parse(sql)), Shop(), {}).plan


def test_parse() -> None:
    check("parse.sql", lambda sql: parse(sql).sql(DIALECT))


@pytest.mark.parametrize("rule", NORMALISE, ids=lambda rule: rule.__name__)
def test_normalise(rule: Callable[[exp.Query], exp.Query]) -> None:
    check(f"normalise_{rule.__name__}.sql", lambda sql: rule(parse(sql)).sql(DIALECT))


def test_bind() -> None:
    check("bind.sql", lambda sql: described(_bound(sql)))


@pytest.mark.parametrize("rule", [*LOWERINGS, *RULES], ids=lambda rule: rule.__name__)
def test_optimise(rule: Callable[[Plan], Plan]) -> None:
    check(f"optimise_{rule.__name__}.sql", lambda sql: described(rule(_bound(sql))))


def test_emit() -> None:
    def stages(sql: str) -> str:
        pipeline = translate(sql, Shop()).pipeline
        return "\n".join([str(pipeline.collection), *(json.dumps(stage, default=json_util.default) for stage in pipeline.stages)])

    check("emit.sql", stages)


def test_refused() -> None:
    """The error for an unsupported statement names the construct."""
    check("refused.sql", lambda sql: str(translate(sql, Shop()).pipeline))
    assert all(case.expected.split(":")[0] in ("NotSupportedError", "ProgrammingError", "DataError") for case in cases("refused.sql"))


def test_every_rule_has_a_fixture_and_every_fixture_is_used() -> None:
    rules = {f"normalise_{rule.__name__}.sql" for rule in NORMALISE} | {f"optimise_{rule.__name__}.sql" for rule in (*LOWERINGS, *RULES)}
    others = {"parse.sql", "bind.sql", "emit.sql", "refused.sql", "answers.sql", "superset.sql"}
    assert {path.name for path in FOLDER.iterdir()} == rules | others


@pytest.mark.parametrize(
    ("pattern", "escape", "fold", "regex"),
    [
        ("abc%", None, Fold.NONE, "^abc"),
        ("%abc%", None, Fold.NONE, "abc"),
        ("%a_c", None, Fold.NONE, r"a.c\z"),
        ("a!%%!%", "!", Fold.NONE, r"^a%.*%\z"),
        ("%", None, Fold.NONE, ""),
        ("", None, Fold.NONE, r"^\z"),
        ("a.b%", None, Fold.NONE, r"^a\.b"),
        ("b0%", None, Fold.LOWER, "^[bB]0"),
        ("k%", None, Fold.LOWER, "^[kK\u212a]"),
        ("B%", None, Fold.LOWER, "^(?!)"),
    ],
)
def test_like_patterns(pattern: str, escape: str | None, fold: Fold, regex: str) -> None:
    assert like_regex(pattern, escape, fold) == regex
