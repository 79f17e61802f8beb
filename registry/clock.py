"""The time: aware, in UTC, at one place."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time, aware, in UTC, to the microsecond."""
    return datetime.now(UTC)


def minute(moment: datetime, *, zone: bool = True) -> str:
    """Return a time in UTC for people, to the minute; without the ``zone`` where a heading names it."""
    return f"{moment:%Y-%m-%d %H:%M}{' UTC' if zone else ''}"
