"""One model as a plain table: what a registry must look like to its callers, in the fewest words. No log, no bytes.

Answers are what a caller sees: a label, a stage, or the name of the error that refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

from registry import ModelRegistry, ModelVersion
from registry.testing.verbs import MODEL
from registry.wishes import UNSET

Labels = tuple[str, ...]

UNASKED = "unasked"
"""An ``expect`` that was not given."""

MISSING, STALE, ILLEGAL, TAKEN = (
    "VersionNotFoundError",
    "StaleExpectationError",
    "IllegalTransitionError",
    "VersionExistsError",
)


KEYED = frozenset({"register", "promote", "rollback"})
"""The operations that take an idempotency key here, so that a call may be repeated until it is answered."""


@dataclass(frozen=True)
class Wish:
    """What a client asks for: one of the operations of the table, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class PlainModel:
    """Labels in the order in which they were taken and shown, who stands where, and the way production went.

    That way, ``holders``, is cut by a rollback at the one it returns to.
    """

    taken: Labels = ()
    shown: Labels = ()
    stages: frozenset[tuple[str, str]] = frozenset()
    holders: Labels = ()
    aliases: frozenset[tuple[str, str]] = frozenset()

    @property
    def production(self) -> str | None:
        """Who holds it."""
        return next((label for label, stage in self.stages if stage == "production"), None)

    def stage(self, label: str) -> str:
        """Return where a version stands."""
        return dict(self.stages)[label]

    def do(self, name: str, *arguments: Any) -> tuple[PlainModel, Hashable]:
        """Return the model after an operation, and its answer; the operations are the methods below."""
        after, answer = getattr(self, f"_{name}")(*arguments)
        return after, answer

    def _register(self, label: str | None) -> tuple[PlainModel, Hashable]:
        taken, answer = self._take(label)
        return (self, TAKEN) if answer == TAKEN else taken.do("show", str(answer))

    def _take(self, label: str | None) -> tuple[PlainModel, Hashable]:
        if label is None:
            label = f"v{max((int(one[1:]) for one in self.taken), default=0) + 1}"
        if label in self.taken:
            return self, TAKEN
        return replace(self, taken=(*self.taken, label)), label

    def _show(self, label: str) -> tuple[PlainModel, Hashable]:
        if label in self.shown:
            return self, label
        return replace(self, shown=(*self.shown, label), stages=self.stages | {(label, "development")}), label

    def _promote(self, label: str, expect: str | None) -> tuple[PlainModel, Hashable]:
        if label not in self.shown:
            return self, MISSING
        if expect not in (UNASKED, self.production):
            return self, STALE
        stage = self.stage(label)
        if stage == "production":
            return self, label
        if stage == "archived":
            return self, ILLEGAL
        return self._given(label, (*self.holders, label)), label

    def _rollback(self) -> tuple[PlainModel, Hashable]:
        way = [label for label in self.holders if label != self.production]
        if not way:
            return self, ILLEGAL
        target = way[-1]
        return self._given(target, self.holders[: len(self.holders) - self.holders[::-1].index(target)]), target

    def _archive(self, label: str) -> tuple[PlainModel, Hashable]:
        if label not in self.shown:
            return self, MISSING
        return self._at(label, "archived"), label

    def _restore(self, label: str) -> tuple[PlainModel, Hashable]:
        if label not in self.shown:
            return self, MISSING
        if self.stage(label) != "archived":
            return self, ILLEGAL
        return self._at(label, "development"), label

    def _set_alias(self, alias: str, label: str, expect: str | None) -> tuple[PlainModel, Hashable]:
        now = dict(self.aliases).get(alias)
        if expect not in (UNASKED, now):
            return self, STALE
        if label not in self.shown:
            return self, MISSING
        return replace(self, aliases=frozenset({**dict(self.aliases), alias: label}.items())), label

    def _resolve(self, alias: str) -> tuple[PlainModel, Hashable]:
        return self, dict(self.aliases).get(alias, "InvalidVersionError")

    def _production(self) -> tuple[PlainModel, Hashable]:
        return self, self.production

    def _versions(self) -> tuple[PlainModel, Hashable]:
        return self, tuple((label, self.stage(label)) for label in self.shown)

    def _given(self, label: str, holders: Labels) -> PlainModel:
        before = self.production
        stages = {**dict(self.stages), **({} if before is None else {before: "archived"}), label: "production"}
        return replace(self, stages=frozenset(stages.items()), holders=holders)

    def _at(self, label: str, stage: str) -> PlainModel:
        return replace(self, stages=frozenset({**dict(self.stages), label: stage}.items()))


def ask(registry: ModelRegistry, wish: Wish, key: str) -> Hashable:
    """Return what a registry answers to a wish, in the words of the table.

    Raises:
        ModelwayError: It refuses.
    """
    answer: Hashable = _ASKED[wish.name](registry, key, *wish.arguments)
    return answer


def _expected(label: str | None) -> Any:
    return UNSET if label == UNASKED else label


def _label_of(version: ModelVersion | None) -> str | None:
    return None if version is None else version.version


_ASKED: dict[str, Callable[..., Any]] = {
    "register": lambda r, key, label: r.register(MODEL, key.encode(), version=label, idempotency_key=key).version,
    "promote": lambda r, key, label, expect: (
        r.promote(MODEL, label, "production", expect_current=_expected(expect), idempotency_key=key).version
    ),
    "rollback": lambda r, key: r.rollback(MODEL, idempotency_key=key).version,
    "archive": lambda r, _, label: r.archive(MODEL, label).version,
    "restore": lambda r, _, label: r.restore(MODEL, label).version,
    "set_alias": lambda r, _, alias, label, expect: r.set_alias(MODEL, alias, label, expect=_expected(expect)).version,
    "resolve": lambda r, _, alias: r.get_version(MODEL, alias).version,
    "production": lambda r, _: _label_of(r.get_production_model(MODEL)),
    "versions": lambda r, _: tuple((one.version, str(one.stage)) for one in r.list_versions(MODEL)),
}
