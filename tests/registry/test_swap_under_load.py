"""Twenty thousand requests while versions are deployed, given a share, rolled back and refused: each is answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from multiplying import SAMPLES, register_versions, times

from registry import ModelRegistry
from registry.endpoints.client import InferenceClient
from registry.errors import EndpointError, ModelwayError

CLIENTS, REQUESTS = 4, 20_000


@pytest.fixture
def serving(on_disk: ModelRegistry) -> Iterator[ModelRegistry]:
    """Return a registry with v1 (times two, in production) to v3, whose endpoint ``main`` serves v1."""
    register_versions(on_disk, 3)
    on_disk.deploy_model("times", endpoint_name="main")
    yield on_disk
    on_disk.stop_endpoint("main")


class Users:
    """Clients with kept connections that ask until they have asked often enough."""

    def __init__(self, url: str) -> None:
        """Take where to ask."""
        self._url = url
        self.answers: Counter[int] = Counter()
        self.refused: list[str] = []
        self._counting = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    @property
    def asked(self) -> int:
        """How many requests were answered or refused so far."""
        return self.answers.total() + len(self.refused)

    def _ask(self) -> None:
        with InferenceClient(self._url) as client:
            while self.asked < REQUESTS:
                try:
                    found = client.infer("times", {"x": SAMPLES})["y"]
                except ModelwayError as error:
                    with self._counting:
                        self.refused.append(str(error))
                    continue
                factor = float((found / SAMPLES).mean())
                with self._counting:
                    self.answers[round(factor) if np.allclose(found, SAMPLES * round(factor)) else -1] += 1

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until all have asked often enough."""
        for thread in self._threads:
            thread.join(300)


@pytest.mark.heavy
@pytest.mark.timeout(400)
def test_no_request_fails_while_versions_come_and_go(serving: ModelRegistry, tmp_path: Path) -> None:
    url = serving.get_endpoint("main").url
    assert url is not None
    lying = tmp_path / "lying"
    lying.mkdir()
    (lying / "model.onnx").write_bytes(times(9.0).SerializeToString())
    np.savez(lying / "samples.npz", inputs=SAMPLES, outputs=SAMPLES)
    serving.register("times", lying, framework="onnx")
    users, rounds = Users(url), 0

    users.start()
    while users.asked < REQUESTS:
        serving.deploy_model("times", 2, endpoint_name="main", traffic=0.5)
        serving.deploy_model("times", 2, endpoint_name="main", pin=True)
        with pytest.raises(EndpointError, match="differently than the model did"):
            serving.deploy_model("times", 4, endpoint_name="main")
        serving.deploy_model("times", 3, endpoint_name="main", shadow=1.0)
        serving.deploy_model("times", 1, endpoint_name="main")
        rounds += 1
    users.wait()

    assert users.refused == []
    assert set(users.answers) == {2, 3}, "neither the shadow nor the one that lies has answered anybody"
    assert users.answers.total() >= REQUESTS
    assert rounds >= 2
    assert serving.get_endpoint("main").url == url
