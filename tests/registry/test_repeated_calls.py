"""A call whose answer was lost, or whose read was cut short, can be repeated and has one effect."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry import InMemoryModelStore, ModelRegistry
from registry.testing.faults import Crashed, FaultStore
from registry.testing.plans import Call, Fault, Kind


def test_a_short_read_of_what_an_earlier_try_left_does_not_cost_the_label() -> None:
    store = InMemoryModelStore()

    def dies_at_the_sidecar(call: Call) -> Fault | None:
        return Fault(Kind.CRASH_BEFORE) if call.keys[-1].endswith("metadata.json") else None

    with pytest.raises(Crashed):
        ModelRegistry(store=FaultStore(store, dies_at_the_sidecar)).register("digits", b"weights", idempotency_key="k")

    reads: list[Call] = []

    def reads_half_once(call: Call) -> Fault | None:
        if call.operation != "chunks":
            return None
        reads.append(call)
        return Fault(Kind.SHORT) if len(reads) == 1 else None

    version = ModelRegistry(store=FaultStore(store, reads_half_once)).register(
        "digits", b"weights", idempotency_key="k"
    )
    assert version.version == "v1"


@pytest.mark.parametrize("verb", ["restore", "set_alias", "delete_alias"])
def test_a_verb_whose_answer_was_lost_can_be_repeated(verb: str) -> None:
    models = ModelRegistry(store=InMemoryModelStore())
    for data in (b"1", b"2"):
        models.register("digits", data)
    models.archive("digits", 1)
    models.set_alias("digits", "champion", 1)
    calls: dict[str, Callable[[], object]] = {
        "restore": lambda: models.restore("digits", 1, idempotency_key="k"),
        "set_alias": lambda: models.set_alias("digits", "champion", 2, expect=1, idempotency_key="k"),
        "delete_alias": lambda: models.delete_alias("digits", "champion", idempotency_key="k"),
    }
    calls[verb]()
    records = models.store.list("models/digits/log")
    calls[verb]()
    assert models.store.list("models/digits/log") == records, "it was done once"
