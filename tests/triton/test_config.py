"""What is written for Triton: the configuration of a version, by the engine and its tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from small_network import samples
from triton_parts import ENGINE_OF_A_GPU, part_of
from tritonclient.grpc import model_config_pb2

from registry.endpoints.triton.config import (
    Labels,
    ServingOptions,
    max_batch_of,
    read_labels,
    warmup_samples,
    write_config,
)
from registry.errors import EndpointError, InvalidInputError
from registry.signature import Signature, TensorSpec

LABELS = Labels(
    registry="7d9f0c2a",
    endpoint="shop",
    number=3,
    version="v3",
    digest="ab" * 32,
    metadata_digest="sha256:00",
    variant="",
)


def _config(part: Any, **options: Any) -> Any:
    written = write_config("digits", part, labels=LABELS, options=ServingOptions(**options))
    return text_format.Parse(written.decode(), model_config_pb2.ModelConfig())


def _signature(inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], dtype: str = "float32") -> Any:
    specs = [tuple(TensorSpec(name=n, dtype=dtype, shape=s) for n, s in side.items()) for side in (inputs, outputs)]
    return Signature(inputs=specs[0], outputs=specs[1])


def test_a_version_is_described_to_triton_with_everything_that_it_serves_it_by() -> None:
    config = _config(part_of(3), instances=2, device="cpu", max_batch=8, max_delay_ms=1.5)
    assert (config.name, config.backend, config.default_model_filename) == ("digits", "onnxruntime", "model.onnx")
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("x", model_config_pb2.TYPE_FP32, [16])
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("y", model_config_pb2.TYPE_FP32, [4])
    ]
    assert config.max_batch_size == 8
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert [(one.count, one.kind) for one in config.instance_group] == [
        (2, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    ]
    assert list(config.version_policy.specific.versions) == [3]
    [warmup] = config.model_warmup
    assert (warmup.batch_size, list(warmup.inputs["x"].dims)) == (1, [16])
    assert warmup.inputs["x"].input_data_file == "3.input"


def test_the_same_version_is_always_described_in_the_same_bytes() -> None:
    first, second = (write_config("digits", part_of(3), labels=LABELS, options=ServingOptions()) for _ in range(2))
    assert first == second


def test_what_is_loaded_says_whose_it_is() -> None:
    assert read_labels(_config(part_of(3)).parameters) == LABELS


def test_a_model_of_somebody_else_has_no_labels_of_ours() -> None:
    config = _config(part_of(3))
    del config.parameters["modelway.digest"]
    assert read_labels(config.parameters) is None
    assert read_labels({}) is None


@pytest.mark.parametrize(
    ("engine", "backend", "file", "outputs"),
    [
        ("onnxruntime-int8", "onnxruntime", "model.onnx", {"y": (-1, 4)}),
        ("tensorrt-fp16", "tensorrt", "model.plan", {"y": (-1, 4)}),
        ("torchscript", "pytorch", "model.pt", {"y__0": (-1, 4)}),
    ],
)
def test_the_engine_says_which_backend_opens_which_file(
    engine: str, backend: str, file: str, outputs: dict[str, tuple[int, ...]]
) -> None:
    config = _config(part_of(3, engine=engine, signature=_signature({"x": (-1, 16)}, outputs)))
    assert (config.backend, config.default_model_filename) == (backend, file)


def test_a_torchscript_output_without_its_place_is_refused() -> None:
    part = part_of(3, engine="torchscript")
    with pytest.raises(EndpointError, match=r"output 0 is called 'y'\. Call it y__0\."):
        _config(part)


def test_an_engine_without_a_backend_is_refused() -> None:
    with pytest.raises(EndpointError, match="Triton has no backend for the engine openvino-int8: it opens onnxruntime"):
        _config(part_of(3, engine="openvino-int8"))


def test_tensors_that_are_not_known_are_asked_for() -> None:
    with pytest.raises(EndpointError, match="the inputs and outputs of its engine onnxruntime are not known"):
        _config(part_of(3, signature=None))


def test_text_is_no_tensor_that_is_served() -> None:
    with pytest.raises(InvalidInputError, match="a tensor of object cannot be sent"):
        _config(part_of(3, signature=_signature({"x": (-1, 16)}, {"y": (-1, 4)}, dtype="object")))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": (8, 16)}, {"y": (8, 4)}),
        ({"x": (-1, 16)}, {"y": (4,)}),
        ({"x": (-1, 16)}, {"label": (-1,)}),
        ({"x": (-1, 16), "scale": (1,)}, {"y": (-1, 4)}),
    ],
)
def test_without_a_batch_axis_on_all_tensors_shapes_are_whole_and_nothing_is_batched(
    inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]
) -> None:
    config = _config(part_of(3, signature=_signature(inputs, outputs)))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert [tuple(one.dims) for one in (*config.input, *config.output)] == [*inputs.values(), *outputs.values()]


def test_a_single_number_is_asked_for_as_a_tensor() -> None:
    part = part_of(3, signature=_signature({"x": (-1, 16), "scale": ()}, {"y": (-1, 4)}))
    with pytest.raises(EndpointError, match=r"scale is a single number.*Give it the shape \(1,\)\."):
        _config(part)


def test_a_batch_is_never_larger_than_the_engine_was_built_for() -> None:
    part = part_of(3, engine="tensorrt-fp16", key_fields=ENGINE_OF_A_GPU)
    assert max_batch_of(part, ServingOptions(max_batch=64)) == 16
    assert max_batch_of(part, ServingOptions(max_batch=4)) == 4
    assert max_batch_of(part, ServingOptions(max_batch=0)) == 0


def test_a_model_of_fixed_batches_is_warmed_up_with_a_whole_one() -> None:
    part = part_of(3, signature=_signature({"x": (64, 16)}, {"y": (64, 4)}))
    found = warmup_samples(part)
    assert found is not None
    np.testing.assert_array_equal(found, np.concatenate([samples(40), samples(40)[:24]]))
    config = _config(part)
    assert list(config.model_warmup[0].inputs["x"].dims) == [64, 16]


def test_without_golden_samples_of_its_one_input_nothing_is_warmed_up() -> None:
    two = _signature({"x": (-1, 16), "z": (-1, 16)}, {"y": (-1, 4)})
    for part in (part_of(3, samples=None), replace(part_of(3), signature=two)):
        assert warmup_samples(part) is None
        assert not _config(part).model_warmup
