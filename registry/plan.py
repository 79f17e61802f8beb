"""The rules: from a model's state and a request to the one event that grants it, or an error; pure.

Everything is checked here, before anything is written.
"""

from __future__ import annotations

from registry.approvals import check_approvals
from registry.errors import (
    IllegalTransitionError,
    InvalidInputError,
    InvalidVersionError,
    NotFoundError,
    PolicyFailed,
    StaleExpectationError,
    VersionExistsError,
    VersionInUseError,
)
from registry.events import Aliased, Deleted, Moved, Reserved, Restored, RolledBack
from registry.guard import Guard
from registry.names import check_name
from registry.policy import PolicyResult, PromotionPolicy
from registry.stages import ModelStage, check_move
from registry.state import ModelState
from registry.versions import (
    Bump,
    Strategy,
    VersionRef,
    canonical,
    label_of,
    next_number,
    next_semantic,
    strategy_of,
)
from registry.wishes import MoveRequest, Unset, Wish

_STANDS = {
    "reserved": "is being registered by somebody else",
    "registered": "is registered",
    "deleted": "was registered and deleted",
}


def plan_reserve(state: ModelState, wish: Wish, *, record_number: int) -> Reserved | None:
    """Return the event that sets a label aside, None when this idempotency key has one already.

    Args:
        state: The model's state.
        wish: Which label, for which model.
        record_number: The number that the event will have; it names the folder of a label that is used again.

    Raises:
        VersionExistsError: The label is registered, or another registration holds it.
        InvalidVersionError: No version, or one of the strategy that this model does not use.
        InvalidInputError: ``bump`` on a model with automatic numbers, or together with a label.
    """
    if state.recall("reserved", wish.key):
        return None
    label = _label(state, wish)
    found = state.versions.get(canonical(label))
    if found is not None and found.status != "abandoned":
        stands = _STANDS[found.status]
        raise VersionExistsError(
            f"{wish.name}:{found.label} {stands} already; versions are immutable. "
            f"Leave the version out to get the next one."
        )
    # A tilde stands in no label: the folder of "1.0.0-a", used again, is not that of another version.
    folder = label if found is None else f"{label}~r{record_number}"
    return Reserved(
        version=canonical(label), label=label, path=f"versions/{folder}", strategy=strategy_of(label), key=wish.key
    )


def _label(state: ModelState, wish: Wish) -> str:
    name, version, strategy = wish.name, wish.version, state.strategy
    if version is not None:
        if wish.bump is not None:
            raise InvalidInputError(f"{name}: give either a version or a bump, not both.")
        if strategy not in {None, strategy_of(version)}:
            example = "1, 2, 3" if strategy is Strategy.AUTOMATIC else "1.2.0"
            raise InvalidVersionError(
                f"{name} has {strategy} versions ({example}), and {version!r} is none; a model keeps its strategy."
            )
        return label_of(version)
    if wish.bump is not None and strategy is Strategy.AUTOMATIC:
        raise InvalidInputError(
            f"{name} has automatic version numbers, and bump is for semantic versions; leave it out."
        )
    if wish.bump is not None or strategy is Strategy.SEMANTIC:
        return next_semantic(state.versions, wish.bump or Bump.PATCH)
    return next_number(state.versions)


def check_policy(state: ModelState, name: str, version: VersionRef, policy: PromotionPolicy) -> PolicyResult:
    """Hold ``policy`` against a version and the incumbent.

    Raises:
        VersionNotFoundError: There is no such version.
    """
    key = state.find(name, version)
    candidate = state.versions[key].evidence(f"{name}:{state.versions[key].label}")
    if state.production is None or state.production == key:
        return policy.check(candidate, None)
    incumbent = state.versions[state.production]
    return policy.check(candidate, incumbent.evidence(f"{name}:{incumbent.label}"))


def plan_move(state: ModelState, guard: Guard, guard_number: int, request: MoveRequest) -> Moved | None:
    """Return the event that moves a version, None when it stands there already or this key has moved it.

    Raises:
        VersionNotFoundError: There is no such version.
        StaleExpectationError: Production is not held by whom the caller expected.
        IllegalTransitionError: The table of moves does not hold it.
        PolicyFailed: The registry's or the caller's policy does not hold.
        ApprovalRequired: The move needs an approval that is not there or does not fit.
    """
    key = state.find(request.name, request.version)
    if state.recall("moved", request.key):
        return None
    version = state.versions[key]
    _check_expectation(state, request)
    if version.stage is request.stage:
        return None
    full_name = f"{request.name}:{version.label}"
    check_move(full_name, version.stage, request.stage, strict_path=guard.strict_path)
    policy = guard.policy_for(request.stage, request.policy)
    result = check_policy(state, request.name, key, policy)
    if not result.passed:
        raise PolicyFailed(full_name, request.stage, result.failures)
    return Moved(
        version=key,
        from_stage=version.stage,
        to_stage=request.stage,
        demoted=state.production if request.stage is ModelStage.PRODUCTION else None,
        reason=request.reason,
        policy_digest=policy.digest,
        approvals=check_approvals(state, guard, request, key=key, policy_digest=policy.digest),
        guard=guard_number,
        key=request.key,
    )


def _check_expectation(state: ModelState, request: MoveRequest) -> None:
    if isinstance(request.expect_current, Unset):
        return
    expected = None if request.expect_current is None else canonical(request.expect_current)
    if state.production != expected:
        holder = "nothing" if state.production is None else state.versions[state.production].label
        raise StaleExpectationError(
            f"expected {request.expect_current or 'nothing'} to hold production of {request.name}, found {holder}. "
            f"Look at what has changed (`modelway models log {request.name}`), then decide again."
        )


def plan_rollback(
    state: ModelState, name: str, *, version: VersionRef | None, reason: str, key: str | None
) -> RolledBack | None:
    """Return the event that gives production back, None when the version holds it already or this key has done it.

    Args:
        state: The model's state.
        name: The model's name, for messages.
        version: A version that has held production; None for the holder before this one.
        reason: Why; recorded.
        key: The idempotency key.

    Raises:
        VersionNotFoundError: There is no such version.
        IllegalTransitionError: It has never held production, or there was no holder before this one.
    """
    if state.recall("rolled_back", key):
        return None
    target = _holder_before(state, name) if version is None else state.find(name, version)
    if target == state.production:
        return None
    found = state.versions[target]
    if not found.held_production:
        held = [one.label for one in state.registered().values() if one.held_production]
        raise IllegalTransitionError(
            f"{name}:{found.label} has never held production, so there is nothing to roll back to. "
            f"These have: {', '.join(held) or 'none'}. To bring it forward, use promote."
        )
    return RolledBack(version=target, from_stage=found.stage, demoted=state.production, reason=reason, key=key)


def _holder_before(state: ModelState, name: str) -> str:
    way = [key for key in state.holders if key != state.production]
    if not way:
        raise IllegalTransitionError(
            f"{name} has no earlier production version to go back to. `modelway models log {name}` shows its moves."
        )
    return way[-1]


def plan_restore(
    state: ModelState, name: str, version: VersionRef, *, reason: str, key: str | None = None
) -> Restored | None:
    """Return the event that brings an archived version back to development, None when this key has done it.

    Raises:
        IllegalTransitionError: It is not archived.
    """
    if state.recall("restored", key):
        return None
    found = state.find(name, version)
    stands = state.versions[found]
    if stands.stage is not ModelStage.ARCHIVED:
        raise IllegalTransitionError(
            f"{name}:{stands.label} is in {stands.stage}; only archived versions are restored."
        )
    return Restored(version=found, reason=reason, key=key)


def plan_alias(  # noqa: PLR0913 - what a wish for an alias is made of
    state: ModelState,
    name: str,
    alias: str,
    version: VersionRef | None,
    *,
    expect: VersionRef | Unset | None,
    key: str | None = None,
) -> Aliased | None:
    """Return the event that points ``alias`` at ``version``, or takes it away for None.

    None when it points there already, or when this key has pointed it somewhere.

    Raises:
        StaleExpectationError: The alias does not point where the caller expected.
        InvalidNameError: No name for an alias.
    """
    check_name(alias, kind="alias")
    if state.recall("aliased", key):
        return None
    current = state.aliases.get(alias)
    if not isinstance(expect, Unset) and current != (None if expect is None else canonical(expect)):
        raise StaleExpectationError(
            f"expected {name}@{alias} to point at {expect or 'nothing'}, found {current or 'nothing'}."
        )
    if version is None and current is None:
        raise NotFoundError(f"{name} has no alias {alias!r}. It has: {', '.join(sorted(state.aliases)) or 'none'}.")
    target = None if version is None else state.find(name, version)
    return None if target == current else Aliased(alias=alias, version=target, taken_from=current, key=key)


def plan_delete(state: ModelState, name: str, version: VersionRef, *, force: bool, reason: str) -> Deleted | None:
    """Return the event that deletes a version, None when it is deleted already.

    Args:
        state: The model's state.
        name: The model's name, for messages.
        version: Number or label.
        force: Take its aliases away too.
        reason: Why; recorded.

    Raises:
        VersionNotFoundError: There is no such version.
        VersionInUseError: It is in production, or aliases point at it and ``force`` is not set.
    """
    gone = state.versions.get(canonical(version))
    if gone is not None and gone.status == "deleted":
        return None
    key = state.find(name, version)
    full_name = f"{name}:{state.versions[key].label}"
    if state.production == key:
        raise VersionInUseError(
            f"{full_name} is in production and cannot be deleted; nothing was changed. Promote another, or archive it."
        )
    aliases = sorted(alias for alias, target in state.aliases.items() if target == key)
    if aliases and not force:
        raise VersionInUseError(
            f"{full_name} has the alias {' and '.join(aliases)} and was not deleted. Point it elsewhere, or use force."
        )
    return Deleted(version=key, reason=reason)
