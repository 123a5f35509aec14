"""The batch layer's commands: `python -m tidemark.spark.batch COMMAND`; --help lists them.

Each can be run again at any time. The last line of the log says how it ended and, after a failure, what to do. Exit status 1 is a failure
that may be transient, 2 a permanent one.
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
from typing import Any, NamedTuple

from pymongo.database import Database
from pyspark.sql import SparkSession

from tidemark.catalog.posts import InvalidPosts, is_posts, parse
from tidemark.catalog.rules import Rules
from tidemark.catalog.words import counted
from tidemark.rendering.adoptions import render_adoption
from tidemark.rendering.publications import render_publication, render_rebuild
from tidemark.rendering.verifications import render_decision, render_verification
from tidemark.serving import bindings, ingestions, ledger, notes, plausibility, publications, retention, verifications, withdrawals
from tidemark.serving import history as days
from tidemark.serving.cells import TooManyCells
from tidemark.serving.database import Document, clock, connect, database_of
from tidemark.serving.layout import OtherLayout
from tidemark.serving.lease import BATCH, BATCH_SECONDS, lease, this_process
from tidemark.serving.publications import NoPublication, OtherRules, StaleDraft
from tidemark.serving.sizes import Size
from tidemark.serving.verifications import ApprovalRequired, Drifted, NotVerified
from tidemark.settings import Settings, settings
from tidemark.spark import adopt, history, impact, land, rebuild, recompute, upkeep, verify
from tidemark.spark.lake import Lake, LostStates, UnusableLake
from tidemark.spark.log import MissingOffsets, OtherRecords, UnsafeTopic
from tidemark.spark.recompute import Mode, NotLanded
from tidemark.spark.session import session

DONE, FAILED, FAILED_PERMANENTLY = range(3)  # exit statuses

# Errors that another attempt would meet again.
PERMANENT_ERRORS = (
    *(StaleDraft, OtherRules, NoPublication, TooManyCells, NotVerified, NotLanded, Drifted, ApprovalRequired, LostStates),
    *(days.InvalidDays, days.DayNotEnded),
    *(withdrawals.NoIngestion, withdrawals.NotWithdrawn, InvalidPosts),
    *(
        UnusableLake,
        UnsafeTopic,
        MissingOffsets,
        OtherRecords,
        bindings.TopicsRecreated,
        ledger.NotPrepared,
        OtherLayout,
        land.ForeignLake,
        land.OlderLake,
        adopt.OtherLoss,
        history.LostEvents,
    ),
)

log = logging.getLogger("tidemark.batch")


@dataclass
class Batch:
    """The resources of the commands; Spark is started only if a command needs it."""

    database: Database[Document]
    of: Settings
    _spark: SparkSession | None = None
    _lake: Lake | None = field(default=None)
    rules: Rules = field(init=False)  # in force when the command began

    def __post_init__(self) -> None:
        self.rules = withdrawals.in_force(self.database, self.of.rules)

    @property
    def spark(self) -> SparkSession:
        if self._spark is None:
            own = ledger.read(self.database)
            events = own.binding.events_below(own.offsets)
            self._spark = session("tidemark-batch", self.of, memory=self.of.batch_memory, cores=self.of.batch_cores, events=events)
        return self._spark

    @property
    def lake(self) -> Lake:
        if self._lake is None:
            self._lake = Lake(self.spark, self.of.lake_url)
            self._lake.require_layout()
        return self._lake

    def land(self) -> None:
        notes.record_landing(self.database, land.land(self.spark, self.lake, ledger.read(self.database), self.of))

    def adopt(self, dry_run: bool = False, as_shown: str | None = None) -> dict[str, Any]:
        """The `publication` that is then served. With `dry_run` only what would be lost: as `text`, and `shown`, which identifies it."""
        if dry_run:
            found = adopt.plan(self.spark, self.lake, self.database, self.of).describe(self.database)
            text = render_adoption(found)
            log.info("adopting this log and raw history:\n%s", text)
            return {"text": text, "shown": found["shown"], "continues": found["continues"]}
        number = adopt.adopt(self.spark, self.lake, self.database, self.of, self.rules, as_shown)
        log.info("publication %d is served: everything that the raw history holds", number)
        if lost := ingestions.lost_chunks(self.database):
            log.warning(
                "the events of %s may be lost: ingest these files again, which sends only what is missing: %s",
                counted(sum(map(len, lost.values())), "chunk"),
                ", ".join(f"{ingestions.read(self.database, one)['file']} ({one})" for one in lost),
            )
        return {"publication": number}

    def cut(self) -> int:
        """The draft's number. An interrupted rebuild is finished first, because nothing else can run before, or the draft takes it over."""
        left = ledger.read(self.database).rebuilding
        if left is not None:
            log.warning("the rebuild of publication %d was interrupted: finishing it first", left)
            try:
                rebuild.rebuild(self.spark, self.lake, self.database, left, self.of, self.rules)
            except (OtherRules, LostStates, NoPublication, TooManyCells) as reason:
                log.warning("it cannot be finished (%s): a rebuild of what is recomputed now takes it over", reason)
        draft = publications.cut(self.database, self.rules.fingerprint(), take_over=left is not None)
        log.info("publication %d is cut at %s", draft.number, draft.mark)
        return draft.number

    def recompute(self, number: int, mode: str) -> None:
        if not self.lake.landed().mark.reaches(publications.read(self.database, number).mark):
            self.land()  # the stream has gone on between the landing and the cut
        recompute.recompute(self.lake, self.database, number, self.of, Mode(mode), self.rules)
        log.info("publication %d is recomputed", number)

    def verify(self, number: int) -> dict[str, Any]:
        """The verification's result: `drift` and its `text`, and the `form` for a person who must decide."""
        found = verify.verify(self.spark, self.lake, self.database, number, self.of)
        exceeded = plausibility.beyond(found["compared"], self.of)
        form, lines = render_decision(found, exceeded), render_verification(found)
        log.info("publication %d compared with the served one:\n%s", number, form)
        log.info("%s", lines[-1])
        return {"number": number, "drift": found["drift"], "text": "\n".join(lines), "form": form}

    def publish(self, number: int, keep: int) -> None:
        """Publishes the draft, or rebuilds it if there is drift, and records the end of the night, also if there are no new events."""
        self._publish(number, keep)
        publications.end_night(self.database, number)

    def _publish(self, number: int, keep: int) -> None:
        draft = publications.read(self.database, number)
        if draft.published_at is not None:
            log.info("publication %d is already published; publication %d is served", number, publications.served(self.database))
            return
        takes_over = draft.cut is not None and draft.cut.rebuilding is not None
        if verifications.read(self.database, number)["drift"] or takes_over:
            log.info(
                "publication %d %s", number, "takes over the interrupted rebuild" if takes_over else "corrects the drift that was found"
            )
            rebuild.rebuild(self.spark, self.lake, self.database, number, self.of, self.rules)
        elif not publications.publish(self.database, number, self.rules.fingerprint()):
            log.info("no new events: publication %d stays served", publications.served(self.database))
            return
        if gone := publications.prune(self.database, keep):
            log.info("dropped publications %s, kept the newest %d", ", ".join(map(str, gone)), keep)
        log.info("publication %d is served", number)

    def nightly(self, mode: str, on_drift: str, keep: int) -> None:
        self.land()
        number = self.cut()
        self.recompute(number, mode)
        found = self.verify(number)
        if verifications.requires_approval(verifications.read(self.database, number), on_drift, self.of):
            raise ApprovalRequired(
                f"publication {number} needs approval: {counted(found['drift'], 'difference')}, figures as logged above. The previous "
                f"publication stays served. To publish it and correct the drift, run `python -m tidemark.spark.batch publish {number}`"
            )
        self.publish(number, keep)

    def history(self, first: date | None, last: date | None, changed_up_to: date | None) -> dict[str, int]:
        """The number of days written, and of days left unchanged."""
        if changed_up_to is not None:
            days.require_over(changed_up_to, datetime.now(UTC))
            done = history.refresh(
                self.lake, self.database, changed_up_to, self.of.category_topic, self.rules, self.of.max_cells, self._oldest_day()
            )
        elif first is not None:
            last = last or first
            days.require_over(last, datetime.now(UTC))
            done = history.compute(self.lake, self.database, first, last, self.of.category_topic, self.rules, self.of.max_cells)
        else:
            raise days.InvalidDays("no days given: use --first DAY and --last DAY, or --changed-up-to DAY")
        log.info("history: %s", ", ".join(f"{counted(number, 'day')} {what}" for what, number in done.items()) or "no days")
        return {str(what): number for what, number in done.items()}

    def _oldest_day(self) -> date | None:
        return retention.oldest_day(self.of, clock(self.database))

    def rebuild(self, number: int) -> None:
        log.info("%s", self.rebuild_effect(number))
        rebuild.rebuild(self.spark, self.lake, self.database, number, self.of, self.rules)

    def impact(self, name: str, take_back: bool) -> str:
        """How the reports change if an ingestion or posts are withdrawn, or that is undone; in Markdown."""
        name = withdrawals.named(self.database, name)
        if take_back and withdrawals.of(self.database, name) is None:
            raise withdrawals.NotWithdrawn(f"{name} is not withdrawn: there is nothing to undo")
        self.land()
        if is_posts(name) and not take_back and not impact.count_posts(self.lake, parse(name)):
            raise withdrawals.NoIngestion(
                f"no event in the raw history is of {name}. Posts by client and day:\n{impact.render_posts(self.lake)}"
            )
        rules = withdrawals.changed(self.rules, name, take_back=take_back)
        found = impact.render_impact(self.lake, self.database, self.of.category_topic, rules)
        for line in found.splitlines():
            log.info("%s", line)
        return found

    def maintain(self, keep: int) -> dict[str, Size]:
        """The sizes of the raw history and the states."""
        for what, count in retention.delete_old(self.database, self.of, clock(self.database)).items():
            if count:
                log.info("deleted what is older than the settings allow: %d %s", count, what)
        return upkeep.maintain(self.lake, self.database, keep)

    def rebuild_effect(self, number: int) -> str:
        """The effect of rebuilding a publication, as text."""
        now, publication = ledger.read(self.database).offsets, publications.read(self.database, number)
        return render_rebuild(publication, publications.served(self.database), now, publication.mark.behind(now))

    def publications(self) -> str:
        """The publications, one per line, the newest first."""
        served = publications.served(self.database)
        now = ledger.read(self.database).offsets
        text = "\n".join(render_publication(one, served, one.mark.behind(now)) for one in publications.listing(self.database))
        sys.stdout.write(text + "\n")
        return text


def _arguments(keep_publications: int, words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tidemark.spark.batch", description="Commands of the batch layer.")
    parser.add_argument("--result", type=Path, help="write the command's result to this file, as JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    mode = argparse.ArgumentParser(add_help=False)
    mode.add_argument("--mode", choices=[one.value for one in Mode], default=Mode.AUTO.value, help="how to recompute (default %(default)s)")
    keep = argparse.ArgumentParser(add_help=False)
    keep.add_argument("--keep", type=int, default=keep_publications, help="number of publications to keep (default %(default)s)")
    number = argparse.ArgumentParser(add_help=False)
    number.add_argument("number", type=int, help="number of the publication or draft")
    commands.add_parser("land", help="copy new events from the log to the raw history")
    commands.add_parser("cut", help="create a draft of the current moment; logs its number")
    commands.add_parser("recompute", parents=[number, mode], help="recompute the draft's states and cube")
    commands.add_parser("verify", parents=[number], help="compare the draft with what is served")
    commands.add_parser("publish", parents=[number, keep], help="serve the draft and correct the drift that was found")
    nightly = commands.add_parser("nightly", parents=[mode, keep], help="run all of the above in order")
    nightly.add_argument(
        "--on-drift", choices=["correct", "ask", "fail"], default="correct", help="what to do about drift (default %(default)s)"
    )
    past = commands.add_parser("history", help="compute the cubes of a range of days in one pass")
    past.add_argument("--first", type=date.fromisoformat, metavar="DAY", help="the first day, such as 2023-12-31")
    past.add_argument("--last", type=date.fromisoformat, metavar="DAY", help="the last day, inclusive (default: the first)")
    past.add_argument("--changed-up-to", type=date.fromisoformat, metavar="DAY", help="this day, and every earlier day that has changed")
    commands.add_parser("rebuild", aliases=["rollback"], parents=[number], help="reset everything to a publication: repair or rollback")
    ahead = commands.add_parser("impact", help="show how the reports change if an ingestion or posts are withdrawn")
    ahead.add_argument("ingestion", help="id of the ingestion, or posts: api/CLIENT/DAY or api/CLIENT/FROM/UNTIL")
    ahead.add_argument("--take-back", action="store_true", help="if its withdrawal is undone instead")
    taken = commands.add_parser(
        "adopt", help="go on with the log and the raw history that there are, after one of them or MongoDB was lost"
    )
    taken.add_argument("--dry-run", action="store_true", help="only say what would be lost")
    taken.add_argument("--as-shown", metavar="ID", help="only if what would be lost is what a dry run showed under this id")
    commands.add_parser("publications", help="list the publications")
    commands.add_parser("maintain", parents=[keep], help="compact the raw history and drop what is no longer needed")
    return parser.parse_args(words)


class Outcome(NamedTuple):
    """How a command has ended: the exit status, and the result, which JSON can hold."""

    status: int
    result: Any = None


def execute(words: Sequence[str] | None, of: Settings, spark: SparkSession | None = None) -> Outcome:
    """Runs a command, given as on the command line, in this Spark if there is one. Errors are logged."""
    given = vars(_arguments(of.keep_publications, words))
    command, result_file = given.pop("command"), given.pop("result")
    command = "rebuild" if command == "rollback" else command
    try:
        with ExitStack() as stack:
            database = database_of(stack.enter_context(connect(of.batch_mongodb)), of.database)
            ledger.read(database)
            if command != "publications":
                stack.enter_context(lease(database, BATCH, this_process(command), BATCH_SECONDS))
            act: Callable[..., Any] = getattr(Batch(database, of, spark), command)
            result = act(**given)
    except PERMANENT_ERRORS as reason:
        log.error("%s: %s", command, reason)
        return Outcome(FAILED_PERMANENTLY)
    except Exception as error:
        log.exception("%s failed", command)
        log.error("%s: %s; nothing is lost: run it again", command, str(error).partition("\n")[0] or type(error).__name__)
        return Outcome(FAILED)
    if result_file is not None:
        result_file.write_text(json.dumps(result))
    return Outcome(DONE, result)


def log_to_output() -> None:
    """Logs to standard output, where the task that runs a command reads it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for noisy in ("py4j", "kafka", "pymongo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def main(words: Sequence[str] | None = None) -> int:
    log_to_output()
    return execute(words, settings().with_batch_account()).status


if __name__ == "__main__":
    sys.exit(main())
