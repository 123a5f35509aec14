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
    Mutation("escapes in LIKE are ignored", "patterns.py", "if letter == escape:", "if False:"),
    Mutation("_ in LIKE matches itself", "patterns.py", '"." if letter == "_" else', '"." if letter == "\\0" else'),
    Mutation("null is below five", "emit/values.py", '"<": [one], "<=": [one]', '"<": [], "<=": []'),
    Mutation("not less is greater", "scalars.py", '"<": ">="', '"<": ">"'),
    Mutation(
        "an OR is false where a side is",
        "emit/values.py",
        "return all_of([self.truth(each, False) for each in scalar.args])",
        "return any_of([self.truth(each, False) for each in scalar.args])",
    ),
    Mutation("NOT IN passes over null", "emit/values.py", "if len(values) < len(scalar.options):", "if False:"),
    Mutation("the first of alternatives is none", "normalise/alternatives.py", "expressions=values)", "expressions=values[1:])"),
    Mutation("<> finds nulls", "emit/match.py", '{"$nin": [right.value, None]}', '{"$nin": [right.value]}'),
    Mutation(
        "the sum of nothing is 0",
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
    Mutation("an aggregate of no rows is no row", "emit/pipeline.py", "if plan.total:", "if False:"),
    Mutation(
        "null and missing are two partitions",
        "emit/pipeline.py",
        'f"p{place}": _present(values.value(each))',
        'f"p{place}": values.value(each)',
    ),
    Mutation(
        "halves go to the even neighbour",
        "emit/functions.py",
        '{"$add": [{"$trunc": [x]}, {"$trunc": [{"$multiply": [fraction, 2]}]}]}',
        '{"$round": [x, 0]}',
    ),
    Mutation("lower knows ASCII only", "emit/functions.py", 'either(foreign, every, "$$text")', '"$$text"'),
    Mutation("null joins null", "emit/pipeline.py", 'right.stages.append({"$match": {lookup["foreignField"]: {"$ne": None}}})', "pass"),
    Mutation(
        "a left join drops rows", "emit/pipeline.py", '"preserveNullAndEmptyArrays": plan.outer}', '"preserveNullAndEmptyArrays": False}'
    ),
    Mutation(
        "IN (SELECT) passes over null",
        "emit/pipeline.py",
        '{"case": {"$eq": [f"{result}.unknown", True]}, "then": None}',
        '{"case": {"$eq": [f"{result}.unknown", True]}, "then": False}',
    ),
    Mutation("filters go into the right of a left join", "optimise/push_filters.py", "if plan.outer:", "if False:"),
    Mutation("limits in a union forget the offset", "optimise/push_limits.py", "limit.count + limit.offset", "limit.count"),
    Mutation("percentiles do not interpolate", "optimise/percentiles.py", 'above = Call("ceil"', 'above = Call("floor"'),
    Mutation(
        "parts of counts are counted",
        "optimise/partial_aggregates.py",
        'through("count", "sum", SqlType.INTEGER), integer(0)',
        'through("count", "count", SqlType.INTEGER), integer(0)',
    ),
    Mutation(
        "a running sum stops at its own row",
        "bind/windows.py",
        "return (None, None), has_order\n    only",
        "return (None, 0) if has_order else (None, None), False\n    only",
    ),
    Mutation("NULLS LAST is ignored", "plans.py", "return self.nulls_first == self.descending", "return False"),
    Mutation("weeks start on Sunday", "emit/functions.py", 'more = {**({"startOfWeek": "monday"} if unit == "week" else {}),', "more = {"),
    Mutation("Sunday is day 1", "emit/functions.py", '{"$subtract": [{"$dayOfWeek": date}, 1]}', '{"$dayOfWeek": date}'),
    Mutation(
        "UNION keeps repetitions",
        "bind/query.py",
        'if node.args.get("distinct"):\n            plan = self.distinct(plan)',
        "if False:\n            pass",
    ),
    Mutation(
        "casts cut fractions",
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
        "LIMIT comes before OFFSET",
        "emit/pipeline.py",
        '[*([{"$skip": plan.offset}] if plan.offset else []), *([{"$limit": plan.count}] if plan.count is not None else [])]',
        '[*([{"$limit": plan.count}] if plan.count is not None else []), *([{"$skip": plan.offset}] if plan.offset else [])]',
    ),
    Mutation("division by zero fails", "emit/functions.py", 'either({"$eq": [divisor, 0]}, None, divisor)', "divisor"),
    Mutation(
        "filters on aggregates go below the group",
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
        assert mutation.old in text, f"{mutation.name}: the text is not in {mutation.file}"
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
