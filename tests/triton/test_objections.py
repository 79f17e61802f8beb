"""Which engines a Triton server opens, by what is known of it."""

from __future__ import annotations

from typing import Any

import pytest
from triton_parts import ENGINE_OF_A_GPU

from registry.endpoints.triton.objections import ServerMachine, objection_of

A100 = ServerMachine(tensorrt_version="10.13.3", compute_capability="8.0")


@pytest.mark.parametrize("engine", ["onnxruntime", "onnxruntime-int8", "torchscript"])
def test_an_engine_of_no_hardware_fits_any_server(engine: str) -> None:
    assert objection_of(engine, {}, ServerMachine()) is None


@pytest.mark.parametrize("engine", ["openvino", "openvino-bf16", "aotinductor"])
def test_an_engine_that_triton_does_not_open_is_objected_to(engine: str) -> None:
    assert objection_of(engine, {}, A100) == (
        f"Triton opens onnxruntime, tensorrt, torchscript, and {engine} is none of them"
    )


def test_a_tensorrt_engine_fits_the_server_that_it_was_built_for() -> None:
    assert objection_of("tensorrt-fp16", ENGINE_OF_A_GPU, A100) is None
    whole = ServerMachine(tensorrt_version="10.13.3.9", compute_capability="8.0", device="gpu")
    assert objection_of("tensorrt-fp16", ENGINE_OF_A_GPU, whole) is None


@pytest.mark.parametrize(
    ("key", "machine", "words"),
    [
        ({}, {"tensorrt_version": None}, "set tensorrt_version to that of this endpoint's server"),
        ({}, {"compute_capability": None}, "set compute_capability to that of this endpoint's server"),
        ({}, {"device": "cpu"}, "needs a GPU, and the endpoint's setting device is cpu"),
        ({}, {"tensorrt_version": "10.1"}, "it was built with tensorrt 10.13.3.9, the server has 10.1"),
        ({}, {"compute_capability": "9.0"}, "built for compute capability 8.0, the server's GPU has 9.0"),
        ({"package": "tensorrt_rtx"}, {}, "engines of tensorrt, and tensorrt-fp16 was built with tensorrt_rtx"),
        ({"package": None}, {}, "tensorrt-fp16 was built with an unknown package"),
        ({"compute_capabilities": []}, {}, "built for compute capability an unknown one"),
        (
            {"hardware_compatibility": "AMPERE_PLUS"},
            {"compute_capability": "7.5"},
            "built for compute capability 8.0 and above, the server's GPU has 7.5",
        ),
    ],
)
def test_a_tensorrt_engine_of_another_server_is_objected_to(
    key: dict[str, Any], machine: dict[str, Any], words: str
) -> None:
    found = objection_of("tensorrt-fp16", {**ENGINE_OF_A_GPU, **key}, ServerMachine(**{**vars(A100), **machine}))
    assert words in str(found)


@pytest.mark.parametrize("capability", ["8.0", "9.0", "10.0", "12.0"])
def test_an_engine_for_ampere_and_later_fits_all_of_them(capability: str) -> None:
    key = {**ENGINE_OF_A_GPU, "hardware_compatibility": "AMPERE_PLUS"}
    machine = ServerMachine(tensorrt_version="10.13.3", compute_capability=capability)
    assert objection_of("tensorrt", key, machine) is None
