"""The stages of a version's life and the table of moves between them; pure."""

from __future__ import annotations

from registry.base import Word
from registry.errors import IllegalTransitionError, InvalidInputError, InvalidStageError


class ModelStage(Word):
    """Where a version stands; read without regard to case, with ``dev``, ``stage`` and ``prod`` as short forms."""

    DEVELOPMENT = "development"
    VALIDATION = "validation"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"

    @classmethod
    def short_forms(cls) -> dict[str, str]:
        """Return the spellings that people use beside the full words."""
        return {"dev": "development", "valid": "validation", "stage": "staging", "prod": "production"}

    @classmethod
    def _unknown(cls, text: str) -> InvalidInputError:
        return InvalidStageError(f"{text!r} is no stage; the stages are: {', '.join(cls)}.")


FORWARD = (ModelStage.DEVELOPMENT, ModelStage.VALIDATION, ModelStage.STAGING, ModelStage.PRODUCTION)
"""The way to production. A version moves along it, never back; ``archived`` can be reached from anywhere."""


def moves_from(stage: ModelStage, *, strict_path: bool = False) -> tuple[ModelStage, ...]:
    """Return the stages that ``promote`` may move a version to from ``stage``.

    Args:
        stage: Where the version stands.
        strict_path: Allow only the next stage of the way, or ``archived``.
    """
    if stage is ModelStage.ARCHIVED:
        return ()
    ahead = FORWARD[FORWARD.index(stage) + 1 :]
    return (*(ahead[:1] if strict_path else ahead), ModelStage.ARCHIVED)


def check_move(full_name: str, start: ModelStage, target: ModelStage, *, strict_path: bool = False) -> None:
    """Refuse a move that the table does not hold.

    Raises:
        IllegalTransitionError: The move goes backward, skips a stage under ``strict_path``, or leaves ``archived``.
    """
    allowed = moves_from(start, strict_path=strict_path)
    if target in allowed:
        return
    if start is ModelStage.ARCHIVED:
        mend = "Use restore to bring it back to development, or rollback if it has held production."
    else:
        mend = f"From there it can move to: {', '.join(allowed)}."
        if start is ModelStage.PRODUCTION and target is not ModelStage.PRODUCTION:
            mend += " To go back to the version that held production before, use rollback."
    raise IllegalTransitionError(f"{full_name} is in {start} and cannot move to {target}. {mend}")
