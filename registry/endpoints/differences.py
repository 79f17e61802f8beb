"""Where what really serves differs from what was brought up; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.endpoints.desired import Observed
    from registry.endpoints.target import Look


def differences(observed: Observed, look: Look, shares: Mapping[int, float]) -> list[str]:
    """Return in words where what really serves differs from what was brought up; nothing where it does not.

    Args:
        observed: What was brought up.
        look: What the target says now.
        shares: The share that each version should have, by its ordinal.
    """
    if not look.running:
        return [f"nothing answers at {observed.url}: {look.words or 'it does not run'}"]
    found = []
    # A version that is open and gets nothing was left for the way back.
    split = {number: round(share, 3) for number, share in look.shares.items() if share > 0.0}
    if look.shares and split != {number: round(share, 3) for number, share in shares.items()}:
        found.append(f"the requests are split {_said(split)} and should be {_said(shares)}")
    recorded = {part.digest for part in observed.parts if part.digest}
    served = {digest for number, digest in look.digests.items() if number in shares}
    if recorded and served and served != recorded:
        wanted = ", ".join(sorted(digest[:12] for digest in recorded))
        found.append(f"other bytes are open ({', '.join(sorted(one[:12] for one in served))}) than {wanted}")
    return found


def _said(shares: Mapping[int, float]) -> str:
    return ", ".join(f"{number}: {share:.0%}" for number, share in sorted(shares.items())) or "nowhere"
