"""Keras models and TensorFlow modules go into files and come back, and no code comes out of one.

TensorFlow takes five seconds to import, so it is imported when the first of these tests runs.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from registry import ModelRegistry
from registry.errors import InvalidInputError, MissingExtraError, RefusedError
from registry.frameworks import ModelFramework, read_samples
from registry.frameworks.tensorflow import FILE_NAME, GRAPH_NAME, load, predictor, save
from registry.signature import Signature, TensorSpec

pytestmark = [
    pytest.mark.heavy,
    # Keras 3.15 asks TensorFlow 2.21 for arrays in the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]

ROWS = np.random.default_rng(7).normal(size=(80, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.setenv(
            "KERAS_HOME", str(tmp_path_factory.mktemp("keras"))
        )  # where it writes settings when it is imported
        importlib.import_module("keras")
        return importlib.import_module("tensorflow")


@pytest.fixture(scope="session")
def keras(tensorflow: Any) -> Any:
    assert tensorflow
    return importlib.import_module("keras")


@pytest.fixture(scope="session")
def network(keras: Any) -> Any:
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential([layers.Input((3,), name="rows"), layers.Dense(4, activation="relu"), layers.Dense(2)])


@pytest.fixture(scope="session")
def module(tensorflow: Any) -> Any:
    class Doubling(tensorflow.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = tensorflow.Variable(tensorflow.ones((3, 2)) * 2)

        @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, 3), tensorflow.float32, name="rows")])  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            return rows @ self.weight

    return Doubling()


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))


def _back(folder: Path, allow_pickle: frozenset[str] | None = None) -> Any:
    return load(folder, _files(folder), {}, allow_pickle=allow_pickle)


def _rewritten(file: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = change(members[member])
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _configured(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        config = json.loads(data)
        change(config)
        return json.dumps(config).encode()

    return changed


def test_a_keras_model_comes_back_with_its_weights_its_samples_and_its_signature(tmp_path: Path, network: Any) -> None:
    saved = save(network, tmp_path, samples=ROWS)

    assert _files(tmp_path) == (FILE_NAME, "samples.npz")
    assert (saved.framework, saved.info) == (ModelFramework.TENSORFLOW, {"format": "keras"})
    assert saved.signature == Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="output", dtype="float32", shape=(-1, 2)),),
    )
    kept = read_samples(tmp_path)
    assert kept is not None
    assert np.array_equal(kept[0], ROWS[:64])
    assert np.array_equal(predictor(_back(tmp_path))(kept[0]), kept[1])


def test_without_samples_the_signature_is_what_the_model_says_of_itself(tmp_path: Path, network: Any) -> None:
    signature = save(network, tmp_path).signature

    assert signature is not None
    assert signature.inputs == (TensorSpec(name="rows", dtype="float32", shape=(-1, 3)),)
    assert [(one.dtype, one.shape) for one in signature.outputs] == [("float32", (-1, 2))]
    assert _files(tmp_path) == (FILE_NAME,)


def test_the_same_keras_model_gives_the_same_bytes_without_the_time(tmp_path: Path, network: Any) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save(network, tmp_path / name)

    assert (tmp_path / "one" / FILE_NAME).read_bytes() == (tmp_path / "two" / FILE_NAME).read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / FILE_NAME) as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}
        assert json.loads(archive.read("metadata.json"))["date_saved"].startswith("1980")


def test_a_module_comes_back_as_what_it_serves(tmp_path: Path, module: Any) -> None:
    saved = save(module, tmp_path, samples=ROWS)

    assert saved.info == {"format": "saved_model"}
    assert {GRAPH_NAME, "samples.npz", "variables/variables.index"} < set(_files(tmp_path))
    loaded = _back(tmp_path)
    assert np.array_equal(loaded(ROWS).numpy(), ROWS @ np.full((3, 2), 2, np.float32))
    assert np.array_equal(predictor(loaded)(ROWS), ROWS @ np.full((3, 2), 2, np.float32))


def test_the_signature_of_a_module_is_that_of_what_it_serves(tmp_path: Path, module: Any, tensorflow: Any) -> None:
    (tmp_path / "bare").mkdir()

    assert save(module, tmp_path).signature == Signature(
        inputs=(TensorSpec(name="rows", dtype="float32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="output_0", dtype="float32", shape=(-1, 2)),),
    )
    assert save(tensorflow.Module(), tmp_path / "bare").signature is None


def test_both_go_through_a_registry_and_a_folder_is_loaded_where_it_lies(
    tmp_path: Path, network: Any, module: Any, tensorflow: Any
) -> None:
    models = ModelRegistry(tmp_path / "registry", actor="ada@example.com")
    tensorflow.saved_model.save(module, str(tmp_path / "exported"))
    models.register("network", model=network, samples=ROWS)
    models.register("module", model=module)
    models.register("exported", tmp_path / "exported", framework="tensorflow")

    assert np.allclose(predictor(models.load("network"))(ROWS), predictor(network)(ROWS))
    for name in ("module", "exported"):
        assert np.array_equal(models.load(name)(ROWS).numpy(), ROWS @ np.full((3, 2), 2, np.float32))


def test_what_cannot_be_saved_is_refused_with_the_reason(
    tmp_path: Path, network: Any, tensorflow: Any, keras: Any
) -> None:
    class Unregistered(keras.layers.Layer):  # type: ignore[misc]
        def call(self, rows: Any) -> Any:
            return rows

    own = keras.Sequential([keras.layers.Input((3,)), Unregistered()])
    code = keras.Sequential([keras.layers.Input((3,)), keras.layers.Lambda(lambda rows: rows * 2)])
    for model, samples, message in (
        ("no model", None, r"a keras\.Model or a tf\.Module is asked for; found str"),
        (network, ROWS[:, :2], r"samples of shape \(64, 2\) .* do not go through Sequential"),
        (tensorflow.Module(), ROWS, "samples need one tf.function with a fixed input_signature"),
        (own, None, r"Unregistered.*register_keras_serializable"),
        (code, None, "it has Lambda, __lambda__ in it, which is code"),
    ):
        with pytest.raises(InvalidInputError, match=rf"(?s){message}"):
            save(model, tmp_path, samples=samples)


@pytest.fixture(params=["as usual", "unsafe files wished for"])
def wish(request: pytest.FixtureRequest, keras: Any) -> Iterator[None]:
    """Tell Keras for all of the process that it may load unsafe files, in one of two tests."""
    state = importlib.import_module("keras.src.backend.common.global_state")
    before = state.get_global_attribute("safe_mode_saving")
    if request.param != "as usual":
        keras.config.enable_unsafe_deserialization()
    yield
    state.set_global_attribute("safe_mode_saving", before)


@pytest.mark.usefixtures("wish")
def test_a_lambda_in_a_file_is_refused_whatever_keras_is_told(tmp_path: Path, keras: Any) -> None:
    layers = [keras.layers.Input((3,)), keras.layers.Lambda(lambda rows: rows * 2)]
    keras.Sequential(layers).save(tmp_path / FILE_NAME)

    with pytest.raises(RefusedError, match="it has Lambda, __lambda__ in it"):
        _back(tmp_path)


@pytest.mark.usefixtures("wish")
def test_a_vocabulary_in_another_file_is_refused_whatever_keras_is_told(tmp_path: Path, keras: Any) -> None:
    (tmp_path / "secret.txt").write_text("a\nb\n")
    words = keras.layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential([keras.layers.Input((1,), dtype="string"), words])
    model.save(tmp_path / FILE_NAME)

    def elsewhere(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["vocabulary"] = str(tmp_path / "secret.txt")

    _rewritten(tmp_path / FILE_NAME, "config.json", _configured(elsewhere))
    with pytest.raises(RefusedError, match=r"model\.keras cannot be read"):
        load(tmp_path, (FILE_NAME,), {})


@pytest.mark.parametrize("kind", ["TFSMLayer", "TorchModuleWrapper", "Lambda"])
def test_layers_that_lead_elsewhere_are_refused(tmp_path: Path, network: Any, kind: str) -> None:
    def lead_elsewhere(config: dict[str, Any]) -> None:
        config["config"]["layers"][1].update({"class_name": kind, "config": {"filepath": "/etc", "name": "x"}})

    save(network, tmp_path)
    _rewritten(tmp_path / FILE_NAME, "config.json", _configured(lead_elsewhere))

    with pytest.raises(RefusedError, match=f"it has {kind} in it"):
        _back(tmp_path)


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("keras.src.utils.file_utils", "get_file")])
def test_functions_that_are_no_layers_are_refused(tmp_path: Path, network: Any, module: str, name: str) -> None:
    def call(config: dict[str, Any]) -> None:
        function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
        config["config"]["layers"][1]["config"]["activation"] = function

    save(network, tmp_path)
    _rewritten(tmp_path / FILE_NAME, "config.json", _configured(call))

    with pytest.raises(RefusedError, match=r"model\.keras cannot be read"):
        _back(tmp_path)


def _links(data: bytes, link: Any) -> bytes:
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as weights:
        group = weights["layers/dense/vars"]
        del group["0"]
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            group["0"] = link
        else:
            link(group)
    return file.getvalue()


@pytest.mark.parametrize(
    "link",
    [
        h5py.ExternalLink("/tmp/other.h5", "secret"),  # noqa: S108 - never opened
        h5py.SoftLink("/layers/dense/vars/1"),
        lambda group: group.create_dataset("0", (3, 4), "f4", external=[("/etc/hostname", 0, 48)]),
        lambda group: group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(64, 64)),
    ],
    ids=["another file", "another name", "bytes of another file", "more than there is"],
)
def test_weights_that_lead_elsewhere_or_are_a_bomb_are_refused(tmp_path: Path, network: Any, link: Any) -> None:
    save(network, tmp_path)
    _rewritten(tmp_path / FILE_NAME, "model.weights.h5", lambda data: _links(data, link))

    with pytest.raises(RefusedError, match=r"model\.keras"):
        _back(tmp_path)


def test_an_archive_that_inflates_or_unpacks_elsewhere_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / FILE_NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (64 << 20))
    with pytest.raises(RefusedError, match="would inflate"):
        _back(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE_NAME, "w") as archive:
        archive.writestr("../config.json", b"{}")
    with pytest.raises(RefusedError, match="outside the folder"):
        _back(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_keras_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)

    with pytest.raises(RefusedError, match=r"model\.keras"):
        _back(tmp_path)


def test_a_module_that_writes_files_is_refused_until_that_is_allowed(tmp_path: Path, tensorflow: Any) -> None:
    class Writing(tensorflow.Module):  # type: ignore[misc]
        @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, 3), tensorflow.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            tensorflow.io.write_file(str(tmp_path / "it ran"), "x")
            return rows

    name = "tensorflow.WriteFile"
    with pytest.raises(InvalidInputError, match=rf"{name} read or write files.*allow_pickle={{'{name}'}}"):
        save(Writing(), tmp_path)
    with pytest.raises(RefusedError, match=name):
        _back(tmp_path)
    save(Writing(), tmp_path, allow_pickle=frozenset({name}))
    loaded = _back(tmp_path, frozenset({name}))
    assert not (tmp_path / "it ran").exists()
    assert np.array_equal(loaded(ROWS).numpy(), ROWS)


@pytest.mark.parametrize("operation", ["save", "restore", "read", "python"])
def test_a_module_that_reaches_outside_in_another_way_is_refused(
    tmp_path: Path, tensorflow: Any, operation: str
) -> None:
    raw, place = tensorflow.raw_ops, str(tmp_path / "x")
    ways: dict[str, Any] = {
        "save": lambda rows: raw.SaveV2(prefix=place, tensor_names=["x"], shape_and_slices=[""], tensors=[rows]),
        "restore": lambda _rows: raw.RestoreV2(
            prefix=place, tensor_names=["x"], shape_and_slices=[""], dtypes=[tensorflow.float32]
        ),
        "read": lambda _rows: tensorflow.io.read_file(place),
        "python": lambda rows: tensorflow.py_function(lambda _rows: 1.0, [rows], tensorflow.float32),
    }

    class Reaching(tensorflow.Module):  # type: ignore[misc]
        @tensorflow.function  # type: ignore[untyped-decorator]
        def inner(self, rows: Any) -> Any:
            ways[operation](rows)
            return rows

        @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, 3), tensorflow.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            return self.inner(rows)

    tensorflow.saved_model.save(Reaching(), str(tmp_path))

    with pytest.raises(RefusedError, match=r"tensorflow\.(SaveV2|RestoreV2|ReadFile|EagerPyFunc)"):
        _back(tmp_path)


@pytest.mark.parametrize("place", ["in a function of a function", "in a method"])
def test_a_module_that_saves_files_is_refused_wherever_it_does(tmp_path: Path, tensorflow: Any, place: str) -> None:
    rows_of_three = [tensorflow.TensorSpec((None, 3), tensorflow.float32)]

    def write(rows: Any) -> Any:
        tensorflow.raw_ops.SaveV2(prefix="x", tensor_names=["x"], shape_and_slices=[""], tensors=[rows])
        return rows

    module, inner = tensorflow.Module(), tensorflow.function(write)
    outer = write if place == "in a method" else lambda rows: inner(rows)  # noqa: PLW0108 - not a part of the module
    module.call = tensorflow.function(outer, input_signature=rows_of_three)
    options: dict[str, Any] = {"signatures": {}} if place == "in a method" else {}
    tensorflow.saved_model.save(module, str(tmp_path), **options)

    with pytest.raises(RefusedError, match=r"tensorflow\.SaveV2"):
        _back(tmp_path)


def test_damage_of_a_graph_is_a_refusal(tmp_path: Path, module: Any) -> None:
    save(module, tmp_path)
    right = (tmp_path / GRAPH_NAME).read_bytes()

    for wrong in (b"", b"no graph", right[: len(right) // 2]):
        (tmp_path / GRAPH_NAME).write_bytes(wrong)
        with pytest.raises(RefusedError, match=r"saved_model\.pb"):
            _back(tmp_path)


def test_without_tensorflow_it_is_said_which_extra_to_install(
    tmp_path: Path, network: Any, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, model in (("keras", network), ("tensorflow", module)):
        (tmp_path / name).mkdir()
        save(model, tmp_path / name)
    for name in ("keras", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=rf"needs {name}, which is not installed: .*modelway\[tensorflow\]"):
            _back(tmp_path / name)


def test_files_that_are_neither_are_given_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"opaque")

    assert load(tmp_path, ("model.tflite",), {}) == b"opaque"
