"""The batch layer's commands: `python -m tidemark.spark.batch COMMAND`, of which --help lists them all.

Each can be run again at any time. The log's last line says how it ended and, where it failed, what to do. Exit status 1 is a failure
that may pass by itself, 2 one that would come again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pymongo.database import Database
from pyspark.sql import SparkSession

from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import Rules
from tidemark.serving import history as days
from tidemark.serving import ledger, notes, publications, verifications, withdrawals
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.lease import BATCH, BATCH_SECONDS, lease, this_process
from tidemark.serving.publications import NoPublication, OtherRules, Publication, StartAgain
from tidemark.serving.sizes import Size
from tidemark.serving.verifications import Drifted, Held, NotVerified
from tidemark.settings import settings
from tidemark.spark import history, impact, land, rebuild, recompute, upkeep, verify
from tidemark.spark.lake import Lake, LostStates
from tidemark.spark.log import MissingOffsets, UnfitTopic
from tidemark.spark.recompute import Mode, NotLanded
from tidemark.spark.session import session

FAILED, FAILED_PERMANENTLY = 1, 2

# What another attempt would meet again.
PERMANENT_ERRORS = (
    *(StartAgain, OtherRules, NoPublication, NotVerified, NotLanded, Drifted, Held, LostStates),
    *(days.NoDay, days.NotOver),
    *(withdrawals.NoIngestion, withdrawals.NotWithdrawn),
    *(UnfitTopic, MissingOffsets, ledger.TopicsRecreated, ledger.NotPrepared),
)

log = logging.getLogger("tidemark.batch")


@dataclass
class Batch:
    """What the commands work with; Spark is started where one needs it."""

    database: Database[Document]
    _spark: SparkSession | None = None
    _lake: Lake | None = field(default=None)
    rules: Rules = field(init=False)  # in force when the command began

    def __post_init__(self) -> None:
        self.rules = withdrawals.in_force(self.database)

    @property
    def spark(self) -> SparkSession:
        if self._spark is None:
            events = TideMark().behind(ledger.read(self.database).offsets)
            self._spark = session("tidemark-batch", memory=settings().batch_memory, cores=settings().batch_cores, events=events)
        return self._spark

    @property
    def lake(self) -> Lake:
        if self._lake is None:
            self._lake = Lake(self.spark, settings().lake_url)
        return self._lake

    def land(self) -> None:
        notes.landed(self.database, land.land(self.spark, self.lake))

    def cut(self) -> int:
        """The draft's number. A rebuild that was left is finished first: nothing else can go on."""
        left = ledger.read(self.database).rebuilding
        if left is not None:
            log.warning("the rebuild of publication %d was left unfinished: it is finished first", left)
            rebuild.rebuild(self.spark, self.lake, self.database, left, self.rules)
        draft = publications.cut(self.database, self.rules.fingerprint())
        log.info("publication %d is cut at %s", draft.number, draft.mark)
        return draft.number

    def recompute(self, number: int, mode: str) -> None:
        recompute.recompute(self.lake, self.database, number, Mode(mode), self.rules)
        log.info("publication %d is recomputed", number)

    def verify(self, number: int) -> dict[str, Any]:
        """Drift, and what people are told: `text` of the drift, `form` where they are to decide."""
        found = verify.verify(self.spark, self.lake, self.database, number)
        form, said = verifications.in_markdown(found), verifications.lines(found)
        log.info("publication %d beside the served one:\n%s", number, form)
        log.info("%s", said[-1])
        return {"number": number, "drift": found["drift"], "text": "\n".join(said), "form": form}

    def publish(self, number: int, keep: int) -> None:
        """With drift that is a rebuild. So a night ends, also one that brings nothing new."""
        self._publish(number, keep)
        publications.end_night(self.database, number)

    def _publish(self, number: int, keep: int) -> None:
        if publications.read(self.database, number).published_at is not None:
            log.info("publication %d has been published before; served is %d", number, publications.served(self.database))
            return
        if verifications.read(self.database, number)["drift"]:
            log.info("publication %d corrects the drift that was found", number)
            rebuild.rebuild(self.spark, self.lake, self.database, number, self.rules)
        elif not publications.publish(self.database, number, self.rules.fingerprint()):
            log.info("nothing is new: publication %d stays served", publications.served(self.database))
            return
        if gone := publications.prune(self.database, keep):
            log.info("publications %s are dropped, the newest %d are kept", ", ".join(map(str, gone)), keep)
        log.info("publication %d is served", number)

    def nightly(self, mode: str, on_drift: str, keep: int) -> None:
        self.land()
        number = self.cut()
        self.recompute(number, mode)
        found = self.verify(number)
        if verifications.asks(verifications.read(self.database, number), on_drift):
            raise Held(
                f"publication {number} is for a person to decide on: {found['drift']} differences, and figures as above. The former one "
                f"stays served. To publish it, and correct what differs: `python -m tidemark.spark.batch publish {number}`"
            )
        self.publish(number, keep)

    def history(self, first: date | None, last: date | None, changed_up_to: date | None) -> dict[str, int]:
        """How many days were written, and how many stayed as they were."""
        if changed_up_to is not None:
            days.require_over(changed_up_to, datetime.now(UTC))
            done = history.refresh(self.lake, self.database, changed_up_to, self.rules)
        elif first is not None:
            last = last or first
            days.require_over(last, datetime.now(UTC))
            done = history.compute(self.lake, self.database, first, last, self.rules)
        else:
            raise days.NoDay("say which days: --first DAY and --last DAY, or --changed-up-to DAY")
        log.info("history: %s", ", ".join(f"{number} days {what}" for what, number in done.items()) or "no days")
        return {str(what): number for what, number in done.items()}

    def rebuild(self, number: int) -> None:
        log.info("%s", rollback_in_words(self.database, publications.read(self.database, number)))
        rebuild.rebuild(self.spark, self.lake, self.database, number, self.rules)

    def impact(self, ingestion: str, take_back: bool) -> str:
        """What the reports become when an ingestion is withdrawn, or a withdrawal is taken back; says it in Markdown."""
        withdrawn = withdrawals.of(self.database, ingestion)
        if take_back and withdrawn is None:
            raise withdrawals.NotWithdrawn(f"ingestion {ingestion} is not withdrawn: there is nothing to take back")
        self.land()
        rules = withdrawals.changed(self.rules, ingestion, take_back=take_back)
        found = impact.render_impact(self.lake, self.database, rules)
        for line in found.splitlines():
            log.info("%s", line)
        return found

    def maintain(self, keep: int) -> dict[str, Size]:
        """The sizes of the raw history and the states."""
        return upkeep.maintain(self.lake, self.database, keep)

    def publications(self) -> str:
        """A line a publication, the newest first."""
        served = publications.served(self.database)
        now = ledger.read(self.database).offsets
        text = "\n".join(in_words(one, served, one.mark.behind(now)) for one in publications.listing(self.database))
        sys.stdout.write(text + "\n")
        return text


def in_words(publication: Publication, served: int, back: int) -> str:
    """`back` is how many offsets the stream would go back, if it were rebuilt."""
    state = "served" if publication.number == served else "" if publication.published_at or not publication.number else "draft"
    when = f"{publication.published_at:%Y-%m-%d %H:%M} UTC" if publication.published_at else "-"
    rules, mark = publication.rules or "-", publication.mark
    return f"{publication.number:>6}  {state:<6}  published {when}  {back:,} offsets back  rules {rules}  at {mark}"


def rollback_in_words(database: Database[Document], publication: Publication) -> str:
    """What a rebuild of a publication will change."""
    now = ledger.read(database)
    again = publication.mark.behind(now.offsets)
    return (
        f"served is publication {publications.served(database)} with the stream at {now.offsets}; it becomes publication "
        f"{publication.number} at {publication.mark}: the stream stops, goes back {again:,} offsets and serves them again. In between the "
        "reports are older; nothing is lost"
    )


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tidemark.spark.batch", description="The batch layer's steps.")
    parser.add_argument("--result", type=Path, help="file to write the command's result to, as JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    mode = argparse.ArgumentParser(add_help=False)
    mode.add_argument(
        "--mode", choices=[one.value for one in Mode], default=Mode.AUTO.value, help="what is recomputed (default %(default)s)"
    )
    keep = argparse.ArgumentParser(add_help=False)
    keep.add_argument("--keep", type=int, default=settings().keep_publications, help="publications that are kept (default %(default)s)")
    number = argparse.ArgumentParser(add_help=False)
    number.add_argument("number", type=int, help="the publication")
    commands.add_parser("land", help="copy the log to the raw history")
    commands.add_parser("cut", help="a draft of this moment; says its number")
    commands.add_parser("recompute", parents=[number, mode], help="the draft's states and cube")
    commands.add_parser("verify", parents=[number], help="compare the draft with what is served")
    commands.add_parser("publish", parents=[number, keep], help="serve the draft; correct the drift that was found")
    nightly = commands.add_parser("nightly", parents=[mode, keep], help="all of these, one after the other")
    nightly.add_argument("--on-drift", choices=["correct", "ask", "fail"], default="correct", help="default %(default)s")
    past = commands.add_parser("history", help="the cube of each of some days, in one pass")
    past.add_argument("--first", type=date.fromisoformat, metavar="DAY", help="the first day, such as 2023-12-31")
    past.add_argument("--last", type=date.fromisoformat, metavar="DAY", help="the last one, included (default: the first)")
    past.add_argument("--changed-up-to", type=date.fromisoformat, metavar="DAY", help="that day, and every day before it that has changed")
    commands.add_parser("rebuild", aliases=["rollback"], parents=[number], help="bring everything to a publication: repair, rollback")
    ahead = commands.add_parser("impact", help="what the reports become when an ingestion is withdrawn")
    ahead.add_argument("ingestion", help="its id")
    ahead.add_argument("--take-back", action="store_true", help="when its withdrawal is taken back")
    commands.add_parser("publications", help="list them")
    commands.add_parser("maintain", parents=[keep], help="compact the raw history, drop what nothing needs any more")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for noisy in ("py4j", "kafka", "pymongo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    given = vars(_arguments(words))
    command, result_file = given.pop("command"), given.pop("result")
    command = "rebuild" if command == "rollback" else command
    try:
        with ExitStack() as stack:
            database = database_of(stack.enter_context(connect(settings().batch_mongodb)))
            ledger.read(database)
            if command != "publications":
                stack.enter_context(lease(database, BATCH, this_process(command), BATCH_SECONDS))
            act: Callable[..., Any] = getattr(Batch(database), command)
            result = act(**given)
    except PERMANENT_ERRORS as reason:
        log.error("%s: %s", command, reason)
        return FAILED_PERMANENTLY
    except Exception as error:
        log.exception("%s has failed", command)
        log.error("%s: %s; nothing is lost: run it again", command, str(error).partition("\n")[0] or type(error).__name__)
        return FAILED
    if result_file is not None:
        result_file.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
