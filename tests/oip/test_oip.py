"""The Open Inference Protocol as clients see it: one suite, which our server and the real Triton both pass.

Where the two differ on purpose stands in ``DIFFERENCES``, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oip_clients import OipClient, each_datatype, outcome, refused
from oip_servers import SEEDS, Served
from small_network import CLASSES, FEATURES, answers, samples

# What is asked, then how ours and Triton answer it: what comes back, or the kind of the refusal.
DIFFERENCES: Mapping[str, Mapping[str, Any]] = {
    "the server's name": {"ours": "modelway", "triton": "triton"},
    # Ours says what else there is to ask.
    "the versions in the metadata of version 1": {"ours": {"1", "2"}, "triton": {"1"}},
    # Versions of the registry may be semantic ones: one that is no whole number is not there, rather than malformed.
    "a version that is no number, over gRPC": {"ours": "unknown", "triton": "invalid"},
    "statistics of what is not there": {"ours": "unknown", "triton": "invalid"},
    # Ours is guarded by a token on the port of the data; Triton's is meant to be closed to others by the network.
    "a load without the token": {"ours": "no right", "triton": "done"},
    "a load of a model that is not there": {"ours": "unknown", "triton": "failed"},
    "an unload of a model that is not there": {"ours": "unknown", "triton": "done"},
    # The protocol has no word on them; the numbers between the commas are the same as for other floats.
    "half floats as JSON": {"ours": "done", "triton": "invalid"},
    # Ours bounds elements and bytes; how many samples the engine gets at once is the server's own business.
    "more samples than the engine takes at once": {"ours": "done", "triton": "invalid"},
}

X = samples(3)


def _right(inputs: NDArray[Any], version: str) -> NDArray[Any]:
    return answers(inputs, SEEDS[version])


def _eventually(holds: Callable[[], bool], *, within_s: float = 20.0) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def differs(served: Served) -> Callable[[str], Any]:
    """Return what this server answers where the two differ."""
    return lambda what: DIFFERENCES[what][served.name]


def test_server_and_models_say_that_they_are_ready(client: OipClient) -> None:
    assert client.live()
    assert client.ready()
    for model, version in (("network", ""), ("network", "1"), ("network", "2"), ("echo", "1")):
        assert client.ready(model, version)
    for model, version in (("network", "3"), ("other", ""), ("other", "1")):
        assert not client.ready(model, version)


def test_the_server_says_what_it_is(client: OipClient, differs: Callable[[str], Any]) -> None:
    about = client.about_server()
    assert about["name"] == differs("the server's name")
    assert about["version"]
    spoken = {"model_repository", "statistics"} | ({"binary_tensor_data"} if client.form != "grpc" else set())
    assert spoken <= set(about["extensions"])


def test_a_model_says_what_it_takes_and_gives(client: OipClient, differs: Callable[[str], Any]) -> None:
    about = client.about_model("network")
    assert about["name"] == "network"
    assert set(about["versions"]) == {"1", "2"}
    assert about["platform"] == "onnxruntime_onnx"
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}]
    assert about["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, CLASSES]}]
    assert set(client.about_model("network", "1")["versions"]) == differs("the versions in the metadata of version 1")
    inputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in client.about_model("echo")["inputs"]}
    assert inputs == {name: (name, [-1, 2]) for name in each_datatype()}


def test_the_index_lists_every_version(client: OipClient) -> None:
    assert client.index() == {("network", "1", "READY"), ("network", "2", "READY"), ("echo", "1", "READY")}


@pytest.mark.parametrize("version", ["", "1", "2"])
@pytest.mark.parametrize("count", [1, 2, 7, 32])
def test_a_version_answers_for_each_sample(client: OipClient, version: str, count: int) -> None:
    inputs = samples(count, seed=count)
    answer = client.infer("network", {"x": inputs}, version)
    assert (answer.model, answer.version) == ("network", version or "2")
    assert answer.outputs["y"].dtype == np.float32
    np.testing.assert_allclose(answer.outputs["y"], _right(inputs, version or "2"), rtol=1e-4, atol=1e-4)


def test_a_request_without_a_version_is_answered_by_the_second(client: OipClient) -> None:
    assert {client.infer("network", {"x": X}).version for _ in range(20)} == {"2"}


def test_every_datatype_comes_back_as_it_was_sent(client: OipClient) -> None:
    sent = each_datatype()
    found = client.infer("echo", sent, binary_only={"FP16"}).outputs
    assert set(found) == {f"echo_{name}" for name in sent}
    for name, array in sent.items():
        assert found[f"echo_{name}"].dtype == array.dtype
        np.testing.assert_array_equal(found[f"echo_{name}"], array)


def test_only_the_outputs_that_are_asked_for_come_back(client: OipClient) -> None:
    sent, wanted = each_datatype(), ["echo_INT64", "echo_BOOL"]
    found = client.infer("echo", sent, outputs=wanted, binary_only={"FP16"}).outputs
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], sent[name.removeprefix("echo_")])


def test_the_id_of_a_request_comes_back(client: OipClient) -> None:
    for name in ("17", "of two words", "\N{SNOWMAN}" * 20):
        assert client.infer("network", {"x": X}, request_id=name).id == name
    assert client.infer("network", {"x": X}).id == ""


def test_statistics_count_samples_and_requests_of_each_version(client: OipClient) -> None:
    before = {version: client.counts("network", version) for version in SEEDS}
    client.infer("network", {"x": X}, "1")
    client.infer("network", {"x": X[:1]}, "1")
    client.infer("network", {"x": X})
    expected = {"1": (4, 2, 0), "2": (3, 1, 0)}
    for version, more in expected.items():
        wanted = tuple(old + new for old, new in zip(before[version], more, strict=True))
        # Triton counts after it has answered.
        _eventually(lambda version=version, wanted=wanted: client.counts("network", version) == wanted)  # type: ignore[misc]


REFUSED: Mapping[str, tuple[str, Callable[[OipClient], object]]] = {
    "an unknown model": ("unknown", lambda c: c.infer("other", {"x": X})),
    "an unknown version": ("unknown", lambda c: c.infer("network", {"x": X}, "3")),
    "an input of another name": ("invalid", lambda c: c.infer("network", {"z": X})),
    "another datatype": ("invalid", lambda c: c.infer("network", {"x": X.astype(np.float64)})),
    "another rank": ("invalid", lambda c: c.infer("network", {"x": X[0]})),
    "another size": ("invalid", lambda c: c.infer("network", {"x": X[:, :5]})),
    "a missing input": ("invalid", lambda c: c.infer("echo", {"INT8": each_datatype()["INT8"]})),
    "an input too many": ("invalid", lambda c: c.infer("network", {"x": X, "z": X})),
    "an unknown output": ("invalid", lambda c: c.infer("network", {"x": X}, outputs=["y", "z"])),
    "metadata of an unknown model": ("unknown", lambda c: c.about_model("other")),
    "metadata of an unknown version": ("unknown", lambda c: c.about_model("network", "3")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_is_wrong_is_refused_in_words_and_the_next_one_answered(client: OipClient, what: str) -> None:
    kind, ask = REFUSED[what]
    refusal = refused(lambda: ask(client))
    assert refusal.kind == kind
    assert refusal.words
    np.testing.assert_allclose(client.infer("network", {"x": X}).outputs["y"], _right(X, "2"), rtol=1e-4, atol=1e-4)


def test_what_the_two_refuse_differently(client: OipClient, differs: Callable[[str], Any]) -> None:
    kind = differs("a version that is no number, over gRPC") if client.form == "grpc" else "unknown"
    assert outcome(lambda: client.infer("network", {"x": X}, "latest")) == kind
    for model, version in (("other", ""), ("network", "3")):
        assert outcome(lambda: client.counts(model, version)) == differs("statistics of what is not there")  # noqa: B023
    if client.form == "json":
        assert outcome(lambda: client.infer("echo", each_datatype())) == differs("half floats as JSON")
    many = samples(40)
    assert outcome(lambda: client.infer("network", {"x": many})) == differs(
        "more samples than the engine takes at once"
    )


def test_an_unloaded_model_is_not_there_until_it_is_loaded(client: OipClient) -> None:
    sent = each_datatype()
    client.unload("echo")
    try:
        _eventually(lambda: not client.ready("echo"))
        assert client.ready()
        assert outcome(lambda: client.infer("echo", sent, binary_only={"FP16"})) in {"unknown", "not now"}
        _eventually(lambda: ("echo", "1", "READY") not in client.index())
        assert client.infer("network", {"x": X}).version == "2"
    finally:
        client.load("echo")
    assert client.ready("echo", "1")
    assert set(client.infer("echo", sent, binary_only={"FP16"}).outputs) == {f"echo_{name}" for name in sent}


def test_a_load_of_what_is_open_already_changes_nothing(client: OipClient) -> None:
    before = client.index()
    client.load("network")
    assert client.index() == before
    np.testing.assert_allclose(client.infer("network", {"x": X}).outputs["y"], _right(X, "2"), rtol=1e-4, atol=1e-4)


def test_who_may_load_what_is_told(client: OipClient, served: Served, differs: Callable[[str], Any]) -> None:
    before = client.index()
    assert outcome(lambda: client.load("other")) == differs("a load of a model that is not there")
    assert outcome(lambda: client.unload("other")) == differs("an unload of a model that is not there")
    for token in ("", "guessed"):
        with OipClient(client.form, http=served.http, grpc=served.grpc, token=token) as stranger:
            assert outcome(lambda: stranger.load("network")) == differs("a load without the token")
    assert client.index() == before
