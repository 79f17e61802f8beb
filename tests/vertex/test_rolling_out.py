"""Versions on an endpoint of Vertex AI, one after the other: what is deployed, who gets the traffic, who answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from emulators import Emulator
from small_network import CLASSES, FEATURES, answers
from vertex_fake import FakeVertex, Fault
from vertex_parts import GOLDEN, SIGNATURE, bring_up, part, rollout

from registry.endpoints.vertex import VertexTarget
from registry.errors import EndpointError
from registry.records import FileEntry
from registry.signature import Signature, TensorSpec
from registry.store import open_store

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

Targets = Callable[..., VertexTarget]


def endpoint(vertex: FakeVertex) -> Any:
    return vertex.rules.endpoints["digits"]


def deployed(vertex: FakeVertex) -> dict[str, int]:
    """The versions that are deployed, as they are displayed, with their traffic in percent."""
    found = endpoint(vertex)
    return {one.display_name: found.traffic_split.get(one.id, 0) for one in found.deployed_models}


def test_a_first_version_gets_all_the_traffic_and_answers_as_the_model_did(vertex: FakeVertex, target: Targets) -> None:
    wanted = rollout(1, part(1))
    place = target()
    for step in (place.check, place.stage, place.configure, place.load):
        step(wanted)
    golden = place.probe(wanted)
    reached = place.route(wanted)
    assert golden["v1"].passed
    assert golden["v1"].samples == len(GOLDEN)
    assert deployed(vertex) == {"digits:v1": 100}
    assert reached.url == f"{vertex.url}/v1/projects/acme/locations/europe-west4/endpoints/digits:rawPredict"
    assert reached.resources["deployed:v1"] == "10"
    assert [one.split("?")[0] for one in vertex.changes] == [
        "POST endpoints",
        "POST models:upload",
        "POST endpoints/digits:deployModel",
    ]


def test_what_was_uploaded_says_whose_it_is_and_where_it_lies(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    [(name, [version])] = vertex.rules.models.items()
    assert name.startswith("digits-")
    assert version.display_name == "digits"
    assert list(version.version_aliases)[0::2] == ["v1", "default"]
    assert dict(version.labels) == {"modelway-registry": "0f" * 16}
    assert version.artifact_uri.startswith(f"gs://models/serving/{'0f' * 16}/digits/1/")
    assert dict(endpoint(vertex).labels) == {"modelway-registry": "0f" * 16, "modelway-endpoint": "digits"}


def test_an_update_is_deployed_dark_and_one_request_moves_the_traffic(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    place, wanted = target(), rollout(2, part(2))
    for step in (place.check, place.stage, place.configure, place.load):
        step(wanted)
    assert deployed(vertex) == {"digits:v1": 100, "digits:v2": 0}
    assert place.probe(wanted) == {}
    before = len(vertex.changes)
    place.route(wanted)
    assert vertex.changes[before:] == ["PATCH endpoints/digits"]
    assert deployed(vertex) == {"digits:v1": 0, "digits:v2": 100}
    place.collect(wanted)
    assert deployed(vertex) == {"digits:v2": 100}


def test_a_version_that_is_kept_stays_deployed_and_the_way_back_is_one_request(
    vertex: FakeVertex, target: Targets
) -> None:
    bring_up(target(), rollout(1, part(1)))
    bring_up(target(), rollout(2, part(2), keep=(1,)))
    assert deployed(vertex) == {"digits:v1": 0, "digits:v2": 100}
    assert target().look().shares == {2: 1.0}
    before = len(vertex.changes)
    bring_up(target(), rollout(3, part(1), keep=(2,)))
    assert vertex.changes[before:] == ["PATCH endpoints/digits"]
    assert deployed(vertex) == {"digits:v1": 100, "digits:v2": 0}


def test_a_rollback_to_a_version_that_was_taken_away_deploys_it_again_without_an_upload(
    vertex: FakeVertex, target: Targets
) -> None:
    bring_up(target(), rollout(1, part(1)))
    bring_up(target(), rollout(2, part(2)))
    bring_up(target(), rollout(3, part(1)))
    assert deployed(vertex) == {"digits:v1": 100}
    assert vertex.changes.count("POST models:upload") == 2
    assert [one.id for one in endpoint(vertex).deployed_models] == ["30"]


def test_a_canary_gets_its_share_and_more_of_it_without_another_deployment(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    bring_up(target(), rollout(2, part(1, share=0.9), part(2, "canary", 0.1)))
    assert deployed(vertex) == {"digits:v1": 90, "digits:v2": 10}
    before = len(vertex.changes)
    bring_up(target(), rollout(3, part(1, share=0.5), part(2, "canary", 0.5)))
    assert deployed(vertex) == {"digits:v1": 50, "digits:v2": 50}
    bring_up(target(), rollout(4, part(2)))
    assert deployed(vertex) == {"digits:v2": 100}
    assert vertex.changes[before:] == [
        "PATCH endpoints/digits",
        "PATCH endpoints/digits",
        "POST endpoints/digits:undeployModel",
    ]


def test_a_canary_that_answers_wrongly_is_put_back_before_route_ends(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    wrong = part(2, "canary", 0.1, seed=77)
    with pytest.raises(EndpointError, match=r"digits:v2 .* answers the golden samples differently .* 100 % to 10\."):
        bring_up(target(), rollout(2, part(1, share=0.9), wrong))
    assert deployed(vertex) == {"digits:v1": 100, "digits:v2": 0}
    bring_up(target(), rollout(3, part(1)))
    assert deployed(vertex) == {"digits:v1": 100}


def test_a_first_version_that_answers_wrongly_is_told_before_route(vertex: FakeVertex, target: Targets) -> None:
    place, wanted = target(), rollout(1, part(1, seed=77))
    for step in (place.check, place.stage, place.configure, place.load):
        step(wanted)
    with pytest.raises(EndpointError, match="answers the golden samples differently"):
        place.probe(wanted)
    assert deployed(vertex) == {"digits:v1": 100}


def test_an_engine_that_was_uploaded_is_not_fetched_again(vertex: FakeVertex, target: Targets) -> None:
    def fetch(_: Path) -> FileEntry:
        raise AssertionError

    bring_up(target(), rollout(1, part(1)))
    bring_up(target(), rollout(2, replace(part(1, share=0.5), fetch=fetch), part(2, "canary", 0.5)))
    assert deployed(vertex) == {"digits:v1": 50, "digits:v2": 50}


def test_a_repository_that_was_begun_is_written_to_its_end(
    vertex: FakeVertex, target: Targets, bucket: Emulator
) -> None:
    wanted = rollout(1, part(4))
    target().stage(wanted)
    store = open_store(f"{bucket.url}/serving", storage_options=bucket.options)
    [config] = [key for key in store.list(f"{'0f' * 16}/digits/4") if key.endswith("/config.pbtxt")]
    store.delete(config)
    with pytest.raises(
        EndpointError, match=r"digits:v4 is not whole at gs://models/serving/.*: run the roll-out again"
    ):
        target().configure(wanted)
    bring_up(target(), wanted)
    assert deployed(vertex) == {"digits:v4": 100}


def test_an_engine_that_rounds_is_held_to_its_own_answers(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    rounding = part(2, seed=78, own=answers(GOLDEN, 78))
    bring_up(target(), rollout(2, rounding))
    assert deployed(vertex) == {"digits:v2": 100}


def test_a_model_with_a_fixed_batch_is_asked_with_as_many_samples(vertex: FakeVertex, target: Targets) -> None:
    fixed = Signature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=(8, FEATURES)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(8, CLASSES)),),
    )
    place, wanted = (
        target(),
        rollout(1, replace(part(3, seed=79, golden=(GOLDEN, answers(GOLDEN, 79))), signature=fixed)),
    )
    for step in (place.check, place.stage, place.configure, place.load):
        step(wanted)
    assert place.probe(wanted)["v3"].samples == 20
    assert len([one for one in vertex.requests if one.endswith(":rawPredict")]) == 3


def test_the_probe_waits_until_new_traffic_has_arrived(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    vertex.rules.lag = 5
    bring_up(target(), rollout(2, part(2)))
    assert deployed(vertex) == {"digits:v2": 100}


def test_a_version_that_never_answers_though_it_has_traffic_is_put_back(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    vertex.rules.lag = 10**6
    with pytest.raises(EndpointError, match=r"answered none of .* they were answered by 10 "):
        bring_up(target(timeout_s=0.2), rollout(2, part(2)))
    assert deployed(vertex) == {"digits:v1": 100, "digits:v2": 0}


def test_a_version_that_answers_with_errors_is_put_back(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    place, wanted = target(), rollout(2, part(2))
    for step in (place.check, place.stage, place.configure, place.load):
        step(wanted)
    vertex.faults.append(Fault("INTERNAL", match=":rawPredict", times=99, words="CUDA error"))
    with pytest.raises(EndpointError, match=r"CUDA error.* The traffic was put back: 100 % to 10\."):
        place.route(wanted)
    assert deployed(vertex) == {"digits:v1": 100, "digits:v2": 0}


def test_a_container_that_refuses_the_samples_is_told_in_its_own_words(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    other = Signature(inputs=(TensorSpec(name="z", dtype="float32", shape=(-1, FEATURES)),), outputs=SIGNATURE.outputs)
    with pytest.raises(EndpointError, match=r"\(INVALID_ARGUMENT\): .*'?z'?.* The traffic was put back"):
        bring_up(target(), rollout(2, replace(part(2), signature=other)))
    assert deployed(vertex) == {"digits:v1": 100, "digits:v2": 0}


def test_other_machines_are_deployed_beside_the_old_ones_and_take_over(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    bring_up(target(machine_type="n2-standard-8", max_replicas=3), rollout(2, part(1)))
    [only] = endpoint(vertex).deployed_models
    assert only.dedicated_resources.machine_spec.machine_type == "n2-standard-8"
    assert only.dedicated_resources.max_replica_count == 3
    assert vertex.changes.count("POST models:upload") == 1


def test_a_second_run_of_the_same_generation_changes_nothing(vertex: FakeVertex, target: Targets) -> None:
    wanted = rollout(2, part(1, share=0.9), part(2, "canary", 0.1))
    bring_up(target(), wanted)
    before = list(vertex.changes)
    bring_up(target(), wanted)
    assert vertex.changes == before


def test_stop_takes_everything_away_and_twice_is_no_error(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1, share=0.7), part(2, "canary", 0.3)))
    target().stop(forget=False)
    assert deployed(vertex) == {}
    target().stop()
    target().stop()
    assert vertex.rules.endpoints == {}


def test_look_tells_shares_and_the_digests_of_the_engines(target: Targets) -> None:
    assert not target().look().running
    first, second = part(1, share=0.75), part(2, "canary", 0.25)
    bring_up(target(), rollout(1, first, second))
    seen = target().look()
    assert seen.running
    assert seen.shares == {1: 0.75, 2: 0.25}
    assert {len(digest) for digest in seen.digests.values()} == {64}
    assert seen.digests[1] != seen.digests[2]
    assert seen.words == ""
    assert target().count() == {}


def test_what_somebody_else_deployed_is_told_and_left_alone(vertex: FakeVertex, target: Targets) -> None:
    bring_up(target(), rollout(1, part(1)))
    [(name, [version])] = vertex.rules.models.items()
    stranger = type(version)(version)
    stranger.version_id, stranger.artifact_uri, stranger.version_aliases = "2", "gs://elsewhere/model", []
    vertex.rules.models[name].append(stranger)
    copied = type(endpoint(vertex).deployed_models[0])(endpoint(vertex).deployed_models[0])
    copied.id, copied.model_version_id, copied.display_name = "999", "2", "by hand"
    endpoint(vertex).deployed_models.append(copied)
    bring_up(target(), rollout(2, part(2)))
    assert deployed(vertex) == {"by hand": 0, "digits:v2": 100}
    assert "by hand" in target().look().words
