"""A loaded model is held against the signature that was recorded with it, when somebody asks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks import check_signature, load, save
from registry.signature import Signature, TensorSpec


def signature(
    *, dtype: str = "float32", features: int = 3, outputs: tuple[int, ...] = (-1, 2), given: str = "float32"
) -> Signature:
    return Signature(
        inputs=(TensorSpec(name="x", dtype=dtype, shape=(-1, features)),),
        outputs=(TensorSpec(name="y", dtype=given, shape=outputs),),
    )


def negative(*, name: str = "x", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Neg", [name], ["y"])],
        "negative",
        [helper.make_tensor_value_info(name, kind, ["n", 3])],
        [helper.make_tensor_value_info("y", kind, ["n", 3])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_module_fits_what_was_recorded_with_it(tmp_path: Path, networks: ModuleType, samples: NDArray[Any]) -> None:
    saved = save(networks.Scorer(), tmp_path, samples=samples)
    assert saved.signature is not None
    module = load(tmp_path, framework=saved.framework, info=saved.info)
    check_signature(module, saved.signature)
    check_signature(module, saved.signature, samples=samples)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (signature(outputs=(-1, 4)), r"output 'y' is recorded with the shape \(-1, 4\), and has \(2, 2\)"),
        (signature(outputs=(-1,)), r"output 'y' is recorded with the shape \(-1,\), and has \(2, 2\)"),
        (signature(given="int64"), "output 'y' is recorded as int64, and is float32"),
        (signature(features=7), r"does not take what the recorded signature says \(\(2, 7\) of float32\)"),
        (signature(dtype="int64"), "does not take what the recorded signature says"),
        (Signature(inputs=signature().inputs), "0 outputs are recorded, and it has 1"),
    ],
)
def test_a_module_that_differs_is_refused_with_every_difference(
    networks: ModuleType, wrong: Signature, why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        check_signature(networks.Scorer().eval(), wrong)


def test_checking_leaves_the_module_in_its_mode(networks: ModuleType) -> None:
    module = networks.Scorer().train()
    check_signature(module, signature())
    assert module.training


def test_samples_that_are_not_as_recorded_are_told_apart_from_a_model_that_is_not(networks: ModuleType) -> None:
    for wrong in (np.zeros((2, 9), np.float32), np.zeros((2, 3))):
        with pytest.raises(InvalidInputError, match="the samples do not fit the recorded signature"):
            check_signature(networks.Scorer().eval(), signature(), samples=wrong)


def test_a_program_with_several_inputs_is_checked_against_its_own(tmp_path: Path, networks: ModuleType) -> None:
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        networks.Two(), (torch.ones(4, 3), torch.ones(5)), dynamic_shapes=({0: free}, {0: free})
    )
    saved = save(program, tmp_path)
    assert saved.signature is not None
    module = load(tmp_path, framework=saved.framework, info=saved.info)
    check_signature(module, saved.signature)
    less = saved.signature.model_copy(update={"outputs": saved.signature.outputs[:1]})
    with pytest.raises(RefusedError, match="1 outputs are recorded, and it has 2"):
        check_signature(module, less)


def test_an_onnx_model_is_checked_by_what_it_says_of_itself(tmp_path: Path) -> None:
    saved = save(negative(), tmp_path)
    assert saved.signature is not None
    check_signature(load(tmp_path, framework=saved.framework, info=saved.info), saved.signature)
    for other, why in (
        (negative(name="z"), "the input 'x' is recorded, and it has 'z'"),
        (negative(kind=TensorProto.DOUBLE), "'x' is recorded as float32, and is float64; output 'y' is recorded"),
    ):
        with pytest.raises(RefusedError, match=why):
            check_signature(other, saved.signature)
    fixed = saved.signature.model_copy(update={"inputs": (TensorSpec(name="x", dtype="float32", shape=(1, 3)),)})
    with pytest.raises(RefusedError, match=r"recorded with the shape \(1, 3\), and has \(-1, 3\)"):
        check_signature(negative(), fixed)


@pytest.mark.parametrize("model", [b"bytes", {"w": np.ones(3)}, {"w": torch.ones(3)}, Path("folder"), object()])
def test_what_cannot_be_run_cannot_be_checked(model: Any) -> None:
    with pytest.raises(InvalidInputError, match="cannot be checked"):
        check_signature(model, signature())


def test_an_empty_signature_says_nothing(networks: ModuleType) -> None:
    with pytest.raises(InvalidInputError, match="the signature is empty"):
        check_signature(networks.Scorer(), Signature())


def test_a_type_that_numpy_has_not_needs_samples(networks: ModuleType) -> None:
    with pytest.raises(InvalidInputError, match="recorded as bfloat16x, which numpy has not: give samples="):
        check_signature(networks.Scorer(), signature(dtype="bfloat16x"))
