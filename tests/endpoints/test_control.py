"""Versions swapped inside one serving process: loaded, unloaded, refused, weighted and shadowed."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import onnxruntime
import psutil
import pytest
import tritonclient.http as triton
from served_models import list_models, served
from tritonclient.utils import InferenceServerException

from registry.endpoints.client import ControlClient, InferenceClient, Listed
from registry.endpoints.process import is_running, start_server, stop_server
from registry.endpoints.serving import ServedVersion, ServerConfig, read_state
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from registry.endpoints.serving import RunningServer

SAMPLES = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


class Place:
    """A running server that began with v1 of iris in generation 7, and what one does with it."""

    def __init__(self, config: ServerConfig, running: RunningServer, engines: dict[str, Path]) -> None:
        """Take the process and the engines; its token stands in the state file."""
        self.config, self.running, self.engines = config, running, engines
        self.token = (read_state(config.state_file) or pytest.fail("there is no state file")).token
        self.v1 = served("iris", "v1", engines["first"])
        self.v2 = served("iris", "v2", engines["second"])

    def write(self, *versions: ServedVersion, generation: int = 8) -> None:
        list_models(self.config, *versions, generation=generation)

    def load(self, *versions: ServedVersion, generation: int = 8, model: str = "iris") -> None:
        self.write(*versions, generation=generation)
        with ControlClient(self.running.url, self.token) as control:
            control.load(model)

    def index(self) -> list[Listed]:
        with ControlClient(self.running.url, self.token) as control:
            return control.index()

    def answer(self, version: str | None = None) -> np.ndarray[Any, Any]:
        with InferenceClient(self.running.url) as client:
            return client.infer("iris", {"x": SAMPLES}, version=version)["probabilities"]

    def gives(self, engine: str, version: str | None = None) -> bool:
        session = onnxruntime.InferenceSession(self.engines[engine], providers=["CPUExecutionProvider"])
        return np.allclose(self.answer(version), session.run(None, {"x": SAMPLES})[0], rtol=1e-5)

    def about(self) -> dict[str, Any]:
        with InferenceClient(self.running.url) as client:
            return client.metadata()


@pytest.fixture(scope="module")
def one_process(
    tmp_path_factory: pytest.TempPathFactory, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> Iterator[Place]:
    """The one process of all these tests, which is what it is made for."""
    folder = tmp_path_factory.mktemp("one process")
    config = config_for(folder, served("iris", "v1", engines["first"]), grpc=False)
    running = start_server(config, folder=folder)
    yield Place(config, running, engines)
    stop_server(running)


@pytest.fixture
def place(one_process: Place) -> Place:
    """That process with v1 of iris, opened anew, in generation 7."""
    with ControlClient(one_process.running.url, one_process.token) as control:
        control.unload("iris")
    one_process.load(one_process.v1, generation=7)
    return one_process


def test_a_load_swaps_the_version_in_the_same_process_at_the_same_port(place: Place) -> None:
    assert place.gives("first")
    place.load(place.v2)
    assert place.gives("second")
    assert is_running(place.running)
    assert place.about()["modelway"] == {"endpoint": "trial", "instance": place.running.instance, "generation": 8}
    assert place.index() == [Listed("iris", "2", "READY", "")]
    place.load(place.v1, generation=9)
    assert place.gives("first")


def test_nvidias_client_loads_and_unloads_with_the_token(place: Place) -> None:
    place.write(place.v2)
    headers = {"Authorization": f"Bearer {place.token}"}
    client = triton.InferenceServerClient(urlsplit(place.running.url).netloc)
    try:
        client.load_model("iris", headers=headers)
        assert place.gives("second")
        client.unload_model("iris", headers=headers)
        assert not client.is_model_ready("iris")
        assert client.get_model_repository_index() == [
            {"name": "iris", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"}
        ]
        with pytest.raises(InferenceServerException, match="no model 'iris' at this endpoint; it serves: nothing"):
            client.get_model_metadata("iris")
        client.load_model("iris", headers=headers)
        assert place.gives("second")
        with pytest.raises(InferenceServerException, match="loaded as the models file says, without config") as refusal:
            client.load_model("iris", headers=headers, config="{}")
        assert refusal.value.status() == "400"
        with pytest.raises(InferenceServerException, match=r"without config, file:1/model\.onnx"):
            client.load_model("iris", headers=headers, config="{}", files={"file:1/model.onnx": b"bytes"})
        assert place.gives("second")
    finally:
        client.close()


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer", "Basic TOKEN", "TOKEN"])
@pytest.mark.parametrize("verb", ["load", "unload"])
def test_nobody_loads_or_unloads_without_the_token(place: Place, verb: str, authorization: str | None) -> None:
    place.write(place.v2)
    headers = {} if authorization is None else {"Authorization": authorization.replace("TOKEN", place.token)}
    answer = httpx.post(f"{place.running.url}/v2/repository/models/iris/{verb}", headers=headers)
    assert answer.status_code == 401
    assert "Authorization: Bearer TOKEN, and the token stands in the server's state file" in answer.json()["error"]
    assert place.gives("first")
    assert place.about()["modelway"]["generation"] == 7


def _garbage(place: Place, folder: Path) -> None:
    engine = folder / "garbage.onnx"
    engine.write_bytes(b"no model")
    place.write(place.v1, served("iris", "v2", engine, role="candidate"))


def _changed(place: Place, _: Path) -> None:
    place.write(place.v2.model_copy(update={"digest": "0" * 64}))


def _gone(place: Place, folder: Path) -> None:
    place.write(place.v2.model_copy(update={"engine": folder / "gone.onnx"}))


def _no_file(place: Place, _: Path) -> None:
    place.config.models_file.unlink()


def _no_json(place: Place, _: Path) -> None:
    place.config.models_file.write_text("{")


def _other_model(place: Place, _: Path) -> None:
    place.write(served("other", "v1", place.engines["first"]))


@pytest.mark.parametrize(
    ("spoil", "status", "reason"),
    [
        (_garbage, 400, "onnxruntime does not open"),
        (_changed, 400, "is not what was recorded: expected sha256:0000"),
        (_gone, 400, "cannot be read"),
        (_no_file, 400, "is no file of models to serve"),
        (_no_json, 400, "is no file of models to serve"),
        (_other_model, 404, "no model 'iris' in the models file"),
    ],
)
def test_a_load_that_fails_says_why_and_leaves_what_serves_as_it_was(
    place: Place, tmp_path: Path, spoil: Callable[[Place, Path], None], status: int, reason: str
) -> None:
    spoil(place, tmp_path)
    with ControlClient(place.running.url, place.token) as control, pytest.raises(ProtocolError) as refusal:
        control.load("iris")
    assert refusal.value.status == status
    assert reason in str(refusal.value)
    assert place.about()["modelway"]["generation"] == 7
    assert place.gives("first")
    assert place.index()[0] == Listed("iris", "1", "READY", "")
    place.load(place.v2)
    assert place.index() == [Listed("iris", "2", "READY", "")]


def test_the_index_says_why_a_version_is_not_there(place: Place, tmp_path: Path) -> None:
    _garbage(place, tmp_path)
    with ControlClient(place.running.url, place.token) as control, pytest.raises(ProtocolError):
        control.load("iris")
    candidate = place.index()[1]
    assert (candidate.name, candidate.version, candidate.state) == ("iris", "candidate", "UNAVAILABLE")
    assert "onnxruntime does not open" in candidate.reason
    with httpx.Client(base_url=place.running.url) as http:
        assert len(http.post("/v2/repository/index", json={"ready": True}).json()) == 1


def test_an_unknown_model_is_not_unloaded(place: Place) -> None:
    with ControlClient(place.running.url, place.token) as control:
        with pytest.raises(ProtocolError, match=r"refused \(404\): no model 'other' at this endpoint"):
            control.unload("other")
        control.unload("iris")
        control.unload("iris")  # found done
    assert place.index() == [Listed("iris", "1", "UNAVAILABLE", "unloaded")]


def test_a_candidate_is_asked_only_by_that_name(place: Place) -> None:
    place.load(place.v1, place.v2.model_copy(update={"role": "candidate"}))
    assert place.gives("first")
    assert place.gives("second", "candidate")
    with pytest.raises(ProtocolError, match="iris has no version '2' at this endpoint; it serves: 1, candidate"):
        place.answer("2")


def test_the_first_candidate_of_all_is_open_before_anything_answers(place: Place) -> None:
    place.load(place.v1.model_copy(update={"role": "candidate"}))
    assert place.gives("first", "candidate")
    with pytest.raises(ProtocolError, match="iris has no version that answers yet at this endpoint; it serves: candid"):
        place.answer()


def test_the_same_version_with_another_engine_is_a_candidate_beside_itself(place: Place) -> None:
    other = served("iris", "v1", place.engines["second"], role="candidate")
    place.load(place.v1, other)
    assert place.gives("first", "1")
    assert place.gives("second", "candidate")
    place.load(other.model_copy(update={"role": "stable"}), generation=9)
    assert place.gives("second", "1")


def test_what_is_open_already_is_not_opened_again(place: Place, tmp_path: Path) -> None:
    engine = tmp_path / "moved.onnx"
    shutil.copy(place.engines["second"], engine)
    candidate = served("iris", "v2", engine, role="candidate")
    place.load(place.v1, candidate)
    engine.unlink()
    place.load(candidate.model_copy(update={"role": "stable"}), generation=9)
    assert place.gives("second")


def test_an_engine_that_nothing_serves_any_more_is_given_back(place: Place) -> None:
    process = psutil.Process(place.running.pid)
    place.load(place.v1)
    before = process.memory_info().rss
    for turn in range(30):
        place.load(place.v2 if turn % 2 else place.v1, generation=9 + turn)
    assert process.memory_info().rss - before < 30 * 2**20


def test_a_canary_gets_its_share_and_the_stable_version_the_rest(place: Place) -> None:
    stable = place.v1.model_copy(update={"share": 0.75})
    place.load(stable, place.v2.model_copy(update={"role": "canary", "share": 0.25}))
    with InferenceClient(place.running.url) as client:
        for _ in range(800):
            client.infer("iris", {"x": SAMPLES})
        done = {one["version"]: one["modelway"]["requests"] for one in client.statistics("iris")}
    assert sum(done.values()) == 800
    assert 130 < done["2"] < 270  # 200 expected, and 12 are a standard deviation
    assert place.gives("first", "1")
    assert place.gives("second", "2")


def test_a_shadow_gets_copies_and_its_answers_go_to_nobody(place: Place) -> None:
    place.load(place.v1, place.v2.model_copy(update={"role": "shadow", "share": 0.5}))
    with InferenceClient(place.running.url) as client:
        for _ in range(400):
            client.infer("iris", {"x": SAMPLES})
        assert client.metadata("iris")["modelway"]["version"] == "v1"
        done = {one["version"]: one["modelway"]["requests"] for one in client.statistics("iris")}
    assert place.gives("first")
    assert done["1"] == 400
    assert 140 < done["2"] < 260  # 200 expected, and 10 are a standard deviation


def test_a_shadow_that_cannot_take_the_requests_harms_nobody(place: Place) -> None:
    shadow = served("iris", "v2", place.engines["echo"], role="shadow")
    place.load(place.v1, shadow)
    assert place.gives("first")
    with InferenceClient(place.running.url) as client:
        done = {one["version"]: one["modelway"] for one in client.statistics("iris")}
    assert (done["1"]["requests"], done["1"]["errors"]) == (1, 0)
    assert (done["2"]["requests"], done["2"]["errors"]) == (1, 1)


def test_a_process_without_a_models_file_waits_for_its_first_load(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> None:
    config = config_for(tmp_path, grpc=False)
    config.models_file.unlink()
    running = start_server(config, folder=tmp_path)
    try:
        empty = Place(config, running, engines)
        assert empty.index() == []
        with pytest.raises(ProtocolError, match="no model 'iris' at this endpoint; it serves: nothing"):
            empty.answer()
        empty.load(empty.v1, generation=1)
        assert empty.gives("first")
    finally:
        stop_server(running)


@pytest.mark.heavy
def test_versions_are_swapped_under_load_without_one_failed_request(place: Place) -> None:
    stop = threading.Event()
    counts, errors = [0] * 4, list[str]()

    def ask(number: int) -> None:
        with InferenceClient(place.running.url) as client:
            while not stop.is_set():
                try:
                    found = client.infer("iris", {"x": SAMPLES})["probabilities"]
                    assert found.shape == (2, 3)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what must not happen
                    errors.append(repr(error))
                counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    generation = 8
    while sum(counts) < 20_000 and not errors:
        stable = place.v1 if generation % 2 else place.v2
        other = (place.v2 if generation % 2 else place.v1).model_copy(update={"role": "candidate"})
        place.load(stable, other, generation=generation)
        place.load(
            stable.model_copy(update={"share": 0.5}),
            other.model_copy(update={"role": "canary", "share": 0.5}),
            generation=generation,
        )
        place.load(other.model_copy(update={"role": "stable"}), generation=generation + 1)
        generation += 2
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(counts) >= 20_000
    assert generation > 30
