"""The place on this machine: one process for each endpoint, on one port, in which versions are swapped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from filelock import FileLock
from typing_extensions import override

from registry.endpoints.client import InferenceClient
from registry.endpoints.local_process import LocalProcess
from registry.endpoints.request_log import check_parquet
from registry.endpoints.serving import CANDIDATE, ServedModels, ServedVersion
from registry.endpoints.settings import LocalSettings
from registry.endpoints.target import GOLDEN_TOLERANCE, Counted, Look, Part, Reached, Rollout, Samples, Target
from registry.endpoints.tensors import ProtocolError
from registry.endpoints.trial import compare_golden
from registry.engines.backends import family_of, precision_of
from registry.engines.fitting import objection_here
from registry.engines.job import GOLDEN_OUTPUTS
from registry.engines.records import Parity
from registry.errors import EndpointError, InvalidInputError

SERVED = ("onnxruntime", "openvino")
"""The backends that a local endpoint opens engines of."""


class LocalTarget(Target):
    """What this machine serves for one endpoint, in ``folder``; use it under ``locked``."""

    def __init__(self, settings: LocalSettings, *, endpoint: str, folder: Path) -> None:
        """Take where its files lie; nothing is touched."""
        self._settings, self._endpoint, self._folder = settings, endpoint, folder
        self._process = LocalProcess(settings, endpoint=endpoint, folder=folder)
        self._objection = objection_here(SERVED)
        self._fetched: dict[str, ServedVersion] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from this endpoint; what died lets go of it by itself."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "lock"):
            yield

    @override
    def objection(self, engine: str, key_fields: Mapping[str, Any]) -> str | None:
        return self._objection(engine, key_fields)

    @override
    def check(self, rollout: Rollout) -> None:
        if self._settings.log_share:
            check_parquet()
        for part in rollout.parts:
            if part.samples is None:
                continue
            inputs, outputs = part.samples
            if len(inputs) != len(outputs):
                raise EndpointError(f"{part.full_name} has {len(inputs)} golden samples and {len(outputs)} outputs.")

    @override
    def stage(self, rollout: Rollout) -> None:
        for part in rollout.parts:
            self._served(part)

    @override
    def configure(self, rollout: Rollout) -> None:
        if not self._process.models_file.exists():
            self._process.write(ServedModels())

    @override
    def load(self, rollout: Rollout) -> None:
        self._process.ensure()
        for part in self._new(rollout):
            self._load_beside(part)

    @override
    def probe(self, rollout: Rollout) -> Mapping[str, Parity]:
        new = {part.role for part in self._new(rollout)}
        found: dict[str, Parity] = {}
        for part in rollout.parts:
            if part.samples is None:
                continue
            if part.role in new:
                self._load_beside(part)
            found[part.version] = self._compare(
                part, part.samples, CANDIDATE if part.role in new else self._served(part).number
            )
        return found

    @override
    def route(self, rollout: Rollout) -> Reached:
        versions = tuple(self._served(part) for part in rollout.parts)
        self._load(ServedModels(generation=rollout.generation, versions=versions))
        server = self._process.running()
        return Reached(url=server.url, grpc=server.grpc, model_name=rollout.stable.model, server=server)

    @override
    def collect(self, rollout: Rollout) -> None:
        used = {_engine_name(part) for part in rollout.parts}
        kept = {str(number) for number in rollout.keep}  # going back need not fetch them again
        for folder in (self._folder / "engines").glob("*"):
            if folder.name not in used and folder.name.partition("-")[0] not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    @override
    def stop(self, *, forget: bool = True) -> None:
        self._process.stop(forget=forget)
        if forget:
            shutil.rmtree(self._folder / "engines", ignore_errors=True)

    @override
    def look(self) -> Look:
        if self._process.find() is None:
            return Look(running=False, words="its process does not run")
        try:
            served = self._process.served()
        except EndpointError as error:
            return Look(running=False, words=str(error))
        open_ = [one for one in served.versions if one.role != CANDIDATE]
        return Look(
            running=True,
            shares={one.ordinal: one.share for one in open_},
            digests={one.ordinal: one.digest.removeprefix("sha256:") for one in open_},
        )

    @override
    def count(self) -> Mapping[int, Counted]:
        if (running := self._process.find()) is None:
            return {}
        found: dict[int, Counted] = {}
        with httpx.Client(base_url=running.url, timeout=10.0, trust_env=False) as client:
            for one in _routed(self._process.served()):
                path = f"/v2/models/{one.model}/versions/{one.address}/stats"
                said = client.get(path).raise_for_status().json()["model_stats"][0]
                found[one.ordinal] = _counted(said)
        return found

    def _served(self, part: Part) -> ServedVersion:
        """Return a part as the server is told of it, its files fetched and verified."""
        name = _engine_name(part)
        if name not in self._fetched:
            folder = self._folder / "engines" / name
            try:
                file = part.fetch(folder)
            except InvalidInputError:  # what lies there was spoilt, and downloads never write over a file
                shutil.rmtree(folder)
                file = part.fetch(folder)
            self._fetched[name] = ServedVersion(
                model=part.model,
                version=part.version,
                ordinal=part.number,
                engine=folder / file.path,
                digest=file.sha256,
                runtime="openvino" if family_of(part.engine) == "openvino" else "onnxruntime",
                precision="bf16" if precision_of(part.engine) == "bf16" else "f32",
            )
        return self._fetched[name].model_copy(update={"role": part.role, "share": part.share})

    def _new(self, rollout: Rollout) -> list[Part]:
        """Return the parts that are not open yet, or with other bytes."""
        known = {_opened(one) for one in _routed(self._process.served())}
        return [part for part in rollout.parts if _opened(self._served(part)) not in known]

    def _load_beside(self, part: Part) -> None:
        """Open a part under the name of a candidate; who asks for no version goes on being answered as before."""
        candidate = self._served(part).model_copy(update={"role": CANDIDATE, "share": 0.0})
        now = self._process.served()
        self._load(ServedModels(generation=now.generation, versions=(*_routed(now), candidate)))

    def _load(self, models: ServedModels) -> None:
        self._process.write(models)
        try:
            with self._process.control() as control:
                control.load(models.versions[0].model)
        except ProtocolError:
            # What serves on is what the file says, also for a process that starts again.
            self._process.write(self._process.served())
            raise

    def _compare(self, part: Part, samples: Samples, address: str) -> Parity:
        inputs, outputs = samples
        own = self._folder / "engines" / _engine_name(part) / GOLDEN_OUTPUTS
        if own.is_file():  # it rounds more than the model, and is held to what it gave when it was judged
            outputs = np.load(own, allow_pickle=False)
        with InferenceClient(self._process.running().url) as client:
            tensors = client.metadata(part.model, version=address)
            golden = compare_golden(
                client,
                part.model,
                {tensors["inputs"][0]["name"]: inputs},
                {tensors["outputs"][0]["name"]: outputs},
                version=address,
                atol=GOLDEN_TOLERANCE,
                rtol=GOLDEN_TOLERANCE,
            )
        if not golden.passed:
            raise EndpointError(
                f"{part.full_name} answers the golden samples differently than the model did: {golden.reason}. "
                f"It was taken down; what served before still does."
            )
        return golden


def _routed(served: ServedModels) -> tuple[ServedVersion, ...]:
    return tuple(one for one in served.versions if one.role != CANDIDATE)


def _opened(one: ServedVersion) -> tuple[str, ...]:
    """Return what an open session is told apart by."""
    return one.model, one.version, one.digest, one.runtime, one.precision


def _engine_name(part: Part) -> str:
    """Return the name of a part's folder: its ordinal, and the engine's key or the digest of the version's sidecar."""
    return f"{part.number}-{(part.variant or part.metadata_digest.removeprefix('sha256:'))[:32]}"


def _counted(said: Mapping[str, Any]) -> Counted:
    ours, stats = said["modelway"], said["inference_stats"]
    good, bad = stats["success"], stats["fail"]
    return Counted(
        requests=int(good["count"]) + int(bad["count"]),
        errors=int(bad["count"]),
        latency_sum_ms=(int(good["ns"]) + int(bad["ns"])) / 1e6,
        latency_ms=tuple((float(bound), int(count)) for bound, count in ours["latency_ms"]),
        labelled=int(ours["labelled"]),
        correct=int(ours["correct"]),
    )
