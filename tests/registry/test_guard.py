"""What every client is held to: kept at the registry's root, loosened by nobody's configuration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest

from registry import (
    Guard,
    MetricRequirement,
    ModelRegistry,
    ModelStage,
    ModelStore,
    PromotionPolicy,
    RegistryConfig,
)
from registry.errors import ApprovalRequired, IntegrityError, InvalidInputError, ModelNotFoundError, StoreError

NothingChanges: TypeAlias = Callable[[], AbstractContextManager[None]]

GRACE = "grace@example.com"
LISTED = Guard(require_approval=(ModelStage.PRODUCTION,), approvers=("*@example.com",), accept_asserted=True)


@pytest.fixture
def guarded(models: ModelRegistry) -> ModelRegistry:
    """Return a registry with one version, where production needs the word of somebody at example.com."""
    models.set_guard(LISTED)
    models.register("digits")
    return models


def test_without_a_guard_nothing_needs_approval(models: ModelRegistry) -> None:
    models.register("digits")

    assert models.guard == Guard()
    assert models.promote("digits", 1, "production").stage is ModelStage.PRODUCTION


def test_a_guarded_move_needs_an_approval(guarded: ModelRegistry, nothing_changes: NothingChanges) -> None:
    with nothing_changes():
        for promote in (guarded.promote, guarded.transition_stage, guarded.promote_model):
            with pytest.raises(
                ApprovalRequired, match=r"digits:v1 needs an approval to move to production.*--approved-by NAME"
            ) as caught:
                promote("digits", 1, "production")
    assert caught.value.exit_code == 4
    assert guarded.promote("digits", 1, "staging").stage is ModelStage.STAGING, "only production is guarded"


def test_the_word_of_a_listed_person_is_taken_and_recorded_as_asserted(guarded: ModelRegistry) -> None:
    promoted = guarded.promote("digits", 1, "production", approved_by="Grace@Example.com", reason="looks good")

    (approval,) = promoted.approvals
    assert (approval.approver, approval.method, approval.decision) == ("Grace@Example.com", "asserted", "approve")
    assert approval.reason == "looks good"
    assert guarded.get_transitions("digits")[0].approval == approval


@pytest.mark.parametrize(
    ("approved_by", "message"),
    [
        ("eve@example.org", r"'eve@example.org' is no approver for production.*Listed: \*@example.com"),
        ("ada@example.com", "nobody approves their own request here"),
        ("ADA@example.com", "nobody approves their own request here"),
        (" ada@example.com ", "nobody approves their own request here"),
    ],
)
def test_a_word_that_does_not_count_is_refused(
    guarded: ModelRegistry, nothing_changes: NothingChanges, approved_by: str, message: str
) -> None:
    with nothing_changes(), pytest.raises(ApprovalRequired, match=message):
        guarded.promote("digits", 1, "production", approved_by=approved_by)


@pytest.mark.parametrize("approved_by", ["", "  "])
def test_an_empty_name_is_no_approval_even_where_everybody_may_approve(
    guarded: ModelRegistry, nothing_changes: NothingChanges, approved_by: str
) -> None:
    guarded.set_guard(LISTED.model_copy(update={"approvers": ("*",)}))

    with nothing_changes(), pytest.raises(InvalidInputError, match="approved_by is empty"):
        guarded.promote("digits", 1, "production", approved_by=approved_by)


def test_a_typed_in_name_is_not_taken_where_the_registry_takes_none(
    guarded: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    guarded.set_guard(LISTED.model_copy(update={"accept_asserted": False}))
    request = guarded.request_approval("digits", 1, "production")

    with nothing_changes():
        with pytest.raises(ApprovalRequired, match="is only a typed-in name, and this registry takes no asserted"):
            guarded.promote("digits", 1, "production", approved_by=GRACE)
        for method in ("asserted", "form"):
            with pytest.raises(ApprovalRequired, match="is only a typed-in name"):
                guarded.answer_approval("digits", request.id, "approve", approver=GRACE, method=method)
        with pytest.raises(ApprovalRequired, match="has no signature"):
            guarded.answer_approval("digits", request.id, "approve", approver=GRACE, method="signature")


def test_nobody_listed_is_nobody(guarded: ModelRegistry, nothing_changes: NothingChanges) -> None:
    guarded.set_guard(LISTED.model_copy(update={"approvers": ()}))

    with nothing_changes(), pytest.raises(ApprovalRequired, match="Listed: nobody"):
        guarded.promote("digits", 1, "production", approved_by=GRACE)


def test_self_approval_is_the_registrys_to_allow(guarded: ModelRegistry) -> None:
    guarded.set_guard(LISTED.model_copy(update={"allow_self_approval": True}))

    assert guarded.promote("digits", 1, "production", approved_by="ada@example.com").stage is ModelStage.PRODUCTION


@pytest.mark.usefixtures("guarded")
def test_no_client_loosens_the_guard(
    store: ModelStore, nothing_changes: NothingChanges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_ACTOR", GRACE)
    clients = [
        ModelRegistry(store=store),
        ModelRegistry(store=store, config=RegistryConfig()),
        ModelRegistry(store=store, actor="root"),
    ]

    with nothing_changes():
        for client in clients:
            assert client.guard == LISTED
            assert client.set_guard(Guard(), only_if_unset=True) == LISTED
            with pytest.raises(ApprovalRequired):
                client.promote("digits", 1, "production", policy=PromotionPolicy())
            with pytest.raises(ApprovalRequired):
                client.promote("digits", 1, "production", expect_current=None, reason="urgent", actor="root")


def test_a_guard_that_is_tightened_holds_at_once_for_objects_that_were_there(
    models: ModelRegistry, store: ModelStore, nothing_changes: NothingChanges
) -> None:
    models.register("digits")
    other = ModelRegistry(store=store)
    assert other.guard == Guard()
    models.set_guard(LISTED)

    with nothing_changes(), pytest.raises(ApprovalRequired):
        other.promote("digits", 1, "production")


def test_settings_survive_and_a_change_is_an_event(guarded: ModelRegistry, store: ModelStore) -> None:
    before = len(store.list("log"))
    assert guarded.set_guard(LISTED) == LISTED
    assert len(store.list("log")) == before, "what is so already is not said again"

    strict = LISTED.model_copy(update={"strict_path": True})
    guarded.set_guard(strict, actor=GRACE)

    assert ModelRegistry(store=store).guard == strict
    assert len(store.list("log")) == before + 1
    for number in range(20):
        guarded.register(f"model-{number}")
    assert ModelRegistry(store=store).guard == strict, "lost on the way through a checkpoint"


def test_a_guard_with_policies_survives(models: ModelRegistry, store: ModelStore) -> None:
    policy = PromotionPolicy().require_metric(MetricRequirement("accuracy", threshold=0.9))
    words: dict[str, Any] = {"require_approval": ["prod"], "policies": {"Staging": policy.model_dump(mode="json")}}
    guard = Guard.model_validate(words)

    models.set_guard(guard)
    for number in range(20):
        models.register(f"model-{number}")

    assert ModelRegistry(store=store).guard == guard
    assert guard.policies == {ModelStage.STAGING: policy}
    assert guard.require_approval == (ModelStage.PRODUCTION,)


@pytest.mark.parametrize("given", [{"prod", "staging"}, ["staging", "PROD"], (ModelStage.STAGING, "production")])
def test_stages_are_given_as_people_write_them_in_any_order(given: Any) -> None:
    assert Guard(require_approval=given).require_approval == (ModelStage.PRODUCTION, ModelStage.STAGING)


def test_a_misspelt_setting_is_refused_because_it_would_guard_nothing(
    models: ModelRegistry, nothing_changes: NothingChanges
) -> None:
    guard = Guard.model_validate({"require_aproval": ["production"]})

    with (
        nothing_changes(),
        pytest.raises(InvalidInputError, match=r"a guard has no require_aproval.*it has: require_approval"),
    ):
        models.set_guard(guard)


def test_a_client_that_has_read_before_cannot_promote_by_the_guard_it_knew(store: ModelStore) -> None:
    mine, other = ModelRegistry(store=store, actor="ada"), ModelRegistry(store=store, actor="bob")
    for number in (1, 2):
        mine.register("digits", b"model %d" % number)
    mine.promote("digits", 1, "production")

    other.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,)))

    with pytest.raises(ApprovalRequired):
        mine.promote("digits", 2, "production")
    production = mine.get_production_model("digits")
    assert production is not None
    assert production.version == "v1"


def test_a_client_that_knows_the_guard_and_not_the_model_cannot_promote_by_the_guard_it_knew(store: ModelStore) -> None:
    mine, other = ModelRegistry(store=store, actor="ada"), ModelRegistry(store=store, actor="bob")
    with pytest.raises(ModelNotFoundError):
        mine.promote("digits", 1, "production")
    other.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,)))
    other.register("digits", b"model")

    with pytest.raises(ApprovalRequired):
        mine.promote("digits", 1, "production")


def test_setting_the_guard_again_tells_the_models_that_a_first_try_did_not_reach(store: ModelStore) -> None:
    models = ModelRegistry(store=store, actor="ada")
    for name in ("digits", "faces"):
        models.register(name, b"model")
    tell = models._append  # noqa: SLF001 - to die between two models

    def die(*_arguments: object, **_options: object) -> None:
        raise StoreError("the storage went away")

    models._append = die  # type: ignore[method-assign, assignment] # noqa: SLF001
    with pytest.raises(StoreError):
        models.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,)))
    models._append = tell  # type: ignore[method-assign] # noqa: SLF001

    models.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,)))

    told = {name: models._read(name).state.guard for name in ("digits", "faces")}  # noqa: SLF001 - what the logs say
    assert set(told.values()) == {1 + len(told)}, "the guard is the record after the two names"


def test_a_registry_whose_own_log_has_lost_its_guard_promotes_nothing(store: ModelStore) -> None:
    models = ModelRegistry(store=store, actor="ada")
    models.register("digits", b"model")
    models.set_guard(Guard(require_approval=(ModelStage.PRODUCTION,)))
    store.delete("log/000000000002.json")

    with pytest.raises(IntegrityError, match="expected the guard of its record 2, as the log of digits has it"):
        ModelRegistry(store=store).promote("digits", 1, "production")
