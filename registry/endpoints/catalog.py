"""The models that a serving process holds open: their files checked, opened and looked up by name and version."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnxruntime
from pydantic import ValidationError

from registry.encoding import digest_of
from registry.endpoints.serving import CANDIDATE, ServedModels
from registry.endpoints.tensors import Array, ProtocolError
from registry.errors import EngineError, IntegrityError, InvalidInputError, InvalidVersionError
from registry.signature import Signature, TensorSpec
from registry.versions import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from registry.endpoints.serving import ServedVersion

_log = logging.getLogger(__name__)

_DTYPES = {
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
_ERRORS_ONLY = 3  # onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """One version, open and immutable; ``run`` may be called from many threads at once."""

    served: ServedVersion
    contract: Signature
    session: Any

    def run(self, inputs: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        """Return the wanted outputs for inputs that fit ``contract``.

        Raises:
            ProtocolError: onnxruntime could not compute them (500); the reason stands in the log as well.
        """
        try:
            found = self.session.run(list(wanted), dict(inputs))
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            _log.exception("%s:%s could not run", self.served.model, self.served.version)
            raise ProtocolError(
                f"{self.served.model} could not run on these inputs: {_first_line(error)}", status=500
            ) from error
        return dict(zip(wanted, found, strict=True))


@dataclass(frozen=True, slots=True)
class Catalog:
    """The open versions of one generation; a change is a new catalog put in the place of the old one."""

    versions: tuple[LoadedVersion, ...] = ()
    generation: int = 0

    def find(self, model: str, version: str | None = None, *, at: float = 0.0) -> LoadedVersion:
        """Return the version that a URL names, or that answers where it names none.

        Args:
            model: The model's name.
            version: Its number, its label, or ``candidate``; None for one by the shares.
            at: Where in the shares, 0 to 1 without 1: the stable version's come first.

        Raises:
            ProtocolError: Not served here (404); lists what is.
        """
        of_model = [loaded for loaded in self.versions if loaded.served.model == model]
        if not of_model:
            names = ", ".join(sorted({loaded.served.model for loaded in self.versions})) or "nothing"
            raise ProtocolError(f"no model {model[:80]!r} at this endpoint; it serves: {names}", status=404)
        found = _by_share(of_model, at) if version is None else _by_address(of_model, version)
        if found is None:
            asked = "version that answers yet" if version is None else f"version {version[:80]!r}"
            addresses = ", ".join(loaded.served.address for loaded in of_model)
            raise ProtocolError(f"{model} has no {asked} at this endpoint; it serves: {addresses}", status=404)
        return found

    def numbers_of(self, model: str) -> list[str]:
        """Return the versions of a model that are open, as they stand in URLs."""
        return [loaded.served.address for loaded in self.versions if loaded.served.model == model]

    def without(self, model: str) -> Catalog:
        """Return the same without a model.

        Raises:
            ProtocolError: It is not served here (404).
        """
        kept = tuple(loaded for loaded in self.versions if loaded.served.model != model)
        if len(kept) == len(self.versions):
            raise ProtocolError(f"no model {model[:80]!r} at this endpoint", status=404)
        return replace(self, versions=kept)


def read_models(path: Path) -> ServedModels:
    """Return what a models file lists.

    Raises:
        InvalidInputError: It is not there, or is none.
    """
    try:
        return ServedModels.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidInputError(f"{path} is no file of models to serve: {error}") from error


def open_catalog(models: ServedModels, *, engine_threads: int, known: Catalog | None = None) -> Catalog:
    """Open every version that is not open in ``known`` with the same bytes, runtime and precision.

    Raises:
        IntegrityError: A file has another sha256 than it should; it was not opened.
        EngineError: A file is missing or no model, or the model's tensors are not all numbers.
    """
    opened = {loaded.served.opened_as: loaded for loaded in (known or Catalog()).versions}
    versions = []
    for served in models.versions:
        same = opened.get(served.opened_as)
        loaded = open_version(served, engine_threads=engine_threads) if same is None else replace(same, served=served)
        opened[served.opened_as] = loaded
        versions.append(loaded)
    return Catalog(tuple(versions), models.generation)


def _by_share(of_model: Sequence[LoadedVersion], at: float) -> LoadedVersion | None:
    answering = [loaded for loaded in of_model if loaded.served.role in {"stable", "canary"}]
    answering.sort(key=lambda loaded: loaded.served.role == "canary")
    for loaded in answering:
        at -= loaded.served.share
        if at < 0:
            return loaded
    return answering[-1] if answering else None


def _by_address(of_model: Sequence[LoadedVersion], version: str) -> LoadedVersion | None:
    address = version if version == CANDIDATE else _number(version)
    return next((loaded for loaded in of_model if loaded.served.address == address), None)


def open_version(served: ServedVersion, *, engine_threads: int) -> LoadedVersion:
    """Open one version on the CPU.

    Raises:
        IntegrityError: Its file has another sha256 than it should; it was not opened.
        EngineError: Its file is missing or no ONNX model, or the model's tensors are not all numbers.
    """
    try:
        data = served.engine.read_bytes()
    except OSError as error:
        raise EngineError(
            f"{served.model}:{served.version} cannot be served: {served.engine} cannot be read: {error}"
        ) from error
    expected, found = "sha256:" + served.digest.removeprefix("sha256:"), digest_of(data)
    if found != expected:
        raise IntegrityError(str(served.engine), expected, found)
    # Opened from the bytes that were checked, so that nobody can change the file in between.
    if served.runtime == "openvino":
        from registry.endpoints.openvino_session import open_in_openvino

        opened = open_in_openvino(data, threads=engine_threads, precision=served.precision)
        return LoadedVersion(served, opened.contract, opened)
    try:
        session = onnxruntime.InferenceSession(
            data, _options(served, engine_threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise EngineError(
            f"{served.model}:{served.version} cannot be served: onnxruntime does not open {served.engine}: "
            f"{_first_line(error)}. "
            "The endpoint serves ONNX models that are one file, without external data."
        ) from error
    contract = Signature(inputs=_specs(served, session.get_inputs()), outputs=_specs(served, session.get_outputs()))
    return LoadedVersion(served, contract, session)


def _options(served: ServedVersion, engine_threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = engine_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Else onnxruntime reads weights that no digest covers from the working directory. Nothing can lie below a file.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(served.engine / "none")
    )
    # Spinning threads take whole cores from the event loop while they wait for the next request.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _specs(served: ServedVersion, arguments: Sequence[Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for argument in arguments:
        if argument.type not in _DTYPES:
            raise EngineError(
                f"{served.model}:{served.version} cannot be served: its tensor {argument.name!r} is {argument.type}, "
                f"and the endpoint takes numbers only ({', '.join(sorted(set(_DTYPES.values())))})."
            )
        shape = tuple(size if isinstance(size, int) else -1 for size in argument.shape)
        specs.append(TensorSpec(name=argument.name, dtype=_DTYPES[argument.type], shape=shape))
    return tuple(specs)


def _number(version: str) -> str:
    try:
        return canonical(version)
    except InvalidVersionError:
        return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
