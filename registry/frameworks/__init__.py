"""How the objects of the frameworks become files and come back; importing this imports no framework."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import InvalidInputError
from registry.frameworks.files import names_in
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.objects import framework_of
from registry.frameworks.saved import FoundModel, SavedModel
from registry.frameworks.savers import Saver, register_saver

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.signature import Signature

__all__ = [
    "FoundModel",
    "ModelFramework",
    "SavedModel",
    "Saver",
    "check_signature",
    "examine",
    "guess",
    "load",
    "read_samples",
    "register_saver",
    "save",
]

_BY_SUFFIX = {
    ".onnx": ModelFramework.ONNX,
    ".pt": ModelFramework.PYTORCH,
    ".pt2": ModelFramework.PYTORCH,
    ".pth": ModelFramework.PYTORCH,
    ".safetensors": ModelFramework.SAFETENSORS,
    ".keras": ModelFramework.TENSORFLOW,
    ".joblib": ModelFramework.SKLEARN,
    ".skops": ModelFramework.SKLEARN,
}
_MODULES = {
    ModelFramework.ONNX: "onnx",
    ModelFramework.PYTORCH: "torch",
    ModelFramework.SAFETENSORS: "safetensors",
    ModelFramework.SKLEARN: "sklearn",
    ModelFramework.TENSORFLOW: "tensorflow",
    ModelFramework.CUSTOM: "custom",
}
"""The module here that has ``save(model, folder, samples=)`` and ``load(folder, files, info)`` for each kind."""

_NAMING = {ModelFramework.SKLEARN, ModelFramework.TENSORFLOW}
"""Those whose files may name types and operations, of which some need to be allowed."""


def save(
    model: object,
    folder: Path,
    *,
    framework: ModelFramework | None = None,
    samples: NDArray[Any] | None = None,
    allow_pickle: AbstractSet[str] | None = None,
) -> SavedModel:
    """Write a model object into an empty folder, and prove that it can be read back.

    Args:
        model: A torch module, a ``torch.export`` program, a scikit-learn estimator, a Keras or TensorFlow model, an
            ONNX ModelProto, a mapping of names to torch tensors or to numpy arrays, bytes, or what a Saver takes.
        folder: Where the files go; after an error it may hold some.
        framework: What the caller takes the model for; None to go by the object's type. ``safetensors`` writes a
            mapping of torch tensors as that, ``custom`` asks the Savers first.
        samples: Real inputs of a model that can be run, shape (n, ...), n >= 1, in the dtype that the model takes. At
            most 64 are kept beside it with the model's own outputs for them.
        allow_pickle: Names of types and functions (``module.name``) that a scikit-learn estimator may use beside those
            known to be safe. Given with an object that nothing else here can save: pickle it, if it uses no other
            names. The same names must be given to load it.

    Raises:
        InvalidInputError: Nothing here can save such an object, it is not of the framework that was named, it could not
            be rebuilt from its files, or the samples do not go through it.
        MissingExtraError: What its framework's format needs is not installed.
    """
    found = framework_of(model)
    if framework is ModelFramework.SAFETENSORS and found is ModelFramework.PYTORCH and isinstance(model, Mapping):
        found = framework
    if framework is ModelFramework.CUSTOM or (found is None and framework is None):
        written = _save_otherwise(model, folder, samples, allow_pickle)
        if written is not None:
            return written
    if found is None or framework not in {None, found}:
        raise _cannot_save(model, framework, found)
    options = {"allow_pickle": allow_pickle} if found in _NAMING else {}
    saved: SavedModel = _module(found).save(model, folder, samples=samples, **options)
    return saved


def load(
    folder: Path,
    *,
    files: Iterable[str] | None = None,
    framework: ModelFramework,
    info: Mapping[str, Any],
    allow_pickle: AbstractSet[str] | None = None,
) -> Any:
    """Read a model from files whose digests have been checked; none is unpickled unless ``allow_pickle`` says so.

    Args:
        folder: Where the files lie; it is only read.
        files: Their names below ``folder``, which may hold others too; None for all that it holds.
        framework: What the version was registered as.
        info: What ``save`` returned; empty for files that were registered by their path.
        allow_pickle: The opt-in to pickles: names (``module.name``) that one may use beside the usual ones. Types of
            scikit-learn and operations of TensorFlow that are not known to be safe are allowed by it too.

    Returns:
        The model as its framework has it (``docs/frameworks.md`` lists them); for what no framework reads the bytes of
        a single file, or ``folder`` itself where there are several.

    Raises:
        RefusedError: A file asks for more than is safe, is damaged, or does not fit what it was saved from.
        NotFoundError: There are no files, or the class of a torch module or a Saver is not installed here.
        MissingExtraError: What its framework's format needs is not installed.
    """
    names = names_in(folder, files)
    if allow_pickle is not None:
        from registry.frameworks import pickles

        if pickles.pickles_in(names):
            return pickles.load(folder, names, allow_pickle=allow_pickle)
    options = {"allow_pickle": allow_pickle} if framework in _NAMING else {}
    return _module(framework).load(folder, names, info, **options)


def examine(
    path: Path, *, framework: ModelFramework | None = None, allow_pickle: AbstractSet[str] | None = None
) -> FoundModel:
    """Look at a file or folder that is to be registered by its path, before it is.

    Only what it says of itself is checked: a file that is no model of its kind is registered all the same, as bytes,
    and refused when somebody loads it.

    Args:
        path: The file or folder; it is there.
        framework: What the caller takes it for; None to go by a file's suffix.
        allow_pickle: Check the pickles among the files against these names now.

    Returns:
        The framework, the signature of an ONNX model, and the names of the files beside ``path`` that are part of it.

    Raises:
        InvalidInputError: An ONNX model whose weights are missing, links, or outside its folder.
        RefusedError: A pickle that could not be loaded with ``allow_pickle``.
    """
    found = framework or (ModelFramework.CUSTOM if path.is_dir() else guess(path))
    if allow_pickle is not None:
        from registry.frameworks import pickles

        pickles.check_files(path, allow_pickle=allow_pickle)
    if found is not ModelFramework.ONNX:
        return FoundModel(framework=found)
    from registry.frameworks import onnx as of_onnx

    return of_onnx.examine(path)


def read_samples(folder: Path) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return the samples that ``save`` kept with a model and its outputs for them, or None where there are none.

    Returns:
        Inputs and outputs, shapes (n, ...), 1 <= n <= 64.

    Raises:
        RefusedError: The file is damaged, or not safe to read.
    """
    from registry.frameworks import samples

    return samples.read_samples(folder)


def check_signature(model: object, signature: Signature, *, samples: NDArray[Any] | None = None) -> None:
    """Raise if a model that was loaded does not take and give what its recorded signature says.

    Args:
        model: What ``load`` gave.
        signature: What was recorded with the version.
        samples: Real inputs to run it on, shape (n, ...), n >= 1; None for zeros in the recorded shape.

    Raises:
        RefusedError: It differs; names every difference.
        InvalidInputError: Such a model cannot be checked.
    """
    from registry.frameworks import checking

    checking.check_signature(model, signature, samples=samples)


def guess(path: Path) -> ModelFramework:
    """Return the framework that a file's suffix stands for, ``custom`` where it stands for none."""
    return _BY_SUFFIX.get(path.suffix.lower(), ModelFramework.CUSTOM)


def _module(framework: ModelFramework) -> Any:
    return importlib.import_module(f"registry.frameworks.{_MODULES[framework]}")


def _save_otherwise(
    model: object, folder: Path, samples: NDArray[Any] | None, allow_pickle: AbstractSet[str] | None
) -> SavedModel | None:
    """Write what no framework here takes: by a Saver, or as a pickle where that is allowed."""
    from registry.frameworks import savers

    written = savers.save(model, folder)
    if written is None and allow_pickle is not None and not isinstance(model, bytes):
        from registry.frameworks import pickles

        written = pickles.save(model, folder, allow_pickle=allow_pickle)
    if written is not None and samples is not None:
        raise InvalidInputError("samples were given with a model that cannot be run here: leave samples out.")
    return written


def _cannot_save(model: object, wanted: ModelFramework | None, found: ModelFramework | None) -> InvalidInputError:
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    taken_for = f"is of {found}" if found else "is nothing that a framework here can save"
    asked = f" (framework {wanted} was asked for)" if wanted else ""
    return InvalidInputError(
        f"the model given is a {kind}, which {taken_for}{asked}. Accepted are: a torch.nn.Module, a torch.export "
        "program, a scikit-learn estimator, a Keras or TensorFlow model, an onnx.ModelProto, a dict of torch tensors "
        "or numpy arrays, bytes, and what a Saver takes. Save anything else to a file or folder, and register its path."
    )
