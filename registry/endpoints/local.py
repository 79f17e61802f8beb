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
from pydantic import ValidationError
from typing_extensions import override

from registry.endpoints.client import ControlClient, InferenceClient
from registry.endpoints.process import find_server, start_server, stop_server, wait_for_answer
from registry.endpoints.serving import (
    CANDIDATE,
    RunningServer,
    ServedModels,
    ServedVersion,
    ServerConfig,
    read_state,
)
from registry.endpoints.settings import LocalSettings
from registry.endpoints.target import GOLDEN_TOLERANCE, Counted, Look, Part, Reached, Rollout, Samples, Target
from registry.endpoints.tensors import ProtocolError
from registry.endpoints.trial import compare_golden
from registry.engines.backends import family_of, precision_of
from registry.engines.fitting import objection_here
from registry.engines.job import GOLDEN_OUTPUTS
from registry.engines.records import Parity
from registry.errors import EndpointError

SERVED = ("onnxruntime", "openvino")
"""The backends that a local endpoint opens engines of."""

_KEPT_FOR_LIFE = ("port", "workers", "engine_threads", "max_batch", "max_delay_ms", "max_concurrency", "timeout_s")


class LocalTarget(Target):
    """What this machine serves for one endpoint, in ``folder``; use it under ``locked``."""

    def __init__(self, settings: LocalSettings, *, endpoint: str, folder: Path) -> None:
        """Take where its files lie; nothing is touched."""
        self._settings, self._endpoint, self._folder = settings, endpoint, folder
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
        if not self._models_file.exists():
            self._write(ServedModels())

    @override
    def load(self, rollout: Rollout) -> None:
        running = self._find()
        if running is None:
            # One that is only slow must not get a second beside it; one that hangs has to let go of the port.
            running = wait_for_answer(self._state_file, log_path=self._log_path)
        if running is None or self._differs():
            # A change of settings needs another process; the port stays, so the old one has to let go of it first.
            port = self._last_port() if self._settings.port == 0 else self._settings.port
            if running is not None:
                stop_server(running)
            self._start(port)
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
        server = self._server()
        return Reached(url=server.url, grpc=server.grpc, model_name=rollout.stable.model, server=server)

    @override
    def collect(self, rollout: Rollout) -> None:
        used = {_engine_name(part) for part in rollout.parts}
        for folder in (self._folder / "engines").glob("*"):
            if folder.name not in used:
                shutil.rmtree(folder, ignore_errors=True)

    @override
    def stop(self, *, forget: bool = True) -> None:
        running = self._find() or wait_for_answer(self._state_file, log_path=self._log_path)
        if running is not None:
            stop_server(running)
        if not forget:
            return
        for path in self._folder.glob("*"):
            # Requests that were kept belong to whoever watches the model, and the lock is being held.
            if path.name == "engines":
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file() and path.name != "lock":
                path.unlink(missing_ok=True)

    @override
    def look(self) -> Look:
        if self._find() is None:
            return Look(running=False, words="its process does not run")
        try:
            served = self._now()
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
        if (running := self._find()) is None:
            return {}
        found: dict[int, Counted] = {}
        with httpx.Client(base_url=running.url, timeout=10.0, trust_env=False) as client:
            for one in _routed(self._now()):
                path = f"/v2/models/{one.model}/versions/{one.address}/stats"
                said = client.get(path).raise_for_status().json()["model_stats"][0]
                found[one.ordinal] = _counted(said)
        return found

    # ------------------------------------------------------------------------------------------------- the process

    @property
    def _state_file(self) -> Path:
        return self._folder / "state.json"

    @property
    def _models_file(self) -> Path:
        return self._folder / "models.json"

    @property
    def _log_path(self) -> Path:
        return self._folder / "server.log"

    def _find(self) -> RunningServer | None:
        return find_server(self._state_file, log_path=self._log_path)

    def _server(self) -> RunningServer:
        if (running := self._find()) is None:
            raise EndpointError(
                f"the process of endpoint {self._endpoint!r} has ended; {self._log_path} says why. "
                f"Run `modelway endpoints reconcile {self._endpoint}`."
            )
        return running

    def _config(self, port: int) -> ServerConfig:
        kept = self._settings.model_dump(include={*_KEPT_FOR_LIFE, "log_share"})
        logs = self._folder / "requests" if self._settings.log_share else None
        return ServerConfig(
            **{**kept, "port": port},
            endpoint=self._endpoint,
            models_file=self._models_file,
            state_file=self._state_file,
            log_folder=logs,
        )

    def _written_config(self) -> ServerConfig | None:
        try:
            return ServerConfig.model_validate_json((self._folder / "server.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def _differs(self) -> bool:
        """Return whether the process was started with other settings than those wanted; a free port is any port."""
        written = self._written_config()
        if written is None:
            return True
        wanted = self._config(self._settings.port or written.port)
        kept = {*_KEPT_FOR_LIFE, "log_share", "log_folder"}
        return written.model_dump(include=kept) != wanted.model_dump(include=kept)

    def _last_port(self) -> int:
        """Return the port that the endpoint had, 0 where it had none: its address stays when its process does not."""
        last = self._folder / "port"
        return int(last.read_text()) if last.exists() else 0

    def _start(self, port: int) -> None:
        try:
            running = start_server(self._config(port), folder=self._folder)
        except EndpointError:
            if port in {0, self._settings.port}:
                raise
            running = start_server(self._config(0), folder=self._folder)  # somebody else has taken it meanwhile
        (self._folder / "port").write_text(running.url.rpartition(":")[2])

    # ------------------------------------------------------------------------------------------------ what it serves

    def _served(self, part: Part) -> ServedVersion:
        """Return a part as the server is told of it, its files fetched and verified."""
        name = _engine_name(part)
        if name not in self._fetched:
            folder = self._folder / "engines" / name
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
        known = {_opened(one) for one in _routed(self._now())}
        return [part for part in rollout.parts if _opened(self._served(part)) not in known]

    def _load_beside(self, part: Part) -> None:
        """Open a part under the name of a candidate; who asks for no version goes on being answered as before."""
        candidate = self._served(part).model_copy(update={"role": CANDIDATE, "share": 0.0})
        now = self._now()
        self._load(ServedModels(generation=now.generation, versions=(*_routed(now), candidate)))

    def _load(self, models: ServedModels) -> None:
        before = self._now()
        self._write(models)
        try:
            with self._control() as control:
                control.load(models.versions[0].model)
        except ProtocolError:
            self._write(before)  # what serves on is what the file says, also for a process that starts again
            raise

    def _compare(self, part: Part, samples: Samples, address: str) -> Parity:
        inputs, outputs = samples
        own = self._folder / "engines" / _engine_name(part) / GOLDEN_OUTPUTS
        if own.is_file():  # it rounds more than the model, and is held to what it gave when it was judged
            outputs = np.load(own, allow_pickle=False)
        with InferenceClient(self._server().url) as client:
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

    def _control(self) -> ControlClient:
        state = read_state(self._state_file)
        if state is None:
            raise EndpointError(f"the process of endpoint {self._endpoint!r} has ended.")
        return ControlClient(state.url, state.token)

    def _now(self) -> ServedModels:
        """Return what the process serves, by its own word: a file may have been written that it never read."""
        with self._control() as control:
            return control.served()

    def _write(self, models: ServedModels) -> None:
        staged = self._models_file.with_suffix(".tmp")
        staged.write_text(models.model_dump_json(indent=2) + "\n", encoding="utf-8")
        staged.replace(self._models_file)


def _routed(served: ServedModels) -> tuple[ServedVersion, ...]:
    return tuple(one for one in served.versions if one.role != CANDIDATE)


def _opened(one: ServedVersion) -> tuple[str, ...]:
    """Return what an open session is told apart by."""
    return one.model, one.version, one.digest, one.runtime, one.precision


def _engine_name(part: Part) -> str:
    """Return the name of a part's folder: the engine's key, or the version's own files by their sidecar's digest."""
    return f"{part.version}-{(part.variant or part.metadata_digest.removeprefix('sha256:'))[:32]}"


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
