"""The desired state of the stream."""

from __future__ import annotations

from datetime import datetime


def render_desired_state(paused_by: tuple[str, datetime, str] | None) -> str:
    """`paused_by`: who paused the stream, since when, and why; None if it is to run."""
    return "desired state: running" if paused_by is None else render_pause(*paused_by)


def render_pause(by: str, since: datetime, reason: str) -> str:
    return f"paused by {by} since {since:%Y-%m-%d %H:%M:%S} UTC{f': {reason}' if reason else ''}"
