"""Keras models as ``model.keras``, TensorFlow modules as SavedModel folders; what is read is looked through before."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import InvalidInputError, MissingExtraError, RefusedError
from registry.frameworks import custom
from registry.frameworks.archive import check_archive
from registry.frameworks.files import inside
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.samples import checked_samples, write_samples
from registry.frameworks.saved import SavedModel
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "model.keras"
GRAPH_NAME = "saved_model.pb"
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
_NOT_THERE = re.compile(r"Could not locate \w+ '[^']*'")
_CODE = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper"})
"""Parts of a Keras model that hold code, or reach for files and objects elsewhere."""


def save(
    model: object, folder: Path, *, samples: NDArray[Any] | None = None, allow_pickle: AbstractSet[str] | None = None
) -> SavedModel:
    """Write a ``keras.Model`` as ``model.keras``, a ``tf.Module`` as a SavedModel folder, and read it back.

    A ``keras.Model`` is kept without its optimizer's place in the training; the same one gives the same bytes. A module
    is kept as its ``tf.function`` methods; one with a fixed ``input_signature`` is what it serves.

    Args:
        model: One of both.
        folder: Where to.
        samples: Real inputs, shape (n, ...); they are kept with the outputs for them.
        allow_pickle: Names of operations that a module may use, as for ``load``; to load it they must be given again.

    Raises:
        InvalidInputError: Neither, it holds what would not be read back (a Lambda layer, a class that is not registered
            with Keras, an operation on files), the samples do not go through it, or it then gives other outputs.
        MissingExtraError: TensorFlow is not installed.
    """
    is_keras = isinstance(model, _required("keras").Model)
    if not is_keras and not isinstance(model, _required("tensorflow").Module):
        raise InvalidInputError(f"a keras.Model or a tf.Module is asked for; found {type(model).__name__}.")
    try:
        with _reading(folder, "written"):
            _write_keras(model, folder / FILE_NAME) if is_keras else _write_graph(model, folder)
        again = _read_keras(folder / FILE_NAME) if is_keras else _read_graph(folder, allow_pickle or frozenset())
    except RefusedError as error:
        raise InvalidInputError(f"a {type(model).__name__} cannot be registered: {error}") from error
    info = {"format": "keras" if is_keras else "saved_model"}
    if samples is None:
        return SavedModel(framework=ModelFramework.TENSORFLOW, info=info, signature=_signature(again))
    inputs = checked_samples(samples)
    # What a module serves is known of its saved form alone.
    outputs = _outputs(model if is_keras else again, inputs)
    if not _same(outputs, _outputs(again, inputs)):
        raise InvalidInputError(
            f"a {type(model).__name__} cannot be registered: read back from its file it gives other outputs for the "
            "samples. Keep everything that it needs in weights, or in what get_config() returns."
        )
    signature = write_samples(folder, inputs, outputs)
    return SavedModel(framework=ModelFramework.TENSORFLOW, info=info, signature=signature)


def load(
    folder: Path, files: tuple[str, ...], info: Mapping[str, Any], *, allow_pickle: AbstractSet[str] | None = None
) -> Any:
    """Return the Keras model of the one ``.keras`` file, not compiled, or what the one SavedModel holds.

    Without exactly one of either the content is given as that of a custom model.

    Args:
        folder: Where the files lie.
        files: Their names.
        info: Nothing that is needed here.
        allow_pickle: Names of operations (``tensorflow.ReadFile``) that a SavedModel may use, although they reach
            outside of it.

    Raises:
        RefusedError: It holds a Lambda layer or other code, its operations read or write files or call Python, it is
            damaged, or needs a class that is not registered here.
        MissingExtraError: TensorFlow is not installed.
    """
    archives = [name for name in files if name.lower().endswith(".keras")]
    graphs = [name for name in files if PurePosixPath(name).name == GRAPH_NAME]
    if len(archives) == 1:
        return _read_keras(inside(folder, archives[0]))
    if len(graphs) != 1:
        return custom.load(folder, files, info)
    return _read_graph(inside(folder, graphs[0]).parent, allow_pickle or frozenset())


def predictor(model: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return a model that was loaded as a function of arrays, (n, ...) to (n, ...).

    The function raises InvalidInputError where the model has not one input and one output.
    """
    served = None if hasattr(model, "get_config") else served_function(model)

    def predict(inputs: NDArray[Any]) -> NDArray[Any]:
        keras = _required("keras")
        if served is None:
            found = model(keras.ops.convert_to_tensor(inputs), training=False)
        else:
            (name,) = served.structured_input_signature[1]
            (found,) = served(**{name: _required("tensorflow").constant(inputs)}).values()
        if isinstance(found, dict | list | tuple):
            raise InvalidInputError("golden samples are kept for models with one input and one output. Leave them out.")
        outputs: NDArray[Any] = keras.ops.convert_to_numpy(found)
        return outputs

    return predict


def _required(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, "tensorflow", "a TensorFlow model") from error


def _write_keras(model: Any, file: Path) -> None:
    model.save(file)
    written = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(written, "w") as plain:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "metadata.json":  # the same model gives the same bytes: without the time
                content = json.dumps({**json.loads(content), "date_saved": "1980-01-01@00:00:00"}).encode()
            plain.writestr(zipfile.ZipInfo(name, _FIRST_DAY), content)
    file.write_bytes(written.getbuffer())


def _write_graph(module: Any, folder: Path) -> None:
    _required("tensorflow").saved_model.save(module, str(folder))


def _read_keras(file: Path) -> Any:
    check_archive(file)
    keras = _required("keras")
    # Private, and the only way: keras.config.enable_unsafe_deserialization() goes before the argument safe_mode.
    from keras.src.saving.serialization_lib import SafeModeScope

    with _reading(file, "read"):
        with zipfile.ZipFile(file) as archive:
            code = sorted(_CODE & set(_class_names(json.loads(archive.read("config.json")))))
        if code:
            raise _refused(file, f"it has {', '.join(code)} in it, which is code or leads to some: use layers of Keras")
        with SafeModeScope(safe_mode=True):
            return keras.saving.load_model(file, compile=False, safe_mode=True)


def _class_names(config: Any) -> Iterator[str]:
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
            yield str(value.get("class_name"))
        elif isinstance(value, list):
            waiting += value


def _read_graph(folder: Path, allowed: AbstractSet[str]) -> Any:
    tensorflow = _required("tensorflow")
    from registry.frameworks.tensorflow_graph import reaching_outside

    file = folder / GRAPH_NAME
    with _reading(file, "read"):
        outside = [name for name in reaching_outside(file) if name not in allowed]
        if outside:
            names = ", ".join(repr(name) for name in outside)
            raise _refused(
                file,
                f"its operations {', '.join(outside)} read or write files, call Python or talk to others. Where you "
                f"trust its origin, allow them by name: allow_pickle={{{names}}}",
            )
        return tensorflow.saved_model.load(str(folder))


@contextlib.contextmanager
def _reading(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (RefusedError, MissingExtraError):
        raise
    except Exception as error:
        # Keras and TensorFlow raise anything for what they cannot use: TypeError, KeyError, UnicodeDecodeError, ...
        missing = _NOT_THERE.search(str(error))  # after the whole configuration
        why = missing.group() if missing else (str(error).splitlines() or [""])[0][:300]
        raise RefusedError(
            f"{file} cannot be {what} ({type(error).__name__}: {why}). Classes of your own need "
            "@keras.saving.register_keras_serializable(), and to be imported before they are loaded."
        ) from error


def _refused(file: Path, why: str) -> RefusedError:
    return RefusedError(f"{file} was not loaded: {why}.")


def served_function(module: Any) -> Any:
    """Return what a loaded SavedModel serves, called with one tensor by name, giving one by name.

    Raises:
        InvalidInputError: It serves nothing, or has not one input and one output.
    """
    served = getattr(module, "signatures", {}).get("serving_default")
    if served is None or len(served.structured_input_signature[1]) != 1 or len(served.structured_outputs) != 1:
        raise InvalidInputError(
            "samples need one tf.function with a fixed input_signature of one tensor, and one tensor out: give the "
            "module one, or leave samples out."
        )
    return served


def _outputs(model: Any, inputs: NDArray[Any]) -> NDArray[Any]:
    try:
        outputs = predictor(model)(inputs)
    except InvalidInputError:
        raise
    except Exception as error:
        # call() is the user's own code and may raise anything.
        raise InvalidInputError(
            f"samples of shape {inputs.shape} and dtype {inputs.dtype} do not go through {type(model).__name__}: "
            f"{(str(error).splitlines() or [''])[0]} Give inputs as the model takes them, or leave samples out."
        ) from error
    if outputs.dtype.kind not in "fiub":
        raise InvalidInputError(f"{type(model).__name__} gives {outputs.dtype}, and only numbers are kept as samples.")
    return outputs


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


def _signature(model: Any) -> Signature | None:
    """Return what goes in and comes out, in call order, where the model says so."""
    if hasattr(model, "get_config"):
        inputs, outputs = (_named(getattr(model, side, None)) for side in ("inputs", "outputs"))
    else:
        served = getattr(model, "signatures", {}).get("serving_default")
        if served is None:
            return None
        inputs, outputs = served.structured_input_signature[1], served.structured_outputs
    if not inputs or not outputs:
        return None
    return Signature(inputs=_specs(inputs), outputs=_specs(outputs))


def _named(tensors: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in tensors or ()}


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=name,
            dtype=str(getattr(tensor.dtype, "name", tensor.dtype)),
            shape=tuple(-1 if size is None else int(size) for size in tensor.shape),
        )
        for name, tensor in tensors.items()
    )
