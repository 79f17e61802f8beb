"""A version is optimised: engines are kept once, with the evidence of the choice, and nothing is lost on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import small_network

from registry import ModelRegistry, OptimizeSpec
from registry.engines.judgement import judgement_name
from registry.engines.spec import BatchRange
from registry.errors import EngineError, IntegrityError, InvalidInputError, NotFoundError
from registry.log import EventLog

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

CPU = OptimizeSpec(
    engines=("onnxruntime", "onnxruntime-int8"), batch_sizes=(1, 8), warmup=2, repetitions=20, resamples=50
)
INPUTS = small_network.samples()
LABELS = small_network.answers(INPUTS).argmax(axis=1)


@pytest.fixture
def net(on_disk: ModelRegistry) -> ModelRegistry:
    """Return a registry with a small network, v1 of ``net``, and the samples kept with it."""
    on_disk.register("net", model=small_network.network(), samples=INPUTS[:32])
    return on_disk


def optimize(registry: ModelRegistry, **more: Any) -> list[str]:
    """Optimise v1 on samples with labels; return what was told."""
    lines: list[str] = []
    wanted: dict[str, Any] = {"spec": CPU, "samples": INPUTS, "labels": LABELS, "score": small_network.accuracy}
    registry.optimize("net", 1, **{**wanted, **more}, report=lines.append)
    return lines


def everything(folder: Path) -> set[str]:
    """Return the files of the registry."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_evidence_says_what_was_tried_on_what_and_why_it_was_chosen(net: ModelRegistry) -> None:
    lines = optimize(net)
    choice, judgement = net.get_choice("net", 1), net.get_judgement("net", 1)

    assert lines[0] == "onnx: it computes what the model computes (largest difference 0), on 200 samples given"
    assert lines[-1] == choice.reason == judgement.reason
    assert judgement.chosen == choice.key
    assert (judgement.model, judgement.version, judgement.by) == ("net", "v1", "ada@example.com")
    assert OptimizeSpec.model_validate_json(json.dumps(judgement.spec)) == CPU
    assert (judgement.samples.count, judgement.samples.source) == (200, "given")
    assert (judgement.onnx.opset, judgement.onnx.ir_version) == (20, 10)
    assert [one.engine for one in judgement.candidates] == ["onnxruntime", "onnxruntime-int8"]
    assert judgement.baseline_score == 1.0
    whole, int8 = judgement.candidates
    assert (whole.score, whole.score_drop) == (1.0, 0.0)
    assert whole.parity is not None
    assert whole.parity.passed
    assert int8.score is not None
    assert int8.score_interval is not None
    assert int8.score_interval.low <= int8.score <= int8.score_interval.high
    assert int8.drop_interval is not None
    assert int8.drop_interval.low >= 0
    assert judgement.machine.cores >= 1
    assert net.get_judgement_plot("net", 1).startswith(b"\x89PNG")


def test_what_is_kept_is_whole_and_a_changed_byte_of_the_evidence_is_found(net: ModelRegistry, folder: Path) -> None:
    optimize(net)
    optimize(net)  # the evidence of the first choice stays
    assert net.verify().findings == ()
    assert net.gc(dry_run=False).removed == ()
    for name in ("judgement.json", "pareto.png"):
        for file in folder.rglob(name):
            before = file.read_bytes()
            file.write_bytes(before[:-2] + b"\0\0")
            found = [finding.file for finding in net.verify().findings]
            assert any(file.name in one for one in found), f"{file} was changed, and only {found} was found"
            file.write_bytes(before)
    digest = net.get_choice("net", 1).judgement
    assert digest is not None
    (last,) = folder.rglob(f"{judgement_name(digest)}/judgement.json")
    last.write_bytes(last.read_bytes().replace(b"onnxruntime", b"onnxrunlame"))
    with pytest.raises(IntegrityError):
        net.get_judgement("net", 1)


def test_a_version_that_was_not_optimised_says_so(net: ModelRegistry) -> None:
    with pytest.raises(NotFoundError, match="net:v1 has no judgement of engines: `modelway models optimize` makes one"):
        net.get_judgement("net", 1)
    assert net.find_judgement("net", 1) is None
    assert net.load_engine("net", 1).words == "it was not optimised"


def test_the_same_key_is_not_built_again_and_measured_anew(net: ModelRegistry, folder: Path) -> None:
    optimize(net)
    before = {one.key: one.report for one in net.get_variants("net", 1)}
    engines = {file: file.stat().st_mtime_ns for file in folder.rglob("variants/*/model.onnx")}
    lines = optimize(net)

    assert [line for line in lines if "was built before" in line] == [
        f"{engine}: it was built before, and is only measured" for engine in CPU.engines
    ]
    assert {one.key: one.report for one in net.get_variants("net", 1)} == before
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("variants/*/model.onnx")} == engines
    for candidate in net.get_judgement("net", 1).candidates:
        assert candidate.build_s == before[candidate.key].build_s


def test_other_calibration_data_gives_another_int8_engine_and_the_same_float_one(net: ModelRegistry) -> None:
    optimize(net, calibration=INPUTS[:50])
    optimize(net, calibration=INPUTS[50:])
    engines = sorted(one.report.engine for one in net.get_variants("net", 1))
    assert engines == ["onnxruntime", "onnxruntime-int8", "onnxruntime-int8"]


def test_without_samples_some_are_made_up_and_it_is_said(on_disk: ModelRegistry) -> None:
    on_disk.register("net", model=small_network.network())
    lines: list[str] = []
    on_disk.optimize("net", 1, spec=CPU, report=lines.append)
    assert lines[0].endswith("samples generated from the signature")
    assert on_disk.get_judgement("net", 1).samples.source == "generated from the signature"


def test_labels_that_do_not_fit_are_refused_and_nothing_is_kept(net: ModelRegistry, folder: Path) -> None:
    before = everything(folder)
    with pytest.raises(InvalidInputError, match="3 labels were given for 200 samples"):
        optimize(net, labels=LABELS[:3])
    assert everything(folder) == before


def test_a_batch_that_the_model_does_not_take_is_refused_with_what_to_write(
    on_disk: ModelRegistry, folder: Path
) -> None:
    model = small_network.network()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    on_disk.register("net", model=model)
    before = everything(folder)
    four = INPUTS[:200]
    with pytest.raises(
        EngineError, match=r"batches of 4 and no others .* asks for 1 to 64. Set batch: \{min: 4, opt: 4"
    ):
        on_disk.optimize("net", 1, spec=CPU, samples=four)
    assert everything(folder) == before
    fixed = CPU.model_copy(update={"batch": BatchRange(min=4, opt=4, max=4), "batch_sizes": (4,)})
    assert [one.report.status for one in on_disk.optimize("net", 1, spec=fixed, samples=four)] == ["measured"] * 2


def _race(folder: Path, start: Any) -> None:
    start.wait()
    optimize(ModelRegistry(folder, actor="ada@example.com"))


@pytest.mark.heavy
def test_two_builders_at_once_end_in_one_engine_each(net: ModelRegistry, folder: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(2)
    builders = [spawn.Process(target=_race, args=(folder, start)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(120)
    assert [builder.exitcode for builder in builders] == [0, 0]
    assert sorted(one.report.engine for one in net.get_variants("net", 1)) == ["onnxruntime", "onnxruntime-int8"]
    assert net.verify().findings == ()
    assert net.get_choice("net", 1).judgement is not None


def test_a_builder_that_died_with_other_bytes_in_place_is_told_of(
    net: ModelRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimize(net, spec=CPU.model_copy(update={"engines": ("onnxruntime",)}))
    (kept,) = net.get_variants("net", 1)
    net.register("net", model=small_network.network(), samples=INPUTS[:32])
    place = folder / "models" / "net" / "versions" / "v2" / "variants" / kept.key
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(b"half of an engine")
    monkeypatch.setattr("registry.deriving._OTHER_IS_WRITING_S", 1.0)
    before = everything(folder)

    with pytest.raises(EngineError, match="files of another builder are in its place, and that builder did not finish"):
        net.optimize("net", 2, spec=CPU.model_copy(update={"engines": ("onnxruntime",)}), samples=INPUTS)
    assert {file for file in everything(folder) - before if kept.key not in file} == set()
    assert (place / "model.onnx").read_bytes() == b"half of an engine"
    assert net.get_variants("net", 2) == []


def test_a_registry_that_is_slow_to_be_told_of_another_builders_engine_waits_for_it(
    net: ModelRegistry, folder: Path
) -> None:
    spec = CPU.model_copy(update={"engines": ("onnxruntime",)})
    optimize(net, spec=spec)
    net.register("net", model=small_network.network(), samples=INPUTS[:32])
    place = folder / "models" / "net" / "versions" / "v2" / "variants" / net.get_variants("net", 1)[0].key
    place.mkdir(parents=True)
    (place / "golden.npy").write_bytes(b"other bytes")
    other = threading.Timer(2.0, lambda: _finish(folder, place.name))
    other.start()
    lines: list[str] = []
    net.optimize("net", 2, spec=spec, samples=INPUTS, report=lines.append)
    other.join()
    assert "onnxruntime: another builder was first, and its engine is kept" in lines
    assert [one.key for one in net.get_variants("net", 2)] == [place.name]


def _finish(folder: Path, key: str) -> None:
    """Keep v1's engine beside v2, as a builder that was first would."""
    from registry.encoding import digest_of, readable_json
    from registry.events import VariantAdded
    from registry.machine import ModelMachine

    registry = ModelRegistry(folder)
    (variant,) = registry.get_variants("net", 1)
    data = readable_json(variant)
    registry.store.create(f"models/net/versions/v2/variants/{key}/metadata.json", data)
    log: EventLog[Any, Any] = EventLog(registry.store, "models/net/", ModelMachine())
    log.append(lambda _: VariantAdded(version="2", key=key, digest=digest_of(data)), actor="bob")


@pytest.mark.heavy
def test_killed_in_the_middle_the_version_is_unharmed_and_the_next_one_leaves_no_stray_files(
    net: ModelRegistry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    program = (
        "from registry import ModelRegistry, OptimizeSpec\n"
        f"ModelRegistry({str(folder)!r}).optimize('net', 1, spec=OptimizeSpec(engines=('onnxruntime',), "
        "batch_sizes=(1,), repetitions=10**8), report=lambda line: print(line, flush=True))"
    )
    before = everything(folder)
    builder = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(work)}, stdout=subprocess.PIPE, text=True
    )
    with builder:
        assert builder.stdout is not None
        assert any("building" in line for line in builder.stdout)
        candidates = _wait_for_children(builder.pid)
        builder.send_signal(signal.SIGKILL)
    for candidate in candidates:
        candidate.kill()
        candidate.wait()
    assert everything(folder) == before
    assert list(work.iterdir()), "a process that is killed removes nothing"

    monkeypatch.setattr(tempfile, "tempdir", str(work))
    optimize(net)
    assert list(work.iterdir()) == []
    assert net.verify().findings == ()


def _wait_for_children(pid: int) -> list[psutil.Process]:
    for _ in range(200):
        if found := psutil.Process(pid).children(recursive=True):
            return found
        threading.Event().wait(0.1)
    return []


def test_a_full_disk_is_told_and_leaves_nothing(
    net: ModelRegistry, folder: Path, full_disk: Callable[[], None]
) -> None:
    before = everything(folder)
    full_disk()
    with pytest.raises(EngineError, match=r"the engines of net:v1 could not be built: .* Make room there, or name"):
        optimize(net, samples=np.repeat(INPUTS, 500, axis=0), labels=np.repeat(LABELS, 500))
    assert everything(folder) == before


@pytest.fixture
def full_disk() -> Any:
    """Return what makes every file of this process end at 1 MB, as a full disk would; undone after the test."""
    import resource

    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, kept[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, kept)
