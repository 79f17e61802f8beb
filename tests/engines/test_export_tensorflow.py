"""From Keras and TensorFlow to ONNX, through tf2onnx.

TensorFlow takes five seconds to import, so it is imported when the first of these tests runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx as onnx_package
import pytest

from registry import ModelRegistry
from registry.engines.export_tensorflow import export_tensorflow
from registry.engines.pivot import source_parity, to_onnx
from registry.engines.spec import OptimizeSpec
from registry.errors import EngineError, InvalidInputError, MissingExtraError
from registry.frameworks.predict import predictor_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [
    pytest.mark.heavy,
    # Keras 3.15 asks TensorFlow 2.21 for arrays in the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]

SPEC = OptimizeSpec()
RANDOM = np.random.default_rng(7)
IMAGES = RANDOM.random((70, 8, 8, 1), dtype=np.float32)
SERIES = RANDOM.random((20, 12, 5), dtype=np.float32)
WORDS = RANDOM.integers(0, 50, (20, 16)).astype(np.int32)


@pytest.fixture(scope="session")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))  # where it writes settings
        importlib.import_module("keras")
        return importlib.import_module("tensorflow")


@pytest.fixture(scope="session")
def keras(tensorflow: Any) -> Any:
    assert tensorflow
    return importlib.import_module("keras")


def _images(keras: Any) -> tuple[Any, NDArray[Any]]:
    layers, normalize = keras.layers, keras.layers.Normalization()
    normalize.adapt(IMAGES)
    steps = [layers.Input((8, 8, 1)), normalize, layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization()]
    steps += [layers.ReLU(), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.5)]
    return keras.Sequential([*steps, layers.Dense(10, activation="softmax")]), IMAGES


def _series(keras: Any) -> tuple[Any, NDArray[Any]]:
    layers = keras.layers
    steps = [layers.Input((12, 5)), layers.Bidirectional(layers.LSTM(8, return_sequences=True)), layers.GRU(6)]
    return keras.Sequential([*steps, layers.Dense(3)]), SERIES


def _words(keras: Any) -> tuple[Any, NDArray[Any]]:
    layers, words = keras.layers, keras.layers.Input((16,), dtype="int32")
    embedded = layers.Embedding(50, 32)(words)
    attended = layers.LayerNormalization()(embedded + layers.MultiHeadAttention(4, 8)(embedded, embedded))
    gelu = layers.Dense(4, activation="gelu")(layers.GlobalAveragePooling1D()(attended))
    return keras.Model(words, gelu), WORDS


@pytest.mark.parametrize("build", [_images, _series, _words])
def test_a_keras_model_gives_the_same_and_has_the_same_bytes_again(build: Any, keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model, samples = build(keras)
    one, two = (
        to_onnx(model, tmp_path, samples, tmp_path / name / "model.onnx", spec=SPEC, full_name="net:v1")
        for name in ("one", "two")
    )
    assert one.only_input().shape == (-1, *samples.shape[1:])
    assert (one.only_input().dtype, one.opset, one.output_names) == (str(samples.dtype), 18, ("output",))
    assert onnx_package.load(one.path).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    parity = source_parity(one, predictor_of(model, "net:v1"), samples, spec=SPEC)
    assert parity.passed, parity.reason
    assert parity.max_abs is not None
    assert parity.max_abs < 1e-5
    assert one.sha256 == two.sha256
    assert [path.name for path in one.path.parent.iterdir()] == ["model.onnx"]


def test_a_saved_model_from_the_registry_gives_the_same(tensorflow: Any, tmp_path: Path) -> None:
    class Counting(tensorflow.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = tensorflow.Variable(tensorflow.ones((5, 2)) * 2)

        @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, 12, 5), tensorflow.float32, name="rows")])  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            return tensorflow.cond(tensorflow.reduce_sum(rows) > 0, lambda: rows, lambda: -rows) @ self.weight

    models = ModelRegistry(tmp_path / "registry", actor="ada@example.com")
    models.register("net", model=Counting(), samples=SERIES)
    loaded = models.load_model("net", 1).model
    exported = to_onnx(loaded, tmp_path, SERIES, tmp_path / "model.onnx", spec=SPEC, full_name="net:v1")
    parity = source_parity(exported, predictor_of(loaded, "net:v1"), SERIES, spec=SPEC)
    assert (parity.passed, parity.max_abs) == (True, 0.0)


def _exported(model: Any, samples: NDArray[Any], path: Path) -> Any:
    return export_tensorflow(model, samples, path, spec=SPEC, full_name="net:v1")


def test_an_operation_that_cannot_be_converted_is_named(
    keras: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    layers = keras.layers
    model = keras.Sequential([layers.Input((3,)), layers.Discretization([0.0, 1.0]), layers.CategoryEncoding(3)])
    capfd.readouterr()
    with pytest.raises(EngineError, match=r"net:v1 cannot .* tf2onnx [\d.]+ does not convert .*Bucketize\. .*register"):
        _exported(model, np.ones((4, 3), np.float32), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_several_inputs_or_outputs_and_nothing_served_are_refused(keras: Any, tensorflow: Any, tmp_path: Path) -> None:
    one, other = keras.layers.Input((3,)), keras.layers.Input((3,))
    dense = keras.layers.Dense(2)
    rows = np.ones((4, 3), np.float32)
    for model in (keras.Model([one, other], dense(one + other)), keras.Model(one, [dense(one), dense(one + 1)])):
        with pytest.raises(EngineError, match="net:v1 cannot be exported to ONNX"):
            _exported(model, rows, tmp_path / "model.onnx")
    tensorflow.saved_model.save(tensorflow.Module(), str(tmp_path / "nothing"))
    with pytest.raises(InvalidInputError, match=r"one tf\.function with a fixed input_signature"):
        _exported(tensorflow.saved_model.load(str(tmp_path / "nothing")), rows, tmp_path / "model.onnx")


def test_more_weights_than_one_message_holds_are_refused_before_anything_is_converted(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A true 2.2 GB took 39 s to make; it was refused in the same words.
    monkeypatch.setattr("registry.engines.export_tensorflow._LARGEST_BYTES", 3_000_000)
    model = keras.Sequential([keras.layers.Input((1,), dtype="int32"), keras.layers.Embedding(50_000, 16)])
    with pytest.raises(EngineError, match=r"its weights are 0\.00 GB, and TensorFlow freezes a graph into one message"):
        _exported(model, np.ones((2, 1), np.int32), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_tf2onnx_it_is_said_which_extra_to_install(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx.convert", None)
    with pytest.raises(MissingExtraError, match=r"needs tf2onnx, .*modelway\[tensorflow\]"):
        _exported(_images(keras)[0], IMAGES, tmp_path / "model.onnx")
