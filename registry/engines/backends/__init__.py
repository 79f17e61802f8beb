"""The backends that engines are built with: one module for each family, all with the same four functions.

A candidate's own process asks ``missing``, ``key_of`` and ``build``, then ``open_engine``; whatever loads a kept engine
asks ``open_engine`` alone, after its digest was checked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

from numpy.typing import NDArray

from registry.errors import EngineError

if TYPE_CHECKING:
    from registry.engines.job import Job
    from registry.engines.key import EngineKey

Call: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""An open engine: a batch, shape (b, ...), to its outputs, shape (b, ...)."""


_Key = TypeVar("_Key")


class Backend(Protocol):
    """What a module of this package offers."""

    def missing(self, job: Job, /) -> str | None:
        """Return in words why this candidate cannot be built here (what is to be installed), or None."""

    def key_of(self, job: Job, /) -> EngineKey:
        """Return the key of the engine that ``build`` builds; everything that decides over its bytes and its answers.

        Raises:
            EngineError: The model is none that this backend takes.
        """

    def build(self, job: Job, key: EngineKey, /) -> str:
        """Write the engine's files into ``job.engine_folder``, which is there, and return the name of the one to open.

        Raises:
            EngineError: It cannot be built; the message says why, with the node's name where there is one.
        """

    def open_engine(self, file: Path, key: EngineKey, /, *, threads: int) -> Call:
        """Open an engine whose files were checked and whose key matches this machine.

        Raises:
            NotHereError: It cannot run on this machine.
            EngineError: It cannot be opened.
        """


def backend_of(engine: str) -> Backend:
    """Return the backend of an engine's name: what stands before its precision.

    Raises:
        ModuleNotFoundError: There is none; names come from ``spec.EngineName``.
    """
    return cast("Backend", importlib.import_module(f"{__name__}.{family_of(engine)}"))


def family_of(engine: str) -> str:
    """Return the name of the backend in an engine's name: openvino of openvino-int8."""
    return engine.split("-", 1)[0]


def precision_of(engine: str) -> str:
    """Return the precision in an engine's name: int8 of openvino-int8, fp32 where it names none."""
    _, _, precision = engine.partition("-")
    return precision or "fp32"


def is_exact(engine: str) -> bool:
    """Return whether an engine's outputs are to be equal to the original's, but for rounding."""
    return precision_of(engine) in {"fp32", "tf32"}


def own_key(key: EngineKey, kind: type[_Key]) -> _Key:
    """Return a key as one of the backend's own.

    Raises:
        EngineError: It is another backend's.
    """
    if not isinstance(key, kind):
        raise EngineError(f"this is the key of an engine of {key.engine}, and a {kind.__name__} is asked for.")
    return key
