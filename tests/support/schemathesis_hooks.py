"""Hooks of schemathesis for the API: `SCHEMATHESIS_HOOKS=support.schemathesis_hooks schemathesis run ...`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from support.recompute import recompute

from tidemark.catalog.events import Event
from tidemark.ingest.api.document import CATEGORY, PRODUCT

_TOPICS = {"/AmazonProduct": "ingest-product", "/Category": "ingest-category"}

# The document says date-time; that it must lie between 1995 and tomorrow it can only say in words.
schemathesis.openapi.format(
    "date-time",
    st.datetimes(datetime(1995, 1, 1), datetime(2024, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
        lambda moment: moment.isoformat().replace("+00:00", "Z")
    ),
)

# A record a line: each of these is fit as a product and as a category.
schemathesis.openapi.format(
    "ndjson",
    st.integers(1, 3).map(lambda count: "\n".join(json.dumps({**PRODUCT, **CATEGORY, "reviews": number}) for number in range(count))),
)


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.check
def assert_oracle_agrees(_: Any, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """A record is taken where the oracle takes it, else refused for the oracle's reason."""
    if case.method != "POST" or case.path not in _TOPICS or response.status_code not in (201, 422):
        return
    body = response.request.body
    value = body.encode() if isinstance(body, str) else body or b""
    rejections = recompute([Event(_TOPICS[case.path], 0, 0, time.time_ns() // 1_000_000, None, value)]).rejections
    expected = [reason for _, reason in rejections]
    found = [fault["type"] for fault in response.json()["detail"]] if response.status_code == 422 else []
    assert found == expected, f"{value!r}: {found} instead of {expected}"
