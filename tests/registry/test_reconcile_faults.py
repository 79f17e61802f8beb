"""A deployment with every fault of the storage at each of its calls: nobody is left unanswered, and it converges."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from multiplying import SAMPLES, factor_at, register_versions

from registry import InMemoryModelStore, ModelRegistry
from registry.endpoints.client import InferenceClient
from registry.errors import ModelwayError
from registry.testing.faults import Crashed, FaultStore
from registry.testing.invariants import problems
from registry.testing.plans import WRITES, Call, Fault, Kind, applies, never
from registry.testing.sweep import hurried

VERSIONS = ("1", "2")
Place = tuple[str, tuple[str, ...]]
_OF_WRITES = (
    Kind.ERROR_AFTER, Kind.OUTAGE_BEFORE, Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.TORN,
    Kind.DELAYED,
)  # fmt: skip
_OF_READS = (Kind.CRASH_BEFORE,)
"""The kinds that leave a deployment at another place; those that the log absorbs are left to the sweep of all verbs."""


@pytest.fixture
def world() -> Iterator[InMemoryModelStore]:
    """Return a registry in memory whose endpoint ``main`` serves v1 in a real process, which is ended."""
    store = InMemoryModelStore()
    models = ModelRegistry(store=store)
    register_versions(models, 2)
    models.deploy_model("times", 1, endpoint_name="main", pin=True)
    yield store
    ModelRegistry(store=store).stop_endpoint("main")


@contextmanager
def asked_all_the_time(url: str) -> Iterator[list[str]]:
    """Ask an endpoint without a pause, and give the list of what went wrong."""
    wrong: list[str] = []
    done = threading.Event()

    def ask() -> None:
        with InferenceClient(url) as client:
            while not done.is_set():
                try:
                    factor = float((client.infer("times", {"x": SAMPLES})["y"] / SAMPLES).mean())
                    if round(factor) not in {2, 3}:
                        wrong.append(f"it answered {factor}")
                except ModelwayError as error:
                    wrong.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield wrong
    finally:
        done.set()
        asking.join(30)


def _place(call: Call) -> Place:
    """Return what a call is for; numbers of records and versions, which grow from case to case, are left out."""
    return call.operation, tuple(re.sub(r"[0-9a-f]{12,}|[0-9]+", "#", key) for key in call.keys)


def _places(store: InMemoryModelStore, version: str) -> list[tuple[Place, int]]:
    """Return what a deployment asks of the storage, each with how often it had been asked before."""
    faulty = FaultStore(store)
    ModelRegistry(store=faulty).deploy_model("times", version, endpoint_name="main", pin=True)
    seen: Counter[Place] = Counter()
    found = []
    for call in faulty.calls:
        found.append((_place(call), seen[_place(call)]))
        seen[_place(call)] += 1
    return found


def _attempt(store: InMemoryModelStore, version: str, place: Place, nth: int, kind: Kind) -> Fault | None:
    """Deploy a version while one call goes wrong, and return what went wrong; the process that did it is gone then."""
    before: Counter[Place] = Counter()

    def plan(call: Call) -> Fault | None:
        here = _place(call)
        before[here] += 1
        return Fault(kind) if (here, before[here] - 1) == (place, nth) and applies(kind, call) else None

    faulty = FaultStore(store, plan)
    with suppress(ModelwayError, Crashed):
        ModelRegistry(store=faulty).deploy_model("times", version, endpoint_name="main", pin=True)
    met = faulty.injected
    faulty.arm(never)
    faulty.arrive()
    return met


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_every_fault_at_every_call_of_a_deployment_converges_without_a_failed_request(
    world: InMemoryModelStore,
) -> None:
    url = ModelRegistry(store=world).get_endpoint("main").url
    assert url is not None
    cases, met, seen = 0, set(), set()
    with hurried(), asked_all_the_time(url) as wrong:
        for place, nth in _places(world, "2"):
            for kind in _OF_WRITES if place[0] in WRITES else _OF_READS:
                models = ModelRegistry(store=world)
                served = models.get_endpoint("main").desired
                assert served is not None
                version = next(one for one in VERSIONS if f"v{one}" != served.version)
                injected = _attempt(world, version, place, nth, kind)
                case = f"{kind} at {place}, {nth} before"
                if injected is None:  # a torn create, for instance, is none
                    continue
                met.add(kind)

                ModelRegistry(store=world).reconcile_endpoint("main")

                models = ModelRegistry(store=world)
                endpoint = models.get_endpoint("main")
                assert endpoint.desired is not None, case
                assert endpoint.observed is not None, case
                assert endpoint.desired.version in {served.version, f"v{version}"}, case
                assert endpoint.observed.generation == endpoint.generation, case
                assert factor_at(endpoint) == int(endpoint.desired.version[1:]) + 1, case
                assert models.get_drift("main") == [], case
                told = [
                    (one.endpoint, one.generation)
                    for one in models.get_version("times", endpoint.desired.version).deployments
                ]
                assert told.count(("main", endpoint.generation)) == 1, case
                assert problems(world, torn=Kind.TORN in met) == [], case
                assert endpoint.url == url, case
                seen.add(endpoint.desired.version == f"v{version}")
                cases += 1
    assert wrong == []
    assert seen == {True, False}, "some faults let the new version through, and some do not"
    assert met >= {Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.OUTAGE_BEFORE, Kind.ERROR_AFTER, Kind.TORN, Kind.DELAYED}
    assert cases > 60, cases
