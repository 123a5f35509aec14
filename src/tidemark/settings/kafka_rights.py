"""The rights (ACLs) of each program on a Kafka with an authorizer. docs/deploy.md shows them as a table."""

from __future__ import annotations

from collections.abc import Mapping

PEEK_GROUP = "tidemark-peek"  # of the consumer of `make peek`, which joins no group

# The operations on both topics, by program. READ and WRITE imply DESCRIBE.
TOPIC_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "prepare": ("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"),
    "watch": ("DESCRIBE", "DESCRIBE_CONFIGS"),
    "ingest": ("WRITE",),
    "api": ("WRITE",),
    "stream": ("READ", "DESCRIBE_CONFIGS"),
    "batch": ("READ", "DESCRIBE_CONFIGS"),
    "peek": ("READ",),
}
# The operations on consumer groups, by program and group. Nothing else uses a group: the ledger remembers the offsets.
GROUP_RIGHTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"peek": {PEEK_GROUP: ("DESCRIBE",)}}
