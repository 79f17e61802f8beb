"""The registry's own log: the settings that guard production, and the model names that are taken; pure."""

from __future__ import annotations

import fnmatch
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, field_validator

from registry.base import StoredRecord
from registry.encoding import canonical_json
from registry.errors import InvalidNameError
from registry.log.record import LogRecord
from registry.names import check_name, look_alike
from registry.policy import PromotionPolicy
from registry.signing import check_public
from registry.stages import ModelStage

PublicKey = Annotated[str, AfterValidator(check_public)]


class Guard(StoredRecord):
    """What every client is held to; stored at the registry's root, changed by an event, loosened by no client.

    ``approvers`` are shell patterns (``*@example.com``); an empty list lists nobody. ``accept_asserted`` takes a name
    that was only typed in, by option or form, as an approval; without it an approval is a signature by the key that
    ``signers`` has for the approver (``ed25519:`` and the base64 of 32 bytes). ``min_approvals`` is how many people
    must say yes, 1 or more. With ``signed_engines`` an engine, which is code, is opened only if one of ``signers`` has
    signed it.
    """

    require_approval: tuple[ModelStage, ...] = ()
    approvers: tuple[str, ...] = ()
    accept_asserted: bool = False
    allow_self_approval: bool = False
    min_approvals: Annotated[int, Field(ge=1)] = 1
    signers: dict[str, PublicKey] = Field(default_factory=dict)
    signed_engines: bool = False
    strict_path: bool = False
    policies: dict[ModelStage, PromotionPolicy] = Field(default_factory=dict)

    # YAML gives lists of words, callers give sets; the order of neither means anything.
    @field_validator("approvers", mode="before")
    @classmethod
    def _sequences(cls, value: object) -> object:
        return tuple(sorted(value)) if isinstance(value, list | set | frozenset | tuple) else value

    @field_validator("require_approval", mode="before")
    @classmethod
    def _stages(cls, value: object) -> object:
        if not isinstance(value, list | set | frozenset | tuple):
            return value
        return tuple(sorted(ModelStage.parse(word) for word in value))

    @field_validator("policies", mode="before")
    @classmethod
    def _policies_by_stage(cls, value: object) -> object:
        return {ModelStage.parse(word): policy for word, policy in value.items()} if isinstance(value, dict) else value

    def lists(self, approver: str) -> bool:
        """Return whether ``approver`` matches one of the patterns, without regard to case."""
        return any(fnmatch.fnmatchcase(approver.strip().lower(), pattern.lower()) for pattern in self.approvers)

    def key_of(self, approver: str) -> str | None:
        """Return the public key of ``approver``, without regard to case; None where there is none."""
        return next((key for name, key in self.signers.items() if same_person(name, approver)), None)

    def policy_for(self, stage: ModelStage, extra: PromotionPolicy | None) -> PromotionPolicy:
        """Return the registry's policy for ``stage`` together with the caller's: both must hold."""
        own, extra = self.policies.get(stage, PromotionPolicy()), extra or PromotionPolicy()
        return PromotionPolicy(
            requirements=tuple(dict.fromkeys((*own.requirements, *extra.requirements))),
            against_incumbent=tuple(dict.fromkeys((*own.against_incumbent, *extra.against_incumbent))),
        )


def same_person(name: str, other: str) -> bool:
    """Return whether two names mean one person: a capital letter or a space around makes nobody somebody else."""
    return name.strip().casefold() == other.strip().casefold()


class GuardSet(StoredRecord):
    """The guard was set."""

    type: Literal["guard_set"] = "guard_set"
    guard: Guard


class ModelNamed(StoredRecord):
    """A model's name was taken."""

    type: Literal["model_named"] = "model_named"
    model: str


class EndpointNamed(StoredRecord):
    """An endpoint's name was taken."""

    type: Literal["endpoint_named"] = "endpoint_named"
    endpoint: str


RootEvent = Annotated[GuardSet | ModelNamed | EndpointNamed, Field(discriminator="type")]
_EVENTS: TypeAdapter[Any] = TypeAdapter(RootEvent)


class RootState(StoredRecord):
    """The registry as its own log says; ``guard_number`` is the record that set the guard, 0 for none yet."""

    guard: Guard = Field(default_factory=Guard)
    guard_number: int = 0
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()


class RootMachine:
    """The machine that the registry's own log is folded with."""

    name = "root/3"

    def initial(self) -> RootState:
        """Return a registry without models, guarded by nothing."""
        return RootState()

    def dump(self, state: RootState) -> bytes:
        """Return a state as the JSON that a checkpoint holds."""
        return state.model_dump_json().encode()

    def load(self, state: bytes) -> RootState:
        """Return the state that a checkpoint holds."""
        return RootState.model_validate_json(state)

    def parse(self, event: dict[str, Any]) -> RootEvent:
        """Return the event that a record holds."""
        return _EVENTS.validate_json(canonical_json(event))  # type: ignore[no-any-return]

    def fold(self, state: RootState, event: RootEvent, record: LogRecord) -> RootState:
        """Return the state after ``event``."""
        if isinstance(event, GuardSet):
            return state.model_copy(update={"guard": event.guard, "guard_number": record.number})
        if isinstance(event, EndpointNamed):
            return state.model_copy(update={"endpoints": (*state.endpoints, event.endpoint)})
        return state.model_copy(update={"models": (*state.models, event.model)})


def plan_name(state: RootState, name: str) -> ModelNamed | None:
    """Return the event that takes ``name``, None if it is taken already.

    Raises:
        InvalidNameError: Outside the grammar, or alike but for ``-`` and ``_`` to one that is taken.
    """
    if name in state.models:
        return None
    check_name(name)
    if other := look_alike(name, state.models):
        raise InvalidNameError(
            f"{name!r} would be mistaken for {other!r}, which exists; use that name or a different one."
        )
    return ModelNamed(model=name)
