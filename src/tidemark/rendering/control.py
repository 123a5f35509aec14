"""The desired state of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tidemark.catalog.words import counted

SHOWN = 3  # sources of new cells in a text


def render_pause(by: str, since: datetime, reason: str) -> str:
    return f"paused by {by} since {since:%Y-%m-%d %H:%M:%S} UTC{f': {reason}' if reason else ''}"


Sources = Sequence[tuple[str | None, str, int]]  # ingestion (None: the HTTP API), file name and number of new cells, the most first


def render_hold(batch: int, cells: int, limit: int, sources: Sources, stream_dag: str, withdraw_dag: str) -> str:
    """Why a micro-batch waits to be accepted, and what to do, with the names of the DAGs."""
    return (
        f"micro-batch {batch} would add {counted(cells, 'new cell')} to the reports, more than TIDEMARK_MAX_NEW_CELLS allows ({limit:,}): "
        f"{_brought(sources, withdraw_dag)}"
        f"If it is right, accept it with make resume ACCEPT={cells}, or with DAG {stream_dag}"
    )


def render_full(batch: int, cells: int, limit: int, sources: Sources, stream_dag: str, withdraw_dag: str) -> str:
    """Why a micro-batch cannot be accepted, and what to do."""
    return (
        f"micro-batch {batch} would bring the reports to {counted(cells, 'cell')}, more than TIDEMARK_MAX_CELLS allows ({limit:,}). "
        f"New ones: {_brought(sources, withdraw_dag)}"
        "If it is right, raise TIDEMARK_MAX_CELLS, for which MongoDB needs 1 GB of cache for each 50,000 cells. Then resume the stream "
        f"with make resume, or with DAG {stream_dag}"
    )


def _brought(sources: Sources, withdraw_dag: str) -> str:
    brought = [f"{count:,} from {_source(ingestion, file)}" for ingestion, file, count in sources[:SHOWN]]
    more = [f"{counted(len(sources) - SHOWN, 'more source')}"] if len(sources) > SHOWN else []
    withdraw = f"If a file is wrong, withdraw it with DAG {withdraw_dag}: the stream then goes on without it. "
    return f"{', '.join([*brought, *more])}. Nothing of it is served yet. {withdraw if any(one for one, *_ in sources) else ''}"


def _source(ingestion: str | None, file: str) -> str:
    if ingestion is None:
        return "the HTTP API"
    return f"{file} (ingestion {ingestion})" if file else f"ingestion {ingestion}"
