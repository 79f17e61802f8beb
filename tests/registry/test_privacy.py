"""What is done here stays here: no library below us keeps an identity of this machine, or tells anybody of a model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import registry
import numpy as np, onnx
from onnx import TensorProto, helper
tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", tensors[:1], tensors[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
registry.InMemoryRegistry().register("negative", model=model, samples=np.ones((2,), np.float32))
import onnxruntime
"""


def test_running_a_model_writes_no_device_id_and_keeps_nothing_to_send(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    home = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}

    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, **home, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        timeout=60,
    )

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
