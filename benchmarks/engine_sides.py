"""The engines that are compared: which there are on this machine, what modelway chooses, and a process for each."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from benchmarks.contestants import ROOT, Numbers, SideFailed
from benchmarks.networks import BY_NAME
from benchmarks.sides.engines import NAME, OUTPUTS, SAMPLES, VERSION, Kind, Task
from registry import ModelRegistry
from registry.engines.gpu import find_gpu
from registry.engines.spec import BatchRange, Calibration, EngineName, OptimizeSpec
from registry.errors import ModelwayError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.engines.judgement import Judgement

EAGER, COMPILED = "torch eager", "torch.compile"
WE, WE_BY_COSINE = "what modelway chooses", "what modelway chooses, by cosine alone"
OPEN_LIMIT_S, ANSWER_LIMIT_S = 400.0, 200.0


@dataclass(frozen=True)
class Effort:
    """How much is spent on a network: samples to judge and to calibrate by, calls, seconds for one turn, rounds."""

    samples: int
    calibration: int
    repetitions: int
    turn_s: float
    rounds: int = 5


EFFORTS = {
    "digits": Effort(samples=256, calibration=128, repetitions=200, turn_s=0.2),
    "resnet50": Effort(samples=32, calibration=32, repetitions=9, turn_s=0.6),
    "bert-base": Effort(samples=16, calibration=16, repetitions=5, turn_s=0.6),
}
QUICK = Effort(samples=8, calibration=8, repetitions=3, turn_s=0.01, rounds=1)


@dataclass(frozen=True)
class Setting:
    """What one table is about."""

    network: str
    batch: int
    threads: int

    def __str__(self) -> str:
        """Return it as the title of its table."""
        return f"{self.network}, batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"


def engines_here(*, aot: bool) -> tuple[EngineName, ...]:
    """Return the engines that can run on this machine with what is installed; ``aot`` asks for AOTInductor's too."""
    if find_gpu() is not None:
        return ("onnxruntime", "aotinductor", "tensorrt", "tensorrt-tf32", "tensorrt-fp16", "tensorrt-int8")
    found: list[EngineName] = ["onnxruntime", "onnxruntime-int8"]
    if importlib.util.find_spec("openvino"):
        found += ["openvino", "openvino-bf16", "openvino-int8"]
    return (*found, "aotinductor") if aot else tuple(found)


class EngineProcess:
    """A process that has opened one engine, and times it each time it is asked."""

    def __init__(self, who: str, task: Task) -> None:
        """Start it and wait until it is open.

        Raises:
            SideFailed: It ended, or took too long.
        """
        self._who, self.folder = who, Path(task.folder)
        self.folder.mkdir(parents=True)
        self._log = self.folder / "log.txt"
        threads = str(task.threads)
        # Of its own, so that the time to compile is not that of finding what an earlier run compiled.
        own = {"OMP_NUM_THREADS": threads, "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "inductor")}
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.sides.engines", task.as_argument()],
                cwd=ROOT,
                env={**os.environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._to, self._from = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        try:
            answer = self._hear(OPEN_LIMIT_S)
        except BaseException:
            self.close()
            raise
        self.open_s, self.words = float(answer["open_s"]), str(answer["words"])
        if task.kind == "compile":
            self.words = f"compiled for {len(task.batches)} batch sizes in {self.open_s:.0f} s"

    @property
    def outputs(self) -> NDArray[Any]:
        """Its answers to all samples, shape (n, ...)."""
        found: NDArray[Any] = np.load(self.folder / OUTPUTS, allow_pickle=False)
        return found

    def measure(self, batch: int, seconds: float) -> Numbers:
        """Have it time one batch size for so many seconds.

        Raises:
            SideFailed: It ended, or took too long.
        """
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said last is told when it is heard
            self._to.write(json.dumps({"batch": batch, "seconds": seconds}) + "\n")
            self._to.flush()
        return self._hear(ANSWER_LIMIT_S + seconds)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        with contextlib.suppress(OSError):
            self._process.__exit__(None, None, None)

    def _hear(self, limit_s: float) -> dict[str, Any]:
        watch = threading.Timer(limit_s, self._process.kill)
        watch.start()
        try:
            line = self._from.readline()
        finally:
            watch.cancel()
        if not line:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            how = f"ended with {self._process.wait()} (or was not done within {limit_s:.0f} s)"
            raise SideFailed(f"{self._who}: {how}: {said[-1] if said else 'it said nothing'}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Bench:
    """The processes of one network and number of threads, and what modelway chose for each batch size.

    ``failed`` has the reason of each that could not be opened; ``choices`` the name of the process that answers for our
    choice at a batch size, and the reason that the registry gave.
    """

    network: str
    threads: int
    batches: tuple[int, ...]
    effort: Effort
    folder: Path
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        """Begin with nothing open."""
        self.processes: dict[str, EngineProcess] = {}
        self.failed: dict[str, str] = {}
        self.choices: dict[tuple[str, int], tuple[str, str]] = {}
        network: Any = BY_NAME[self.network]()
        self._network, self._samples = network, network.samples(self.effort.samples, 1)
        self._calibration = network.samples(self.effort.calibration, 2)
        np.save(self.folder / SAMPLES, self._samples, allow_pickle=False)
        self._models = ModelRegistry(str(self.folder / "registry"))

    def close(self) -> None:
        """End every process."""
        for process in self.processes.values():
            process.close()

    def open_all(self, *, aot: bool) -> None:
        """Have the registry choose for each batch size, and open everything that is compared.

        Raises:
            SideFailed: The original could not be opened.
        """
        self._open(EAGER, "eager")
        if EAGER in self.failed:
            raise SideFailed(self.failed[EAGER])
        self._open(COMPILED, "compile")
        self._models.register(NAME, model=self._network, samples=self._samples[:2])
        for size in self.batches:
            try:
                self._choose(size, self._spec(size, aot=aot))
            except ModelwayError as refusal:
                self.failed[WE] = str(refusal)
                self.choices[WE, size] = WE, ""

    def _choose(self, size: int, spec: OptimizeSpec) -> None:
        judged = self._optimized(spec)
        self._open_choice(WE, size, judged)
        if size == self.batches[0]:
            self._open_engines(judged)
        if _only_classes_differ(judged, spec):
            self._open_choice(WE_BY_COSINE, size, self._optimized(spec.model_copy(update={"min_agreement": 0.0})))

    def _spec(self, size: int, *, aot: bool) -> OptimizeSpec:
        return OptimizeSpec(
            engines=engines_here(aot=aot),
            batch=BatchRange(min=1, opt=max(self.batches), max=max(16, *self.batches)),
            batch_sizes=(size,),
            threads=(self.threads,),
            warmup=1,
            repetitions=self.effort.repetitions,
            calibration=Calibration(samples=self.effort.calibration),
            time_limit_s=300,
        )

    def _optimized(self, spec: OptimizeSpec) -> Judgement:
        self._models.optimize(
            NAME,
            VERSION,
            spec=spec,
            samples=self._samples,
            calibration=self._calibration,
            report=lambda line: self.say(f"  {line}"),
        )
        return self._models.get_judgement(NAME, VERSION)

    def _open_choice(self, who: str, size: int, judged: Judgement) -> None:
        """Open what the registry serves now; it is asked for by whoever serves, so not by the engine's key."""
        name = f"{who} ({_engine_of(judged)})"
        self.choices[who, size] = name, judged.reason
        self._open(name, "chosen")

    def _open_engines(self, judged: Judgement) -> None:
        kinds: dict[str, Kind] = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
        for one in judged.candidates:
            if one.status != "measured":
                self.failed[one.engine] = (one.reason or one.status).splitlines()[0]
                continue
            self._open(one.engine, kinds.get(one.engine.partition("-")[0], "kept"), one.key)

    def _open(self, who: str, kind: Kind, key: str = "") -> None:
        if who in self.processes or who in self.failed:
            return
        self.say(f"  opening {who}")
        task = Task(
            kind=kind,
            network=self.network,
            threads=self.threads,
            batches=self.batches,
            folder=str(self.folder / f"process-{len(self.processes) + len(self.failed)}"),
            samples=str(self.folder / SAMPLES),
            registry=str(self.folder / "registry"),
            key=key,
        )
        try:
            self.processes[who] = EngineProcess(who, task)
        except SideFailed as failure:
            self.failed[who] = str(failure)


def _engine_of(judged: Judgement) -> str:
    return next((one.engine for one in judged.candidates if one.key == judged.chosen), "as registered")


def _only_classes_differ(judged: Judgement, spec: OptimizeSpec) -> bool:
    """Return whether a faster engine than the chosen one was refused though its outputs point where they should."""
    size = spec.batch_sizes[0]
    times = {one.key: found.p50_ms for one in judged.candidates if (found := one.latency_at(size))}
    refused = [
        one.key
        for one in judged.candidates
        if one.parity is not None and not one.parity.passed and (one.parity.cosine or 0.0) >= spec.min_cosine
    ]
    limit = times.get(judged.chosen or "", float("inf"))
    return any(times.get(key, float("inf")) < limit for key in refused)
