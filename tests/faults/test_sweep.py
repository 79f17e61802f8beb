"""A short form of ``make faults``: some verbs, every call of theirs, every kind of fault, and a few storms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from registry import FileModelStore, ModelRegistry
from registry.errors import ModelNotFoundError, UnknownOutcomeError
from registry.testing.kills import kill
from registry.testing.sweep import Ground, sweep
from registry.testing.verbs import MODEL, VERBS, Verb, empty, three_versions

SHORTLY = ["promote to production", "restore", "request an approval"]
LONGER = ["register the first of all", "promote onto a checkpoint", "set the guard", "delete a version"]


def named(words: str) -> Verb:
    return next(verb for verb in VERBS if verb.name.startswith(words))


def undisturbed_by(verb: Verb, storms: int) -> int:
    swept = sweep(verb, storms=storms)
    assert swept.violations == []
    assert swept.cases > 5 * swept.calls, "every call must have gone wrong in several ways"
    return swept.cases


@pytest.mark.parametrize("name", SHORTLY)
def test_a_verb_withstands_every_fault_at_every_call(name: str) -> None:
    assert undisturbed_by(named(name), storms=3) > 80


@pytest.mark.heavy
@pytest.mark.parametrize("name", LONGER)
def test_these_withstand_it_too(name: str) -> None:
    assert undisturbed_by(named(name), storms=5) > 100


@pytest.mark.heavy  # each case fills a folder anew, and fsyncs it
def test_a_verb_withstands_it_on_local_disk(tmp_path: Path) -> None:
    places = iter(range(10_000))
    ground = Ground(new_store=lambda: FileModelStore(tmp_path / str(next(places))))
    assert sweep(named("check a policy"), ground).violations == []


def test_names_of_verbs_are_each_used_once() -> None:
    assert len({verb.name for verb in VERBS}) == len(VERBS)


Do = Callable[[ModelRegistry, Path], object]


def _twice(registry: ModelRegistry, _to: Path) -> object:
    return registry.annotate(MODEL, 1, tags={"seen": str(len(registry.get_version(MODEL, 1).tags))})


def _swallows(registry: ModelRegistry, _to: Path) -> object:
    try:
        return registry.list_models()
    except BaseException:  # noqa: BLE001 - the sin that is to be found
        return []


def _confuses(registry: ModelRegistry, _to: Path) -> object:
    try:
        return registry.list_models()
    except Exception:  # noqa: BLE001 - as above
        raise ModelNotFoundError(MODEL) from None


def _claims(registry: ModelRegistry, _to: Path) -> object:
    try:
        return registry.list_models()
    except Exception as error:
        raise UnknownOutcomeError("a write was sent") from error


def _writes(registry: ModelRegistry, _to: Path) -> object:
    registry.store.replace("somewhere", b"")
    return registry.list_models()


SINS: dict[str, tuple[Do, str]] = {
    "does it twice": (_twice, "entries; too much"),
    "survives its death": (_swallows, "the process died, and went on to"),
    "takes no answer for an empty one": (_swallows, "gave [], and an undisturbed run gives ['digits']"),
    "takes no answer for not found": (_confuses, "a failure of the storage became not found"),
    "calls an outcome unknown that is known": (_claims, "no write was sent, and the outcome is called unknown"),
    "writes while it reads": (_writes, "a verb that only reads has written"),
}


@pytest.mark.parametrize("sin", SINS)
def test_the_sweep_finds_a_verb_that(sin: str) -> None:
    do, words = SINS[sin]
    found = sweep(Verb(sin, three_versions, do, reads=do is not _twice)).violations
    assert any(words in violation for violation in found), found[:3]


def test_a_storm_is_the_same_again() -> None:
    def storms() -> list[str]:
        return sweep(Verb("does it twice", three_versions, _twice), storms=5).violations

    assert [line for line in storms() if "storm" in line] == [line for line in storms() if "storm" in line] != []


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["register metadata only", "promote to production"])
def test_a_verb_withstands_sigkill_at_every_call_and_step(name: str) -> None:
    swept = kill(named(name))
    assert swept.violations == []
    assert swept.cases > 3 * swept.calls, "a store call takes several steps, and a child must have died at each"


def test_sigkill_finds_a_store_that_writes_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(self: FileModelStore, key: str, data: bytes) -> None:
        target = self.local_path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(data)

    monkeypatch.setattr(FileModelStore, "create", in_place)
    found = kill(Verb("annotate", three_versions, lambda r, _: r.annotate(MODEL, 1, tags=["x"]))).violations
    assert any("killed at step" in violation and "nothing readable" in violation for violation in found), found


def test_sigkill_finds_a_verb_that_does_it_twice() -> None:
    assert kill(Verb("does it twice", three_versions, _twice)).violations != []


def test_a_child_that_fails_by_itself_is_no_death_that_was_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    def falls_over_itself(registry: ModelRegistry, _to: Path) -> object:
        if type(registry.store) is not FileModelStore:
            raise ZeroDivisionError("in the child")
        return registry.list_models()

    with pytest.raises(RuntimeError, match="ended with status"):
        kill(Verb("falls over itself", empty, falls_over_itself))
    assert "ZeroDivisionError: in the child" in capfd.readouterr().err
