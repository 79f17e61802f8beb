"""Every backend that a CPU can run, tried for real on a small network."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args

import numpy as np
import onnx as onnx_package
import onnxruntime
import openvino
import pytest
import torch

from registry.engines.backends import backend_of, family_of, is_exact, own_key, precision_of
from registry.engines.backends.aotinductor import target_here
from registry.engines.backends.onnx_files import digest_of_file
from registry.engines.backends.openvino import has_bf16
from registry.engines.candidate import try_candidate
from registry.engines.job import GOLDEN_OUTPUTS, Job
from registry.engines.key import InductorKey, OnnxRuntimeKey, OpenVinoKey, engine_key, mismatch, this_machine
from registry.engines.onnx_file import check_onnx
from registry.engines.parity import compare, compare_loosely
from registry.engines.program import export_program
from registry.engines.spec import Calibration, EngineName
from registry.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from registry.engines.records import OnnxModel, VariantReport
    from registry.engines.spec import OptimizeSpec

    JobFor: TypeAlias = Callable[[EngineName], Job]

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

ON_CPU: tuple[EngineName, ...] = ("onnxruntime-int8", "openvino", "openvino-bf16", "openvino-int8")


class Tried(NamedTuple):
    """A candidate that was tried with two numbers of threads and golden samples, and what became of it."""

    job: Job
    report: VariantReport

    @property
    def outputs(self) -> NDArray[Any]:
        """Return its outputs for the samples."""
        found: NDArray[Any] = np.load(self.job.outputs, allow_pickle=False)
        return found


@pytest.fixture(scope="module", params=ON_CPU)
def tried(
    request: pytest.FixtureRequest,
    onnx: OnnxModel,
    samples: NDArray[np.float32],
    spec: OptimizeSpec,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tried:
    """Try one engine; the samples are at the same time what it is calibrated on, and what was kept with the version."""
    if request.param == "openvino-bf16" and not has_bf16():
        pytest.skip("this processor does not compute in bfloat16")
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "samples.npy"
    np.save(file, samples, allow_pickle=False)
    job = Job(
        engine=request.param,
        onnx=onnx,
        samples=file,
        calibration=file,
        golden=file,
        folder=folder / "job",
        spec=spec.model_copy(update={"threads": (1, 2)}),
    )
    return Tried(job, try_candidate(job))


def test_a_candidate_runs_and_is_close_to_the_original(tried: Tried, reference: NDArray[Any]) -> None:
    assert (tried.report.status, tried.report.reason, tried.report.file) == ("measured", "", "model.onnx")
    if is_exact(tried.job.engine):
        parity = compare(reference, tried.outputs, atol=1e-5, rtol=1e-5)
    else:
        parity = compare_loosely(reference, tried.outputs, min_cosine=0.999, min_agreement=0.98)
        assert not np.array_equal(tried.outputs, reference)
    assert parity.passed, parity.reason


def test_a_quantised_engine_holds_quantised_operators_and_an_exact_one_the_onnx_itself(tried: Tried) -> None:
    file = tried.job.engine_folder / "model.onnx"
    operators = {node.op_type for node in onnx_package.load(str(file)).graph.node}
    assert ("QuantizeLinear" in operators) == (precision_of(tried.job.engine) == "int8")
    quantised = precision_of(tried.job.engine) == "int8"
    assert (file.read_bytes() == tried.job.onnx.path.read_bytes()) != quantised


def test_every_number_of_threads_is_measured_at_every_batch_size_and_the_first_one_serves(tried: Tried) -> None:
    measured = [(latency.threads, latency.batch) for latency in tried.report.latency]
    assert measured == [(1, 1), (1, 8), (2, 1), (2, 8)]
    assert all(0 < latency.p50_ms <= latency.p99_ms for latency in tried.report.latency)
    at_8 = tried.report.latency_at(8)
    assert at_8 is not None
    assert at_8.threads == 1


def test_the_key_says_how_it_was_quantised_and_on_what(tried: Tried) -> None:
    fields = tried.report.key_fields
    assert tried.report.key == engine_key(fields)
    assert fields["onnx_sha256"] == tried.job.onnx.sha256
    assert mismatch(fields) is None
    assert (fields["threads"] if family_of(tried.job.engine) == "openvino" else fields["session"]["threads"]) == 1
    expected = {
        "tool": f"onnxruntime {onnxruntime.__version__}",
        "scheme": "u8s8, weights of 7 bits, per channel",
        "method": "minmax",
        "calibration_sha256": digest_of_file(tried.job.calibration),
    }
    assert fields["quantization"] == (expected if precision_of(tried.job.engine) == "int8" else None)
    if family_of(tried.job.engine) == "openvino":
        assert fields["precision"] == ("bf16" if precision_of(tried.job.engine) == "bf16" else "f32")


def test_the_answers_to_the_golden_samples_lie_beside_the_engine(tried: Tried) -> None:
    golden = tried.job.engine_folder / GOLDEN_OUTPUTS
    np.testing.assert_array_equal(np.load(golden, allow_pickle=False), tried.outputs)
    assert sorted(path.name for path in tried.job.engine_folder.iterdir()) == [GOLDEN_OUTPUTS, "model.onnx"]


def test_without_golden_samples_there_are_no_golden_answers(job_for: JobFor) -> None:
    job = job_for("openvino")
    assert try_candidate(job).status == "measured"
    assert [path.name for path in job.engine_folder.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("engine", ["onnxruntime-int8", "openvino-int8"])
def test_other_calibration_gives_another_key(
    job_for: JobFor, samples: NDArray[np.float32], tmp_path: Path, engine: EngineName
) -> None:
    job = job_for(engine)
    other = tmp_path / "other.npy"
    np.save(other, samples[:69], allow_pickle=False)
    by_percentile = job.spec.model_copy(update={"calibration": Calibration(method="percentile")})
    jobs = (job, job.model_copy(update={"calibration": other}), job.model_copy(update={"spec": by_percentile}))
    keys = [engine_key(backend_of(engine).key_of(one).model_dump(mode="json")) for one in jobs]
    assert len(set(keys)) == 3
    assert keys[0] == engine_key(backend_of(engine).key_of(job_for(engine)).model_dump(mode="json"))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_that_is_not_calibrated_does_not_ask_on_what(
    job_for: JobFor, tmp_path: Path, engine: EngineName
) -> None:
    job = job_for(engine)
    elsewhere = job.model_copy(update={"calibration": tmp_path / "not there.npy"})
    assert backend_of(engine).key_of(job) == backend_of(engine).key_of(elsewhere)


def test_every_engine_that_can_be_asked_for_has_a_backend() -> None:
    for engine in get_args(EngineName):
        backend = backend_of(engine)
        assert all(callable(getattr(backend, name)) for name in ("missing", "key_of", "build", "open_engine"))


def test_a_key_of_another_backend_is_refused_and_nothing_is_built(job_for: JobFor) -> None:
    job = job_for("openvino")
    other = backend_of("onnxruntime").key_of(job)
    job.engine_folder.mkdir(parents=True)
    with pytest.raises(EngineError, match="this is the key of an engine of onnxruntime, and a OpenVinoKey is asked"):
        backend_of("openvino").build(job, other)
    assert list(job.engine_folder.iterdir()) == []
    assert own_key(other, OnnxRuntimeKey) is other


def test_openvino_refuses_what_does_not_fit_in_words_and_serves_on(
    job_for: JobFor, samples: NDArray[np.float32], reference: NDArray[Any]
) -> None:
    job, backend = job_for("openvino"), backend_of("openvino")
    call = backend.open_engine(job.onnx.path, backend.key_of(job), threads=1)
    for wrong in (samples[:2, :, :7], samples[:2].reshape(2, -1)):
        with pytest.raises(EngineError, match="OpenVINO could not run the model: "):
            call(wrong)
    first, _ = call(samples[:3]), call(samples[3:6])
    np.testing.assert_allclose(first, reference[:3], atol=1e-5)  # a later call does not write into earlier answers


# ------------------------------------------------------------------------------------------------------ not installed


def _without(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a package look as if it were not installed in every process that is started."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(":"))


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_openvino_that_is_not_installed_is_unavailable_with_the_extra_to_install(
    job_for: JobFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    _without("openvino", tmp_path / "hidden", monkeypatch)
    job = job_for(engine)
    report = try_candidate(job)
    assert report.status == "unavailable"
    assert report.reason == (
        "an OpenVINO engine needs openvino, which is not installed: pip install 'modelway[openvino]'"
    )
    assert (report.file, report.latency, report.build_s) == (None, (), None)
    assert not job.engine_folder.exists()


def test_an_openvino_engine_does_not_fit_where_openvino_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without("openvino", tmp_path / "hidden", monkeypatch)
    code = (
        "import sys; from registry.engines.key import *\n"
        "print(mismatch(OpenVinoKey.model_validate_json(sys.argv[1]).model_dump(mode='json')))"
    )
    command = [sys.executable, "-c", code, _openvino_key().model_dump_json()]
    said = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
    assert said.strip() == f"it was built with openvino {openvino.__version__}, here is none"


def test_a_model_without_a_torch_program_is_not_for_aotinductor(job_for: JobFor) -> None:
    job = job_for("aotinductor")
    report = try_candidate(job)
    assert report.status == "unavailable"
    assert report.reason == "AOTInductor compiles torch modules, and this version is none"
    assert not job.engine_folder.exists()
    with pytest.raises(EngineError, match="this version is none"):
        backend_of("aotinductor").key_of(job)


def test_without_a_compiler_aotinductor_is_unavailable_and_says_what_to_install(
    job_for: JobFor, onnx: OnnxModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    monkeypatch.delenv("CXX", raising=False)
    # Before it looks into the program, so any file will do for one.
    job = job_for("aotinductor").model_copy(update={"program": onnx.path})
    report = try_candidate(job)
    assert report.status == "unavailable"
    assert report.reason == (
        "AOTInductor needs a C++ compiler, and none is on the path: apt install g++, or name one in CXX"
    )
    assert not job.engine_folder.exists()


# -------------------------------------------------------------------------------------------------------- AOTInductor


def test_the_same_module_gives_the_same_program_and_one_of_other_weights_another(
    net: torch.nn.Module, samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> None:
    first, second = (
        digest_of_file(export_program(net, samples, tmp_path / name, spec=spec)) for name in ("first", "second")
    )
    assert first == second
    other = type(net)().eval()
    assert digest_of_file(export_program(other, samples, tmp_path / "other", spec=spec)) != first


def test_a_module_that_torch_cannot_export_is_refused_in_words(
    samples: NDArray[np.float32], spec: OptimizeSpec, tmp_path: Path
) -> None:
    class Deciding(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(EngineError, match=r"Deciding cannot be exported by torch\.export: "):
        export_program(Deciding(), samples, tmp_path / "program", spec=spec)
    assert list((tmp_path / "program").iterdir()) == []


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="what is asserted is the key of a CPU")
def test_a_torch_program_is_compiled_for_this_processor_and_answers_alike(
    job_for: JobFor, net: torch.nn.Module, samples: NDArray[np.float32], reference: NDArray[Any], tmp_path: Path
) -> None:
    # 60 s where it was written: two processes of g++ at -O3.
    job = job_for("aotinductor")
    spec = job.spec.model_copy(update={"time_limit_s": 500, "threads": (1, 2)})
    program = export_program(net, samples, tmp_path / "program", spec=spec)
    job = job.model_copy(update={"spec": spec, "program": program, "golden": job.samples})
    report = try_candidate(job)
    assert (report.status, report.reason, report.file) == ("measured", "", "model.pt2")
    outputs = np.load(job.outputs, allow_pickle=False)
    parity = compare(reference, outputs, atol=1e-5, rtol=1e-5)
    assert parity.passed, parity.reason
    assert [(latency.threads, latency.batch) for latency in report.latency] == [(1, 1), (1, 8), (2, 1), (2, 8)]
    np.testing.assert_array_equal(np.load(job.engine_folder / GOLDEN_OUTPUTS, allow_pickle=False), outputs)
    # What the compiler wrote on its way is not part of the engine.
    assert sorted(path.name for path in job.engine_folder.iterdir()) == [GOLDEN_OUTPUTS, "model.pt2"]
    fields = report.key_fields
    assert report.key == engine_key(fields)
    assert (fields["version"], fields["device"]) == (torch.__version__, "cpu")
    assert fields["target"] == torch.backends.cpu.get_cpu_capability()
    assert "g++" in fields["compiler"] or "clang" in fields["compiler"]
    assert fields["program_sha256"] == digest_of_file(program)
    assert fields["batch"] == [1, 64]
    assert mismatch(fields) is None


# ---------------------------------------------------------------------------------------------------- other machines


def _openvino_key(**changed: Any) -> OpenVinoKey:
    here = this_machine()
    fields = {
        "onnx_sha256": "a" * 64,
        "version": openvino.__version__,
        "os": here.os,
        "arch": here.arch,
        "threads": 1,
    }
    return OpenVinoKey(**{**fields, **changed})


def _inductor_key(**changed: Any) -> InductorKey:
    here = this_machine()
    fields = {
        "onnx_sha256": "a" * 64,
        "program_sha256": "b" * 64,
        "version": torch.__version__,
        "os": here.os,
        "arch": here.arch,
        "device": "cpu",
        "target": target_here("cpu")[1],
        "compiler": "g++ (any) 1.0",
        "batch": (1, 64),
    }
    return InductorKey(**{**fields, **changed})


def test_what_was_made_on_this_machine_fits_it() -> None:
    assert mismatch(_openvino_key().model_dump(mode="json")) is None
    assert mismatch(_inductor_key().model_dump(mode="json")) is None
    # The compiler made the machine code and is not needed to run it.
    assert mismatch(_inductor_key(compiler="another").model_dump(mode="json")) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"target": "AVX1024"}, "it was compiled for AVX1024 (cpu), this machine has "),
        ({"version": "2.12.0"}, f"it was built with torch 2.12.0, here is {torch.__version__}"),
        ({"arch": "vax"}, f"it was built for {this_machine().os} on vax, this is "),
        ({"device": "cuda", "target": "9.9", "gpu_name": "H999"}, "it was compiled for 9.9 (cuda), this machine has "),
    ],
)
def test_a_compiled_program_of_another_processor_or_torch_is_refused_in_words(
    changed: dict[str, Any], words: str
) -> None:
    assert words in (mismatch(_inductor_key(**changed).model_dump(mode="json")) or "")


def test_an_openvino_engine_of_another_release_is_refused_in_words() -> None:
    found = mismatch(_openvino_key(version="2024.0.0").model_dump(mode="json"))
    assert found == f"it was built with openvino 2024.0.0, here is {openvino.__version__}"


def test_an_operator_that_a_backend_does_not_know_is_named(job_for: JobFor, tmp_path: Path) -> None:
    node = onnx_package.helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0] * 4, scale=[2.0] * 4)
    values = [
        onnx_package.helper.make_tensor_value_info(name, onnx_package.TensorProto.FLOAT, ["n", 4]) for name in "xy"
    ]
    graph = onnx_package.helper.make_graph([node], "scaled", values[:1], values[1:])
    opsets = [onnx_package.helper.make_opsetid("", 20), onnx_package.helper.make_opsetid("ai.onnx.ml", 3)]
    onnx_package.save(onnx_package.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    job = job_for("openvino").model_copy(update={"onnx": check_onnx(tmp_path / "m.onnx")})
    tried = try_candidate(job)
    assert tried.status == "failed"
    assert "No conversion rule found for operations: ai.onnx.ml.Scaler" in tried.reason
