"""Verifications of publications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemark.catalog.words import counted
from tidemark.rendering.figures import render_changes

MAX_SHOWN = 10  # differences of each kind in a text


def render_verification(verification: Mapping[str, Any]) -> list[str]:
    """A verification as text: the first differences of each kind, then the totals, and why they may be expected."""
    shown = []
    for kind, named in verification["named"].items():
        shown += [f"{kind} {one['what']}: {one['how']}" for one in named[:MAX_SHOWN]]
        if (more := verification["counts"][kind] - MAX_SHOWN) > 0:
            shown.append(f"and {more:,} more of this kind: see collection verification, document {verification['_id']}")
    total = ", ".join(f"{count:,} {kind}" for kind, count in verification["counts"].items() if count)
    why = "; the rules have changed since the previous publication" if verification.get("rules_changed") else ""
    drift = f"{counted(verification['drift'], 'difference')} ({total}){why}" if total else "no drift"
    shown.append(f"publication {verification['_id']}: {drift}")
    return shown


def render_decision(verification: Mapping[str, Any], exceeded: Sequence[str]) -> str:
    """The basis for the decision whether to publish, as Markdown: figures beside the served ones, exceeded thresholds, drift."""
    drift = "\n".join(render_verification(verification))
    return f"{render_changes(verification['compared'], exceeded)}\n\n```\n{drift}\n```"
