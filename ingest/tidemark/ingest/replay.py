"""`python -m tidemark.ingest.replay`: validates quarantine records again and replays those that are now valid, or discards records."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from confluent_kafka import Producer
from pydantic import ValidationError
from pymongo.errors import PyMongoError

from tidemark.catalog.observations import Reason
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged
from tidemark.ingest.quarantine_jobs import DISCARD, PERMANENT_ERRORS, SEND, discard, preview_run, send
from tidemark.serving import quarantine
from tidemark.serving.database import connect, database_of
from tidemark.serving.lease import Busy
from tidemark.settings import describe_errors, settings
from tidemark.settings.kafka_clients import librdkafka_options

_REPORTED_ERRORS: tuple[type[Exception], ...] = (*PERMANENT_ERRORS, NotAcknowledged, Busy, PyMongoError)

log = logging.getLogger("tidemark.replay")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.ingest.replay",
        description="Validate quarantine records again and replay those that are now valid, or discard records.",
    )
    parser.add_argument("--reason", help=f"only records with this reason: {', '.join(Reason)}")
    parser.add_argument(
        "--file", help=f"only records of this file: its name, path or URL; `{quarantine.BY_API}` for records not from a file"
    )
    parser.add_argument("--since", metavar="MOMENT", help="only records that Kafka received at or after this moment")
    parser.add_argument("--until", metavar="MOMENT", help="only records that Kafka received before this moment")
    parser.add_argument("--preview", action="store_true", help="only show what would happen")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--patch",
        action="append",
        default=[],
        metavar="FIELD=TEXT",
        help="new text for a field that breaks its rule; repeatable",
    )
    what.add_argument("--discard", metavar="WHY", help="discard the records, with a reason")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    given = vars(_arguments(words))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    by = "python -m tidemark.ingest.replay"
    step = SEND if given["discard"] is None else DISCARD
    parameters = {**given, "why": given["discard"], "dry_run": given["preview"], "hold": False}
    try:
        of = settings()
        with connect(of.mongodb) as client:
            database = database_of(client, of.database)
            decision = preview_run(database, parameters, step, of)
            if decision.step is None or decision.preview is None:
                return 0
            mark = decision.preview["mark"]
            if step == DISCARD:
                discard(database, parameters, mark, by, of.airflow_names)
            else:
                configuration = {**librdkafka_options(of), **RECOMMENDED}
                send(database, lambda: Producer(configuration), configuration, parameters, mark, by, of)
    except ValidationError as error:
        for line in describe_errors(error):
            log.error(line)
        return 1
    except _REPORTED_ERRORS as reason:
        log.error("%s", reason)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
