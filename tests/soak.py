"""The long forms of the proofs, by name: `python tests/soak.py [NAME ...]`, all of them where none is named.

`--of-day N --within SECONDS` runs one that takes no longer than that: another one each day, so that a machine that tests every day comes
past all of them. A proof's tests bear its name: `@pytest.mark.soak(proof="kills")`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
CONNECTOR = ("make", "--no-print-directory", "connector")
MARGIN = 1.5  # by which a proof may take longer than it took when it was measured


class Proof(NamedTuple):
    name: str
    minutes: float  # measured on two cores that did nothing else
    what: str
    connector: str = ""  # the target of the connector's Makefile, where the proof is one of its

    @property
    def command(self) -> tuple[str, ...]:
        if self.connector:
            return (*CONNECTOR, f"TARGETS={self.connector}")
        return (sys.executable, "-m", "pytest", "-m", f"soak(proof='{self.name}')", "-s")


PROOFS = (
    Proof("protocol", 3, "5,000 random schedules of the protocol's model"),
    Proof("validation", 5, "400,000 generated events, validated by Spark and by catalog/"),
    Proof("api", 5, "a broker that falls again and again, two brokers of three, generated requests against the API's document"),
    Proof("failover", 9, "three MongoDB servers and three brokers fail over under load, with files, the stream and nights at work"),
    Proof("kills", 5.5, "the stream killed at random moments, thirty times"),
    Proof("nights", 12, "a night through Airflow, and one killed at each of its steps, with drift and without; upkeep"),
    Proof("rebuilds", 12, "a rebuild killed at each of its steps, three times"),
    Proof("random", 12, "streams, nights and rebuilds at once in an order of a seed's choosing, three seeds"),
    Proof(
        "losses",
        18,
        "lost layers and days, offsets without events, two drivers on S3, new rules, what a former stream leaves, no archive of classes",
    ),
    Proof("drill", 5, "MongoDB, Kafka, the raw history and two of them lost, and recovered as the documentation says"),
    Proof("history", 8, "seeded nights and late files, and a backfill through Airflow"),
    Proof("stack", 12, "the whole stack: every way in, real products, runs that wait, hold and go on alone"),
    Proof("forms", 15, "every DAG from its form in a browser, two at once, single tasks cleared, questions answered"),
    Proof("dashboards", 5.6, "every dashboard in a browser: filters, links, drilling, searches"),
    Proof("logins", 5, "logins to Airflow and Superset by Keycloak, which is fetched from Maven Central"),
    Proof("full-size", 15, "1,426,337 products through the whole stack, whose stream is killed on the way"),
    Proof("containers", 5.5, "all services of docker-compose.yaml natively: PostgreSQL, Redis, accounts, a cluster, backup and restore"),
    Proof("company", 2.5, "the main job on a Kafka with TLS and logins, a MongoDB with accounts, and an identity provider"),
    Proof("fuzzing", 10, "20,000 random queries through the connector, DuckDB and SQLite", "fuzz"),
    Proof("mutations", 12, "deliberate mistakes in the connector's translator, each of which random queries must find", "mutants"),
    Proof("fresh", 3.5, "the connector's README in an environment of its own", "fresh"),
)
NAMES = tuple(proof.name for proof in PROOFS)


def of_day(day: int, within_seconds: float) -> Proof | None:
    """The day's proof, or the next one that fits in that time."""
    turned = [PROOFS[(day + number) % len(PROOFS)] for number in range(len(PROOFS))]
    return next((proof for proof in turned if proof.minutes * 60 * MARGIN <= within_seconds), None)


def run(proof: Proof) -> tuple[int, float]:
    """Its exit status, and how many minutes it took."""
    print(f"==> soak: {proof.name}: {proof.what} (about {proof.minutes:g} minutes)", flush=True)
    started = time.monotonic()
    done = subprocess.run(proof.command, cwd=CHECKOUT)
    return done.returncode, (time.monotonic() - started) / 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/soak.py", description="The long forms of the proofs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    parser.add_argument("--of-day", type=int, metavar="N", help="one that the day of the year chooses")
    parser.add_argument("--within", type=float, metavar="SECONDS", default=float("inf"), help="how long that may take")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"there is no proof {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    proofs = [proof for proof in PROOFS if proof.name in (given.names or NAMES)]
    if given.of_day is not None:
        chosen = of_day(given.of_day, given.within)
        if chosen is None:
            print(f"==> soak: none of the proofs fits in the {given.within:.0f} s that are left")
        proofs = [] if chosen is None else [chosen]
    if given.list:
        for proof in proofs:
            print(f"{proof.name:11} {proof.minutes:4g} min  {proof.what}")
        return 0
    ended = [(proof, *run(proof)) for proof in proofs]
    for proof, status, minutes in ended:
        print(f"soak: {proof.name:11} {'passed' if status == 0 else f'FAILED ({status})'} in {minutes:.1f} min")
    return int(any(status for _, status, _ in ended))


if __name__ == "__main__":
    sys.exit(main())
