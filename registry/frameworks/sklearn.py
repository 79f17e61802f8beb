"""scikit-learn estimators and pipelines as ``model.skops``: data and the names of known types, no code."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
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

FILE_NAME = "model.skops"
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


def save(
    model: object, folder: Path, *, samples: NDArray[Any] | None = None, allow_pickle: AbstractSet[str] | None = None
) -> SavedModel:
    """Write an estimator or pipeline as ``model.skops`` and read it back; the same one gives the same bytes.

    Args:
        model: A fitted estimator.
        folder: Where to.
        samples: Real inputs, shape (n, features); they are kept with what ``predict`` gives for them.
        allow_pickle: Names of types and functions in it that are allowed beside those that are known to be safe; to
            load it they must be allowed again.

    Raises:
        InvalidInputError: No estimator, it holds what skops cannot write or what is not known to be safe, or what is
            read back predicts otherwise.
        MissingExtraError: skops or scikit-learn is not installed.
    """
    _require()
    from sklearn.base import BaseEstimator

    if not isinstance(model, BaseEstimator):
        raise InvalidInputError(f"a scikit-learn estimator is asked for; found {type(model).__name__}.")
    (folder / FILE_NAME).write_bytes(_written(model))
    try:
        again = _read(folder / FILE_NAME, allow_pickle or frozenset())
    except RefusedError as error:
        raise InvalidInputError(f"a {type(model).__name__} cannot be registered: {error}") from error
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    info = {"features": names} if names else {}
    if samples is None:
        return SavedModel(framework=ModelFramework.SKLEARN, info=info, signature=_signature(model))
    inputs = checked_samples(samples)
    outputs = _predicted(model, inputs)
    if not _same(outputs, _predicted(again, inputs)):
        raise InvalidInputError(
            f"a {type(model).__name__} cannot be registered: read back from its file it predicts otherwise for the "
            "samples. Keep everything that it needs in attributes that fit() sets."
        )
    signature = write_samples(folder, inputs, outputs)
    return SavedModel(framework=ModelFramework.SKLEARN, info=info, signature=signature)


def load(
    folder: Path, files: tuple[str, ...], info: Mapping[str, Any], *, allow_pickle: AbstractSet[str] | None = None
) -> Any:
    """Return the estimator of the one ``.skops`` file; without exactly one the content as that of a custom model.

    Args:
        folder: Where the files lie.
        files: Their names.
        info: Nothing that is needed here.
        allow_pickle: Names of types and functions that it may use beside those that are known to be safe.

    Raises:
        RefusedError: It uses other types or functions (each is named), is damaged, or would reach outside its data.
        MissingExtraError: skops or scikit-learn is not installed.
    """
    found = [name for name in files if name.lower().endswith(".skops")]
    if len(found) != 1:
        return custom.load(folder, files, info)
    _require()
    return _read(inside(folder, found[0]), allow_pickle or frozenset())


def predictor(model: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return the estimator as a function of arrays, (n, features) to (n, ...): ``predict``, else ``transform``.

    The function raises InvalidInputError where the estimator has neither, or gives anything but a plain array.
    """
    run = getattr(model, "predict", None) or getattr(model, "transform", None)

    def predict(inputs: NDArray[Any]) -> NDArray[Any]:
        if run is None:
            raise InvalidInputError(f"a {type(model).__name__} neither predicts nor transforms. Leave samples out.")
        with warnings.catch_warnings():
            # An estimator fitted on named columns warns of every array; the columns are in its signature's order.
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            found = run(inputs)
        if not isinstance(found, np.ndarray):
            raise InvalidInputError(
                f"{type(model).__name__} gives a {type(found).__name__}, and only plain arrays are kept as samples. "
                "Leave samples out."
            )
        # Labels that are strings come as objects where the training data did.
        texts = found.dtype == object and all(isinstance(one, str) for one in found.flat)
        return found.astype(str) if texts else found

    return predict


def _require() -> None:
    for package in ("sklearn", "skops.io"):
        try:
            __import__(package)
        except ImportError as error:
            name = "scikit-learn" if package == "sklearn" else "skops"
            raise MissingExtraError(name, "sklearn", "a scikit-learn model") from error


def _written(model: Any) -> bytes:
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        return _canonical(skops.io.dumps(model))
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidInputError(
            f"skops cannot write this {type(model).__name__}: {error}. Register an ONNX export of it, or the path of a "
            "file of your own."
        ) from error


def _canonical(data: bytes) -> bytes:
    """Return the archive with its objects numbered in order: skops numbers them by address, and stamps the time."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(written, "w") as plain:
        schema = json.loads(archive.read("schema.json"))
        numbers: dict[str, int] = {}
        _renumber(schema, numbers)
        for name in archive.namelist():
            stem, dot, suffix = name.partition(".")
            content = archive.read(name)
            if name == "schema.json":
                content = json.dumps(schema, separators=(",", ":")).encode()
            elif stem in numbers:
                name = f"{numbers[stem]}{dot}{suffix}"  # noqa: PLW2901 - the member's name in the new archive
            plain.writestr(zipfile.ZipInfo(name, _FIRST_DAY), content)
    return written.getvalue()


def _renumber(value: Any, numbers: dict[str, int]) -> None:
    if isinstance(value, list):
        for one in value:
            _renumber(one, numbers)
    elif isinstance(value, dict):
        if isinstance(value.get("__id__"), int):
            value["__id__"] = numbers.setdefault(str(value["__id__"]), len(numbers) + 1)
        if isinstance(value.get("file"), str):
            stem, dot, suffix = value["file"].partition(".")
            value["file"] = f"{numbers.setdefault(stem, len(numbers) + 1)}{dot}{suffix}"
        for one in value.values():
            _renumber(one, numbers)


def _read(file: Path, allowed: AbstractSet[str]) -> Any:
    import skops.io

    from registry.frameworks.sklearn_types import REVIEWED, check_trees

    check_archive(file, compressed=True)
    with _refusing(file):
        unknown = sorted(set(skops.io.get_untrusted_types(file=file)) - REVIEWED - allowed)
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        raise RefusedError(
            f"{file} was not loaded: it uses {', '.join(unknown)}, which are not known to be safe. Where you trust its "
            f"origin, allow them by name: allow_pickle={{{names}}}."
        )
    with _refusing(file):
        model = skops.io.load(file, trusted=sorted(REVIEWED | allowed))
    check_trees(file, model, allowed)
    return model


@contextlib.contextmanager
def _refusing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        # A damaged file can raise anything: KeyError, TypeError, BadZipFile, AttributeError, ... were seen.
        why = (str(error).splitlines() or [""])[0][:200]
        raise RefusedError(
            f"{file} was not loaded: skops cannot read it ({type(error).__name__}: {why}). Save the model again with "
            "skops.io.dump and the versions of scikit-learn and skops that are installed here."
        ) from error


def _predicted(model: Any, inputs: NDArray[Any]) -> NDArray[Any]:
    try:
        outputs = predictor(model)(inputs)
    except InvalidInputError:
        raise
    except Exception as error:
        # An estimator may be the user's own and raise anything.
        raise InvalidInputError(
            f"samples of shape {inputs.shape} and dtype {inputs.dtype} do not go through {type(model).__name__}: "
            f"{error}. Give inputs as it takes them, fitted, or leave samples out."
        ) from error
    if outputs.dtype.kind not in "fiubU":
        raise InvalidInputError(
            f"{type(model).__name__} gives values of dtype {outputs.dtype}, and only numbers and texts are kept as "
            "samples. Leave samples out."
        )
    return outputs


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    # Forests add up their trees in the order in which threads finish.
    return np.allclose(one, other, rtol=1e-6, equal_nan=True) if one.dtype.kind == "f" else np.array_equal(one, other)


def _signature(model: Any) -> Signature | None:
    """Return what is known without samples: the number of features, and what one row of zeros gives."""
    count = getattr(model, "n_features_in_", None)
    if count is None:
        return None
    # scikit-learn takes any number and does not keep which it was fitted on; float64 is what it computes in.
    inputs = (TensorSpec(name="input", dtype="float64", shape=(-1, int(count))),)
    try:
        outputs = _predicted(model, np.zeros((1, int(count))))
    except InvalidInputError:
        return Signature(inputs=inputs)
    return Signature(
        inputs=inputs,
        outputs=(TensorSpec(name="output", dtype=str(outputs.dtype), shape=(-1, *outputs.shape[1:])),),
    )
