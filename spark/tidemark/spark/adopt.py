"""Adoption: the database takes over a raw history, and the reports are rebuilt from all events that it holds.

It is the way back when MongoDB was lost or restored, and when the log no longer reaches back to the stream's offsets but the raw history
does.
"""

from __future__ import annotations

import logging

from pymongo.database import Database
from pyspark.sql import SparkSession

from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import ledger, publications
from tidemark.serving.database import Document
from tidemark.settings import Settings
from tidemark.spark.lake import Lake
from tidemark.spark.land import land
from tidemark.spark.rebuild import rebuild
from tidemark.spark.recompute import Mode, recompute

log = logging.getLogger(__name__)


def adopt(spark: SparkSession, lake: Lake, database: Database[Document], of: Settings, rules: Rules = RULES) -> int:
    """Binds the raw history to this database, lands what is missing, and rebuilds a publication of everything landed; returns its number.

    The stream then continues from there. Can be run again at any time. Raises what land() and rebuild() raise, before anything served is
    changed.
    """
    own, owner = ledger.identity(database), lake.owner()
    if owner != own:
        log.warning("the raw history at %s passes from database %s to this one, %s", lake.url, owner, own)
        lake.claim(own)
    mark = land(spark, lake, own, of)
    draft = publications.draft_at(database, mark, rules.fingerprint())
    recompute(lake, database, draft.number, of, Mode.FULL, rules)
    rebuild(spark, lake, database, draft.number, of, rules)
    return draft.number
