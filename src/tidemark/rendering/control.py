"""The desired state of the stream."""

from __future__ import annotations

from datetime import datetime


def render_pause(by: str, since: datetime, reason: str) -> str:
    return f"paused by {by} since {since:%Y-%m-%d %H:%M:%S} UTC{f': {reason}' if reason else ''}"
