"""`python -m bench`: runs all benchmarks, or those named, one after the other; prints their lines and writes a table of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tidemark.settings import CHECKOUT, settings

BENCHES = ("csv_to_kafka", "kafka_to_mongodb", "growth", "freshness", "api_posts", "recompute", "history", "report_views", "dashboards")


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    yield f"# Benchmarks of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n"
    yield "| what | unit | ours | theirs | ratio | spread of the ratio | rounds | CPU time of each, ours : theirs |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for line in lines:
        for name, found in line.get("comparisons", {}).items():
            low, high = found["spread"]
            cpu = f"{found['our_cpu_us']} : {found['their_cpu_us']} us" if "our_cpu_us" in found else ""
            yield (
                f"| {line['bench']}: {name} | {line['unit']} | {found['ours']:,} | {found['theirs']:,} | {found['ratio']} "
                f"| {low} to {high} | {found['rounds']} | {cpu} |"
            )
    yield "\n```"
    yield from map(json.dumps, lines)
    yield "```"


def main() -> int:
    lines = []
    for name in sys.argv[1:] or BENCHES:
        done = subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        if done.returncode:
            return done.returncode
        lines.append(json.loads(done.stdout.splitlines()[-1]))
    path = settings().home / "bench.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(table(lines)) + "\n")
    sys.stdout.write(f"{path.read_text()}\nwritten to {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
