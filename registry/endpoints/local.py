"""The serving processes of this machine: bring one up beside what serves, check it, take the others down."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.endpoints.client import InferenceClient
from registry.endpoints.desired import Desired
from registry.endpoints.process import find_server, start_server, stop_server
from registry.endpoints.serving import RunningServer, ServedVersion, ServerConfig
from registry.endpoints.trial import compare_golden
from registry.engines.backends import family_of, precision_of
from registry.engines.job import GOLDEN_OUTPUTS
from registry.engines.records import Parity
from registry.errors import EndpointError
from registry.records import FileEntry

GOLDEN_TOLERANCE = 1e-3
"""How far, absolutely and relatively, an endpoint's answers to the golden samples may be from the model's own."""

Samples = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class LocalServers:
    """What this machine serves for one endpoint: a folder for each generation below ``folder``."""

    endpoint: str
    folder: Path

    def bring_up(
        self,
        generation: int,
        desired: Desired,
        *,
        engine: str,
        fetch_engine: Callable[[Path], FileEntry],
        samples: Samples | None,
    ) -> tuple[RunningServer, Parity | None]:
        """Start a server of ``desired`` on a free port of loopback, and return it once it answers as the model did.

        Args:
            generation: Whose folder to use; what an earlier try left in it is taken down first.
            desired: What to serve.
            engine: Its name, which says what opens it and in which precision.
            fetch_engine: Puts the engine's files into a folder and says which of them to open, with its digest.
            samples: Golden inputs and the model's own outputs for them, shapes (n, ...); None to skip the comparison.
                An engine that has its own outputs beside it, because it rounds more than the model, is held to those.

        Raises:
            EndpointError: It did not start, or answers otherwise than the model did; nothing of it is left running.
        """
        folder = self._of(generation)
        _take_down(folder)
        file = fetch_engine(folder / "engine")
        served = ServedVersion(
            model=desired.model,
            version=desired.version,
            engine=folder / "engine" / file.path,
            digest=file.sha256,
            runtime="openvino" if family_of(engine) == "openvino" else "onnxruntime",
            precision="bf16" if precision_of(engine) == "bf16" else "f32",
        )
        own = folder / "engine" / GOLDEN_OUTPUTS
        if samples is not None and own.is_file():
            samples = samples[0], np.load(own, allow_pickle=False)
        state_file = folder / "state.json"
        config = ServerConfig(endpoint=self.endpoint, generation=generation, versions=(served,), state_file=state_file)
        server = start_server(config, folder=folder)
        try:
            return server, None if samples is None else _compare(server.url, desired, samples)
        except BaseException:  # an interrupt as well: nobody else knows of this process yet
            stop_server(server)
            raise

    def sweep(self, *, keep: int | None) -> None:
        """Take down all but one generation: a deployer that died may have left a server that nothing else tells of."""
        for folder in self.folder.glob("generation-*"):
            if keep is None or folder != self._of(keep):
                _take_down(folder)

    def _of(self, generation: int) -> Path:
        return self.folder / f"generation-{generation}"


def _compare(url: str, desired: Desired, samples: Samples) -> Parity:
    with InferenceClient(url) as client:
        tensors = client.metadata(desired.model)
        inputs, outputs = {tensors["inputs"][0]["name"]: samples[0]}, {tensors["outputs"][0]["name"]: samples[1]}
        golden = compare_golden(client, desired.model, inputs, outputs, atol=GOLDEN_TOLERANCE, rtol=GOLDEN_TOLERANCE)
    if not golden.passed:
        raise EndpointError(
            f"{desired.model}:{desired.version} answers the golden samples differently than the model did: "
            f"{golden.reason}. It was taken down; what served before still does."
        )
    return golden


def _take_down(folder: Path) -> None:
    if (running := find_server(folder / "state.json", log_path=folder / "server.log")) is not None:
        stop_server(running)
    shutil.rmtree(folder, ignore_errors=True)
