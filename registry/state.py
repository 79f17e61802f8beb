"""A model's state machine: what its events mean; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from pydantic import ConfigDict, Field

from registry.base import StoredRecord
from registry.errors import VersionNotFoundError
from registry.events import (
    Aliased,
    Annotated_,
    ApprovalAsked,
    Moved,
    Reserved,
    Restored,
    RolledBack,
    VariantChosen,
)
from registry.records import Approval, ApprovalRequest, RefusedAnswer, Run
from registry.version_state import Versions, VersionState
from registry.versions import Strategy, VersionRef, canonical

LONGEST_WAY = 100
"""Promotions that can be gone back through one by one; the log has all of them."""

MOST_RUNS = 100
"""Runs that are remembered after they have ended; the log has all of them."""

_Keyed: TypeAlias = Reserved | Moved | RolledBack | Restored | Annotated_ | Aliased | ApprovalAsked | VariantChosen


class Asked(StoredRecord):
    """A request for approval, the answers to it, and those that did not count."""

    request: ApprovalRequest
    answers: tuple[Approval, ...] = ()
    refused: tuple[RefusedAnswer, ...] = ()

    @property
    def heard(self) -> int:
        """How often somebody has answered so far, whether it counted or not."""
        return len(self.answers) + len(self.refused)


class ModelState(StoredRecord):
    """A model as its log says.

    ``holders`` is the way that production went, newest last, as far back as ``LONGEST_WAY``; ``guard`` the record of
    the registry's own log that set what this model is held to, as far as the model's log was told.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    strategy: Strategy | None = None
    production: str | None = None
    holders: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    asked: dict[str, Asked] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)
    runs: dict[str, Run] = Field(default_factory=dict)
    guard: int = 0
    versions: Versions = Field(default_factory=Versions, exclude=True)

    def newest_first(self) -> Iterator[tuple[str, VersionState]]:
        """Yield the versions that readers may see with their canonical labels, the last registered first."""
        for key in reversed(self.versions):
            version = self.versions[key]
            if version.status == "registered":
                yield key, version

    def registered(self) -> dict[str, VersionState]:
        """Return the versions that readers may see by canonical label, in order of registration."""
        self.versions.parse_all()
        return {key: version for key, version in self.versions.items() if version.status == "registered"}

    def latest(self) -> str | None:
        """Return the canonical label of the version that was registered last."""
        return next((key for key, _ in self.newest_first()), None)

    def find(self, name: str, version: VersionRef) -> str:
        """Return the canonical label of a registered version, asked for by label or alias.

        Raises:
            VersionNotFoundError: There is none.
            InvalidVersionError: It is neither an alias nor a version label.
        """
        if isinstance(version, str) and (key := self.aliases.get(version)):
            return key
        key = canonical(version)
        found = self.versions.get(key)
        if found is None or found.status != "registered":
            raise VersionNotFoundError(name, str(version), [one.label for one in self.registered().values()])
        return key

    def with_version(self, key: str, **changes: Any) -> ModelState:
        """Return this state with one version changed."""
        return self.having(key, self.versions[key].model_copy(update=changes))

    def having(self, key: str, version: VersionState, *, last: bool = False) -> ModelState:
        """Return this state with one version put in; at the end of the order if ``last``."""
        return self.model_copy(update={"versions": self.versions.with_one(key, version, last=last)})

    def recall(self, event_type: str, key: str | None) -> str | None:
        """Return what the event of this type with this idempotency key was about; None where there was none.

        Each type has its own: a run may give all its steps one key, and no step is taken for another's.
        """
        return None if key is None else self.keys.get(f"{event_type} {key}")

    def with_key(self, event: _Keyed, about: str) -> ModelState:
        """Return this state with an idempotency key remembered, if there is one."""
        if event.key is None:
            return self
        return self.model_copy(update={"keys": {**self.keys, f"{event.type} {event.key}": about}})
