"""The models that a serving process holds open: their files checked, opened and looked up by name and version."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnxruntime

from registry.encoding import digest_of
from registry.endpoints.tensors import Array, ProtocolError
from registry.errors import EngineError, IntegrityError, InvalidVersionError
from registry.signature import Signature, TensorSpec
from registry.versions import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """The open versions; a change is a new catalog put in the place of the old one."""

    versions: tuple[LoadedVersion, ...]

    def find(self, model: str, version: str | None = None) -> LoadedVersion:
        """Return the version that a URL names: its number or its label, or the model's default where it names none.

        Raises:
            ProtocolError: Not served here (404); lists what is.
        """
        of_model = [loaded for loaded in self.versions if loaded.served.model == model]
        if not of_model:
            names = ", ".join(sorted({loaded.served.model for loaded in self.versions}))
            raise ProtocolError(f"no model {model[:80]!r} at this endpoint; it serves: {names}", status=404)
        for loaded in of_model:
            if loaded.served.default if version is None else loaded.served.number == _number(version):
                return loaded
        numbers = ", ".join(loaded.served.number for loaded in of_model)
        raise ProtocolError(
            f"{model} has no version {str(version)[:80]!r} at this endpoint; it serves: {numbers}", status=404
        )

    def numbers_of(self, model: str) -> list[str]:
        """Return the versions of a model that are open, as they stand in URLs."""
        return [loaded.served.number for loaded in self.versions if loaded.served.model == model]


def open_catalog(versions: Sequence[ServedVersion], *, engine_threads: int) -> Catalog:
    """Open every version.

    Raises:
        IntegrityError: A file has another sha256 than it should; it was not opened.
        EngineError: A file is missing or no ONNX model, or the model's tensors are not all numbers.
    """
    return Catalog(tuple(open_version(served, engine_threads=engine_threads) for served in versions))


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
