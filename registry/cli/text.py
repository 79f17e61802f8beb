"""Text that others wrote, as it may be shown."""

from __future__ import annotations


def plain(text: str) -> str:
    """Return ``text`` with control characters spelled out: a description must not steer the reader's terminal."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
