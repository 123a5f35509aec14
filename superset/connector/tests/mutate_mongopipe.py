"""Mutation tests: the fuzzer must detect each deliberate mistake in the translator. `python tests/mutate_mongopipe.py [name ...]`

A mutation replaces text in a copy of the package. The fuzzer runs on the copy until it finds a wrong answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipe_server import server

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "mongopipe"


@dataclass(frozen=True)
class Mutation:
    """Replaces `old` with `new` in `file` of the translator. The file must contain `old`."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("LIKE ignores the escape character", "patterns.py", "if letter == escape:", "if False:"),
    Mutation("_ in LIKE matches only itself", "patterns.py", '"." if letter == "_" else', '"." if letter == "\\0" else'),
    Mutation("null satisfies <", "emit/values.py", '"<": [one], "<=": [one]', '"<": [], "<=": []'),
    Mutation("NOT (a < b) is a > b", "scalars.py", '"<": ">="', '"<": ">"'),
    Mutation(
        "OR is false if one side is false",
        "emit/values.py",
        "return all_of([self.truth(each, False) for each in scalar.args])",
        "return any_of([self.truth(each, False) for each in scalar.args])",
    ),
    Mutation("NOT IN ignores null in the list", "emit/values.py", "if len(values) < len(scalar.options):", "if False:"),
    Mutation("a list of alternatives lacks its first value", "normalise/alternatives.py", "expressions=values)", "expressions=values[1:])"),
    Mutation("<> is true for nulls", "emit/match.py", '{"$nin": [right.value, None]}', '{"$nin": [right.value]}'),
    Mutation(
        "SUM of no values is 0",
        "emit/accumulators.py",
        'return either(not_null(some), self._field("$sum", arg, 0), None)',
        'return self._field("$sum", arg, 0)',
    ),
    Mutation(
        "COUNT(x) counts nulls",
        "emit/accumulators.py",
        "1 if counts_all else either(not_null(arg), 1, 0)",
        "1",
    ),
    Mutation("an aggregate without GROUP BY over no rows returns no row", "emit/pipeline.py", "if plan.total:", "if False:"),
    Mutation(
        "null and missing are different partitions",
        "emit/pipeline.py",
        'f"p{place}": _present(values.value(each))',
        'f"p{place}": values.value(each)',
    ),
    Mutation(
        "ROUND rounds halves to even",
        "emit/functions.py",
        '{"$add": [{"$trunc": [x]}, {"$trunc": [{"$multiply": [fraction, 2]}]}]}',
        '{"$round": [x, 0]}',
    ),
    Mutation("LOWER converts ASCII only", "emit/functions.py", 'either(foreign, every, "$$text")', '"$$text"'),
    Mutation("null joins null", "emit/pipeline.py", 'right.stages.append({"$match": {lookup["foreignField"]: {"$ne": None}}})', "pass"),
    Mutation(
        "LEFT JOIN drops rows without a match",
        "emit/pipeline.py",
        '"preserveNullAndEmptyArrays": plan.outer}',
        '"preserveNullAndEmptyArrays": False}',
    ),
    Mutation(
        "IN (SELECT) ignores null",
        "emit/pipeline.py",
        '{"case": {"$eq": [f"{result}.unknown", True]}, "then": None}',
        '{"case": {"$eq": [f"{result}.unknown", True]}, "then": False}',
    ),
    Mutation("filters move into the right side of a left join", "optimise/push_filters.py", "if plan.outer:", "if False:"),
    Mutation("limits in UNION ALL ignore the offset", "optimise/push_limits.py", "limit.count + limit.offset", "limit.count"),
    Mutation("percentiles do not interpolate", "optimise/percentiles.py", 'above = Call("ceil"', 'above = Call("floor"'),
    Mutation(
        "partial counts are counted instead of added",
        "optimise/partial_aggregates.py",
        'through("count", "sum", SqlType.INTEGER), integer(0)',
        'through("count", "count", SqlType.INTEGER), integer(0)',
    ),
    Mutation(
        "a running sum excludes later peers",
        "bind/windows.py",
        "return (None, None), has_order\n    only",
        "return (None, 0) if has_order else (None, None), False\n    only",
    ),
    Mutation("NULLS LAST is ignored", "plans.py", "return self.nulls_first == self.descending", "return False"),
    Mutation("weeks start on Sunday", "emit/functions.py", 'more = {**({"startOfWeek": "monday"} if unit == "week" else {}),', "more = {"),
    Mutation("Sunday is day 1", "emit/functions.py", '{"$subtract": [{"$dayOfWeek": date}, 1]}', '{"$dayOfWeek": date}'),
    Mutation(
        "UNION keeps duplicates",
        "bind/query.py",
        'if node.args.get("distinct"):\n            plan = self.distinct(plan)',
        "if False:\n            pass",
    ),
    Mutation(
        "CAST to an integer truncates",
        "emit/casts.py",
        'return _converted({"$round": [value, 0]}, target, safe)',
        "return _converted(value, target, safe)",
    ),
    Mutation(
        "a missing field is not null", "emit/environment.py", 'return {"$lte": [expression, None]}', 'return {"$eq": [expression, None]}'
    ),
    Mutation(
        "dotted names are always paths",
        "emit/environment.py",
        'if all(part and "." not in part and not part.startswith("$") for part in parts):',
        "if True:",
    ),
    Mutation(
        "LIMIT applies before OFFSET",
        "emit/pipeline.py",
        '[*([{"$skip": plan.offset}] if plan.offset else []), *([{"$limit": plan.count}] if plan.count is not None else [])]',
        '[*([{"$limit": plan.count}] if plan.count is not None else []), *([{"$skip": plan.offset}] if plan.offset else [])]',
    ),
    Mutation("division by zero is an error", "emit/functions.py", 'either({"$eq": [divisor, 0]}, None, divisor)', "divisor"),
    Mutation(
        "filters on aggregates move below the group",
        "optimise/push_filters.py",
        "below, above = _divided(parts, set(keys))",
        "below, above = _divided(parts, {column.number for column in plan.columns})",
    ),
)


def found(mutation: Mutation, url: str) -> bool:
    """Returns whether the fuzzer detects the mutation within 3,000 queries."""
    with tempfile.TemporaryDirectory(prefix="mongopipe-mutant-") as folder:
        shutil.copytree(PACKAGE, Path(folder, "mongopipe"))
        file = Path(folder, "mongopipe", "translate", mutation.file)
        text = file.read_text()
        assert mutation.old in text, f"{mutation.name}: {mutation.file} does not contain the text to replace; update the mutation"
        file.write_text(text.replace(mutation.old, mutation.new))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(HERE)]), "MONGOPIPE_TEST_URL": url}
        command = [sys.executable, str(HERE / "fuzz_mongopipe.py"), "--until-wrong", "--show", "1"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    outcome = run.stdout.strip().splitlines()
    counts = next((line for line in outcome if " queries, " in line), run.stderr[-300:])
    print(f"{'found ' if run.returncode == 1 else 'MISSED'} {mutation.name}: {counts}", flush=True)
    return run.returncode == 1 and any(" 1 wrong" in each for each in outcome)


def main() -> int:
    chosen = [mutation for mutation in MUTATIONS if not sys.argv[1:] or mutation.name in sys.argv[1:]]
    with server() as url:
        missed = [mutation.name for mutation in chosen if not found(mutation, url)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutations found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
