"""The verbs that the harnesses disturb: for each one the world that it finds, and what is done in it.

A new verb is one more line in the table. ``do`` is called again after every fault and must then end as if it had been
called once: give it an idempotency key where the verb takes one, and name in ``already`` the refusals by which a verb
without a key says that it is so already.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from registry import Guard, MetricRequirement, ModelRegistry, ModelStage, PromotionPolicy
from registry.errors import IntegrityError
from registry.reports import Finding
from registry.store import InMemoryModelStore
from registry.testing.faults import Crashed, FaultStore
from registry.testing.invariants import without_times
from registry.testing.plans import Call, Fault, Kind, is_replaceable

ACTOR = "ada@example.com"
MODEL = "digits"
KEY = "run-7"
"""The idempotency key of whatever is disturbed; a run gives all its steps one key, and so does this."""

_POLICY = PromotionPolicy(requirements=(MetricRequirement("accuracy", threshold=0.5),))
_ASKED = "asked"


@dataclass(frozen=True)
class Verb:
    """One thing to do to a registry, again and again.

    ``prepare`` makes the world; ``do`` gets a registry and a folder of its own, for files that it takes or makes.
    """

    name: str
    prepare: Callable[[ModelRegistry], object]
    do: Callable[[ModelRegistry, Path], object]
    already: tuple[type[Exception], ...] = ()
    reads: bool = False
    uses_folder: bool = False


def plain(value: object) -> Any:
    """Return what a verb gave as JSON-like values, without what two runs give differently; folders as digests."""
    if isinstance(value, BaseModel):
        return without_times(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(vars(value))
    if isinstance(value, Path):
        # A process that is killed leaves its temporary file behind; whatever reads a folder passes it over.
        files = sorted(path for path in value.rglob("*") if path.is_file() and not path.name.startswith(".tmp-"))
        return {path.relative_to(value).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return without_times(value)


def empty(_registry: ModelRegistry) -> None:
    """Leave the place as it is: nothing was ever written."""


def three_versions(registry: ModelRegistry) -> None:
    """Make three versions, the first of them in production and called champion."""
    for number in (1, 2, 3):
        registry.register(MODEL, b"weights %d" % number, metrics={"accuracy": 0.6 + number / 10})
    registry.promote(MODEL, 1, "production")
    registry.set_alias(MODEL, "champion", 1)


def two_have_held_production(registry: ModelRegistry) -> None:
    """Make three versions, of which the second holds production and the first has held it."""
    three_versions(registry)
    registry.promote(MODEL, 2, "production")


def _aliased_twice(registry: ModelRegistry) -> None:
    three_versions(registry)
    registry.set_alias(MODEL, "canary", 2)


def _semantic(registry: ModelRegistry) -> None:
    registry.register(MODEL, b"weights 1", version="1.4.2")


def _guarded(registry: ModelRegistry) -> None:
    three_versions(registry)
    registry.set_guard(
        Guard(require_approval=(ModelStage.PRODUCTION,), approvers=("*@example.com",), accept_asserted=True)
    )


def _asked(registry: ModelRegistry) -> None:
    _guarded(registry)
    registry.request_approval(MODEL, 2, "production", idempotency_key=_ASKED)


def _approved(registry: ModelRegistry) -> None:
    _asked(registry)
    _answer(registry, "approve")


def _answer(registry: ModelRegistry, decision: Any) -> object:
    return registry.answer_approval(MODEL, _request(registry), decision, approver="bob@example.com", reason="looked")


def _request(registry: ModelRegistry) -> str:
    return registry.request_approval(MODEL, 2, "production", idempotency_key=_ASKED).id


def _just_before_a_checkpoint(registry: ModelRegistry) -> None:
    _long(registry, until=15)


def _two_before_a_checkpoint(registry: ModelRegistry) -> None:
    _long(registry, until=30)


def _after_checkpoints(registry: ModelRegistry) -> None:
    _long(registry, until=41)


def _long(registry: ModelRegistry, *, until: int) -> None:
    three_versions(registry)
    events = len(registry.store.list(f"models/{MODEL}/log"))
    for number in range(events, until):
        registry.annotate(MODEL, 1, tags={"round": str(number)})


def _folder(scratch: Path) -> Path:
    folder = scratch / "trained"
    (folder / "layers").mkdir(parents=True, exist_ok=True)
    for name, data in (("config.json", b"{}"), ("layers/1.bin", b"one" * 40), ("layers/2.bin", b"two" * 40)):
        (folder / name).write_bytes(data)
    return folder


def _register(registry: ModelRegistry, artifact: Any = b"new weights", **more: Any) -> object:
    return registry.register(MODEL, artifact, metrics={"accuracy": 0.95}, tags=["new"], idempotency_key=KEY, **more)


def _register_folder(registry: ModelRegistry, scratch: Path) -> object:
    return _register(registry, _folder(scratch))


def _a_folder_is_there(registry: ModelRegistry) -> None:
    import tempfile

    three_versions(registry)
    with tempfile.TemporaryDirectory() as scratch:
        registry.register(MODEL, _folder(Path(scratch)))


def _promote(registry: ModelRegistry, version: int = 2, stage: str = "production", **more: Any) -> object:
    return registry.promote(MODEL, version, stage, idempotency_key=KEY, reason="better", **more)


def _after_a_crash(registry: ModelRegistry) -> None:
    three_versions(registry)
    dying = FaultStore(registry.store, _dies_at_the_sidecar)
    with contextlib.suppress(Crashed):
        ModelRegistry(store=dying, actor=ACTOR).register(MODEL, b"never seen")


def _dies_at_the_sidecar(call: Call) -> Fault | None:
    return Fault(Kind.CRASH_BEFORE) if call.operation == "create" and "/versions/" in call.keys[0] else None


def _without_projections(registry: ModelRegistry) -> None:
    _after_checkpoints(registry)
    for key in filter(is_replaceable, registry.store.list("")):
        registry.store.delete(key)


def _collected(registry: ModelRegistry) -> None:
    registry.gc(dry_run=False, grace=timedelta(0))  # a second call has less to report than the first


def _rebuilt(registry: ModelRegistry) -> list[str]:
    _raise_first(registry.rebuild().findings)
    return [key for key in registry.store.list("") if is_replaceable(key)]


def _verified(registry: ModelRegistry) -> None:
    _raise_first(registry.verify().findings)


def _raise_first(findings: Iterable[Finding]) -> None:
    for finding in findings:
        raise IntegrityError(finding.file, "what was recorded", finding.problem)


@functools.cache
def _source() -> ModelRegistry:
    """Return the registry that versions are copied from, one for all cases: its id is in what it copies."""
    registry = ModelRegistry(store=InMemoryModelStore(), actor=ACTOR)
    three_versions(registry)
    registry.register(MODEL, b"weights 4")
    return registry


REGISTERING = (
    Verb("register the first of all", empty, lambda r, _: _register(r)),
    Verb("register bytes", three_versions, lambda r, _: _register(r)),
    Verb("register a folder", three_versions, _register_folder, uses_folder=True),
    Verb("register metadata only", three_versions, lambda r, _: _register(r, None)),
    Verb("register a label", three_versions, lambda r, _: _register(r, version=7)),
    Verb("register with bump", _semantic, lambda r, _: _register(r, bump="minor")),
    Verb("register across a checkpoint", _two_before_a_checkpoint, lambda r, _: _register(r)),
)
MOVING = (
    Verb("promote to staging", three_versions, lambda r, _: _promote(r, 2, "staging")),
    Verb("promote to production", three_versions, lambda r, _: _promote(r)),
    Verb("promote with a policy", three_versions, lambda r, _: _promote(r, policy=_POLICY, expect_current=1)),
    Verb("promote with an approval", _approved, lambda r, _: _promote(r, approval=_request(r))),
    Verb("promote with a name", _guarded, lambda r, _: _promote(r, approved_by="bob@example.com")),
    Verb("promote onto a checkpoint", _just_before_a_checkpoint, lambda r, _: _promote(r)),
    Verb("promote after checkpoints", _after_checkpoints, lambda r, _: _promote(r)),
    Verb("rollback", two_have_held_production, lambda r, _: r.rollback(MODEL, idempotency_key=KEY)),
    Verb("rollback to a version", two_have_held_production, lambda r, _: r.rollback(MODEL, 1, idempotency_key=KEY)),
    Verb("archive", three_versions, lambda r, _: r.archive(MODEL, 1, reason="old")),
    Verb(
        "restore",
        two_have_held_production,
        lambda r, _: r.restore(MODEL, 1, reason="again", idempotency_key=KEY),
    ),
)
SAYING = (
    Verb(
        "annotate",
        three_versions,
        lambda r, _: r.annotate(MODEL, 2, description="words", metrics={"f1_score": 0.5}, idempotency_key=KEY),
    ),
    Verb("set an alias", three_versions, lambda r, _: r.set_alias(MODEL, "canary", 2)),
    Verb(
        "set an alias, expecting",
        three_versions,
        lambda r, _: r.set_alias(MODEL, "champion", 2, expect=1, idempotency_key=KEY),
    ),
    Verb("delete an alias", three_versions, lambda r, _: r.delete_alias(MODEL, "champion", idempotency_key=KEY)),
    Verb("set the guard", three_versions, lambda r, _: r.set_guard(Guard(strict_path=True))),
    Verb("set the guard of an empty place", empty, lambda r, _: r.set_guard(Guard(strict_path=True))),
    Verb(
        "request an approval",
        _guarded,
        lambda r, _: r.request_approval(MODEL, 2, "production", idempotency_key=KEY),
    ),
    Verb("approve", _asked, lambda r, _: _answer(r, "approve")),
    Verb("reject", _asked, lambda r, _: _answer(r, "reject")),
)
REMOVING = (
    Verb("delete a version", three_versions, lambda r, _: r.delete_version(MODEL, 2, reason="wrong data")),
    Verb("delete one with its alias", _aliased_twice, lambda r, _: r.delete_version(MODEL, 2, force=True)),
)
KEEPING = (
    Verb("gc", _after_a_crash, lambda r, _: _collected(r)),
    Verb("rebuild", _without_projections, lambda r, _: _rebuilt(r)),
    Verb("copy into an empty place", empty, lambda r, _: _source().copy(MODEL, 2, to=r)),
    Verb("copy beside others", two_have_held_production, lambda r, _: _source().copy(MODEL, 4, to=r)),
)
READING = tuple(
    dataclasses.replace(verb, reads=True)
    for verb in (
        Verb("load", three_versions, lambda r, _: r.load(MODEL)),
        Verb("load by alias", three_versions, lambda r, _: r.load(f"{MODEL}@champion")),
        Verb("download", _a_folder_is_there, lambda r, to: r.download(MODEL, 4, to), uses_folder=True),
        Verb("list models", three_versions, lambda r, _: r.list_models(stage="production")),
        Verb("list versions", _after_checkpoints, lambda r, _: r.list_versions(MODEL)),
        Verb("get the production model", _after_checkpoints, lambda r, _: r.get_production_model(MODEL)),
        Verb("get transitions", two_have_held_production, lambda r, _: r.get_transitions(MODEL)),
        Verb("get the sidecar", three_versions, lambda r, _: r.get_sidecar(MODEL, 2)),
        Verb("copy from", three_versions, lambda r, _: r.copy(MODEL, 2, to=ModelRegistry(store=InMemoryModelStore()))),
        Verb("verify", two_have_held_production, lambda r, _: _verified(r)),
        Verb("check a policy", three_versions, lambda r, _: r.check_promotion_policy(MODEL, 2, _POLICY)),
    )
)
VERBS = (*REGISTERING, *MOVING, *SAYING, *REMOVING, *KEEPING, *READING)
"""All of them, in the order in which they are shown."""
