"""Torch programs compiled ahead of time by TorchInductor: machine code for this kind of processor, or this GPU."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from registry.engines.backends import Call, own_key
from registry.engines.backends.onnx_files import digest_of_file
from registry.engines.batches import batch_of
from registry.engines.job import Job
from registry.engines.key import EngineKey, InductorKey, this_machine
from registry.errors import EngineError, NotHereError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "model.pt2"


def missing(job: Job) -> str | None:
    """Return in words what a compilation lacks: a torch program, or a C++ compiler; or None."""
    if job.program is None:
        return "AOTInductor compiles torch modules, and this version is none"
    if _compiler() is None:
        return "AOTInductor needs a C++ compiler, and none is on the path: apt install g++, or name one in CXX"
    return None


def key_of(job: Job) -> InductorKey:
    """Return the key of the engine that ``build`` builds."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    _, target, gpu_name = target_here(device)
    machine = this_machine()
    return InductorKey(
        onnx_sha256=job.onnx.sha256,
        program_sha256=digest_of_file(_program(job)),
        version=torch.__version__,
        os=machine.os,
        arch=machine.arch,
        device=device,
        target=target,
        gpu_name=gpu_name,
        compiler=_compiler() or "",
        batch=(job.spec.batch.min, job.spec.batch.max),
    )


def _program(job: Job) -> Path:
    if job.program is None:
        raise EngineError(f"{missing(job)}.")
    return job.program


def target_here(device: str) -> tuple[str, str, str | None]:
    """Return device, target and name of the GPU as a key has them: what code compiled here is for."""
    if device == "cuda":
        if not torch.cuda.is_available():
            return device, "no GPU", None
        major, minor = torch.cuda.get_device_capability()
        return device, f"{major}.{minor}", torch.cuda.get_device_name()
    return device, torch.backends.cpu.get_cpu_capability(), None


def build(job: Job, key: EngineKey) -> str:
    """Compile the program into the engine's folder.

    Raises:
        EngineError: Inductor or the C++ compiler refuses it.
    """
    from torch._inductor import aoti_compile_and_package

    from registry.frameworks.torch_program import read_program

    own = own_key(key, InductorKey)
    with _caches_in(job.folder / "inductor"):
        program = read_program(_program(job))
        samples = np.load(job.samples, allow_pickle=False)
        # Programs are kept without examples, and Inductor asks for one.
        example = batch_of(samples, max(2, job.spec.batch.min) if job.spec.batch.max > 1 else 1)
        program.example_inputs = ((torch.from_numpy(example),), {})
        try:
            if own.device == "cuda":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, "cuda")
            aoti_compile_and_package(program, package_path=str(job.engine_folder / FILE_NAME))
        except Exception as refusal:
            why = " ".join(str(refusal).split())[:400]
            raise EngineError(f"AOTInductor cannot compile {job.onnx.path.name}: {why}") from refusal
    return FILE_NAME


def open_engine(file: Path, key: EngineKey, *, threads: int) -> Call:
    """Load machine code that was checked.

    Raises:
        NotHereError: It was compiled for a GPU, and torch finds none.
        EngineError: torch cannot load it.
    """
    from torch._inductor import aoti_load_package

    own = own_key(key, InductorKey)
    if own.device == "cuda" and not torch.cuda.is_available():
        raise NotHereError("it was compiled for an NVIDIA GPU, and torch finds none.")
    torch.set_num_threads(threads)
    try:
        loaded = aoti_load_package(str(file))
    except Exception as refusal:
        raise EngineError(
            f"torch cannot load the compiled program: {' '.join(str(refusal).split())[:400]}"
        ) from refusal

    def call(batch: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found = loaded(torch.from_numpy(np.ascontiguousarray(batch)).to(own.device))
        first = found[0] if isinstance(found, (list, tuple)) else found
        outputs: NDArray[Any] = first.cpu().numpy()
        return outputs

    return call


def _compiler() -> str | None:
    """Return the first line that the C++ compiler says of itself, None where there is none."""
    from torch._inductor import config

    named = config.cpp.cxx if isinstance(config.cpp.cxx, (list, tuple)) else (config.cpp.cxx,)
    found = next((path for name in named if name and (path := shutil.which(name))), None)
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return (said.splitlines() or [found])[0]


@contextmanager
def _caches_in(folder: Path) -> Iterator[None]:
    """Keep what Inductor writes beside the engine, in a folder that goes with the candidate's."""
    from torch._inductor.utils import fresh_cache

    folder.mkdir(parents=True, exist_ok=True)
    with fresh_cache(dir=str(folder)):
        yield
