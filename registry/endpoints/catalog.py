"""The models that a serving process holds open: their files checked, opened and looked up by name and version."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import onnxruntime
from pydantic import ValidationError

from registry.encoding import digest_of
from registry.endpoints.batching import Lane, first_line
from registry.endpoints.serving import CANDIDATE, ServedModels
from registry.endpoints.statistics import Counters
from registry.endpoints.tensors import ProtocolError
from registry.errors import EngineError, IntegrityError, InvalidInputError, InvalidVersionError
from registry.signature import Signature, TensorSpec
from registry.versions import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from registry.endpoints.serving import ServedVersion

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
    """One version, open; the same engine's ``lane`` may be another version's too, the counters are its own."""

    served: ServedVersion
    lane: Lane
    counters: Counters

    @property
    def contract(self) -> Signature:
        """Its inputs and outputs, -1 where a size is free."""
        return self.lane.contract


@dataclass(frozen=True)
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
        of_model = self._models.get(model) or self._refuse(model)
        found = _by_share(of_model, at) if version is None else _by_address(of_model, version)
        if found is None:
            asked = "version that answers yet" if version is None else f"version {version[:80]!r}"
            addresses = ", ".join(of_model)
            raise ProtocolError(f"{model} has no {asked} at this endpoint; it serves: {addresses}", status=404)
        return found

    def of_model(self, model: str) -> tuple[LoadedVersion, ...]:
        """Return every version of a model.

        Raises:
            ProtocolError: Not served here (404); lists what is.
        """
        return tuple((self._models.get(model) or self._refuse(model)).values())

    def shadow_of(self, model: str) -> LoadedVersion | None:
        """Return the version that gets copies of a model's requests, None where none does."""
        return self._shadows.get(model)

    def numbers_of(self, model: str) -> list[str]:
        """Return the versions of a model that are open, as they stand in URLs."""
        return list(self._models.get(model, ()))

    def only(self, models: Collection[str]) -> Catalog:
        """Return the same with no other models than these."""
        return replace(self, versions=tuple(loaded for loaded in self.versions if loaded.served.model in models))

    def _refuse(self, model: str) -> NoReturn:
        names = ", ".join(sorted(self._models)) or "nothing"
        raise ProtocolError(f"no model {model[:80]!r} at this endpoint; it serves: {names}", status=404)

    @cached_property
    def models(self) -> frozenset[str]:
        """The names of the models that are open."""
        return frozenset(self._models)

    @cached_property
    def _models(self) -> dict[str, dict[str, LoadedVersion]]:
        found: dict[str, dict[str, LoadedVersion]] = {}
        for loaded in self.versions:
            found.setdefault(loaded.served.model, {})[loaded.served.address] = loaded
        return found

    @cached_property
    def _shadows(self) -> dict[str, LoadedVersion]:
        return {loaded.served.model: loaded for loaded in self.versions if loaded.served.role == "shadow"}


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
    before = () if known is None else known.versions
    lanes = {loaded.served.opened_as: loaded.lane for loaded in before}
    counters = {_counted_as(loaded.served): loaded.counters for loaded in before}
    for served in models.versions:
        if served.opened_as not in lanes:
            lanes[served.opened_as] = open_lane(served, engine_threads=engine_threads)
    versions = tuple(
        LoadedVersion(served, lanes[served.opened_as], counters.get(_counted_as(served)) or Counters())
        for served in models.versions
    )
    answering = {served.opened_as for served in models.versions if served.role != "shadow"}
    for loaded in versions:
        loaded.lane.background = loaded.served.opened_as not in answering
    return Catalog(versions, models.generation)


def _counted_as(served: ServedVersion) -> tuple[str, ...]:
    return served.address, *served.opened_as


def _by_share(of_model: Mapping[str, LoadedVersion], at: float) -> LoadedVersion | None:
    stable = canary = None
    for loaded in of_model.values():
        if loaded.served.role == "stable":
            stable = loaded
        elif loaded.served.role == "canary":
            canary = loaded
    return canary if canary is not None and stable is not None and at >= stable.served.share else stable


def _by_address(of_model: Mapping[str, LoadedVersion], version: str) -> LoadedVersion | None:
    return of_model.get(version if version == CANDIDATE else _number(version))


def open_lane(served: ServedVersion, *, engine_threads: int) -> Lane:
    """Open the engine of one version on the CPU.

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
    name = f"{served.model}:{served.version}"
    if served.runtime == "openvino":
        from registry.endpoints.openvino_session import open_in_openvino

        opened = open_in_openvino(data, threads=engine_threads, precision=served.precision)
        return Lane(name, opened.contract, opened, served.precision, computes_in_caller=False, same_first_axis=True)
    session = _session(served, data, engine_threads)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    first_axes = {argument.shape[0] for argument in (*inputs, *outputs) if argument.shape}
    return Lane(
        name,
        Signature(inputs=_specs(served, inputs), outputs=_specs(served, outputs)),
        session,
        served.precision,
        computes_in_caller=engine_threads == 1,
        # Axes of two names have two sizes; one without a name may have any.
        same_first_axis=len(first_axes - {None}) <= 1,
    )


def _session(served: ServedVersion, data: bytes, engine_threads: int) -> onnxruntime.InferenceSession:
    try:
        with _as_sealed_file(data) as model:
            options = _options(served, engine_threads)
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineError(
            f"{served.model}:{served.version} cannot be served: onnxruntime does not open {served.engine}: "
            f"{first_line(error)}. "
            "The endpoint serves ONNX models that are one file, without external data."
        ) from error


@contextmanager
def _as_sealed_file(data: bytes) -> Iterator[str | bytes]:
    """Give the bytes as a file in memory that nobody can change.

    onnxruntime reads a model from memory with Python's lock held, and every request waits: 200 ms for 140 MB, where a
    file costs 13 ms.
    """
    if sys.platform != "linux":
        yield data
        return
    descriptor = os.memfd_create("model", os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as opened:
            opened.write(data)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


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
