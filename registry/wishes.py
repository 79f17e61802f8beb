"""What callers wish for, as records: a label, or a move. Time and actor are handed in, so that planning stays pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from registry.policy import PromotionPolicy
from registry.stages import ModelStage
from registry.versions import Bump, VersionRef


class Unset:
    """The type of ``UNSET``: an option that was not given, where None is an answer of its own."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


@dataclass(frozen=True, kw_only=True)
class MoveRequest:
    """A wish to move a version; ``now`` is when it was made, ``actor`` who made it."""

    name: str
    version: VersionRef
    stage: ModelStage
    actor: str
    now: datetime
    policy: PromotionPolicy | None = None
    approved_by: str | None = None
    approval: str | None = None
    expect_current: VersionRef | Unset | None = UNSET
    reason: str = ""
    key: str | None = None


@dataclass(frozen=True)
class Wish:
    """A wish for a label: an explicit ``version``, the next one, or the greatest with ``bump`` counted up."""

    name: str
    version: VersionRef | None
    bump: Bump | None
    key: str | None
    actor: str
