"""A registration before anything is written: what was given, checked and made ready to be stored."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from registry import artifacts, frameworks
from registry.encoding import canonical_json
from registry.errors import InvalidInputError
from registry.frameworks.kinds import ModelFramework
from registry.metrics import ModelMetrics
from registry.records import Description, tags_of
from registry.signature import Signature
from registry.versions import Bump

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Draft:
    """A registration, checked, before anything is written."""

    described: Description
    sources: list[artifacts.Source] = field(default_factory=list)
    form: Literal["bytes", "file", "folder", "model", "none"] = "none"
    framework_info: dict[str, Any] = field(default_factory=dict)
    measured_on: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    """What a later release put into the sidecar that this one is copied from."""


@dataclass(frozen=True)
class Given:
    """What the caller gave to store: at most one of artifact, model and path, and what goes with a model."""

    artifact: bytes | str | os.PathLike[str] | None
    model: object | None
    artifact_path: str | os.PathLike[str] | None
    samples: NDArray[Any] | None
    allow_pickle: AbstractSet[str] | None


def describe(  # noqa: PLR0913 - what the public interface takes
    *,
    framework: ModelFramework | str | None,
    metrics: ModelMetrics | Mapping[str, float] | None,
    parameters: Mapping[str, Any] | None,
    tags: Mapping[str, str] | Iterable[str] | None,
    description: str,
    signature: Signature | None,
    lineage: Mapping[str, Any] | None,
) -> Description:
    """Return what is said of a version, in the form that is kept.

    Raises:
        InvalidInputError: A word that names no framework, or something that JSON cannot hold.
    """
    described = Description(
        framework=None if framework is None else ModelFramework.parse(framework),
        metrics=ModelMetrics.of(metrics),
        parameters=_json_able("parameters", parameters),
        tags=tags_of(tags),
        description=description,
        signature=signature,
        lineage=_json_able("lineage", lineage),
    )
    _json_able("a description, a tag or a name", described.model_dump(mode="json"))
    return described


@contextmanager
def drafted(described: Description, given: Given) -> Iterator[Draft]:
    """Give a registration ready to be stored; its sources can be read for as long as the context lasts.

    Raises:
        InvalidInputError: What was given contradicts itself, or cannot be saved.
        ArtifactNotFoundError: There is nothing at the path.
    """
    if sum(way is not None for way in (given.artifact, given.model, given.artifact_path)) > 1:
        raise InvalidInputError("give one of artifact, artifact_path and model: each of them says what to store.")
    if given.samples is not None and given.model is None:
        raise InvalidInputError("samples go with model=, which is run on them; found samples without a model.")
    # Making and removing a folder costs as much as all the rest, and only a model that is saved needs one.
    with tempfile.TemporaryDirectory(prefix="modelway-") if given.model is not None else nullcontext("") as scratch:
        yield _of_model(described, given, Path(scratch)) if given.model is not None else _of_bytes(described, given)


def _of_model(described: Description, given: Given, scratch: Path) -> Draft:
    saved = frameworks.save(
        given.model,
        scratch,
        framework=described.framework,
        samples=given.samples,
        allow_pickle=given.allow_pickle,
    )
    known = {"framework": saved.framework, "signature": described.signature or saved.signature}
    return Draft(
        described.model_copy(update=known), artifacts.from_path(scratch), form="model", framework_info=dict(saved.info)
    )


def _of_bytes(described: Description, given: Given) -> Draft:
    path = given.artifact if given.artifact_path is None else given.artifact_path
    if path is None:
        return Draft(described)
    if isinstance(path, bytes | bytearray | memoryview):
        return Draft(described, artifacts.from_bytes(bytes(path)), form="bytes")
    top = Path(path)
    sources, folder = artifacts.from_path(top), top.is_dir()
    found = frameworks.examine(top, framework=described.framework, allow_pickle=given.allow_pickle)
    sources += [artifacts.from_file(top.parent / name, name) for name in found.beside]
    framework = described.framework or (None if folder else found.framework)
    known = {"framework": framework, "signature": described.signature or found.signature}
    return Draft(described.model_copy(update=known), sources, form="folder" if folder else "file")


def bump_of(word: Bump | str) -> Bump:
    """Return the part of a semantic version that ``word`` names.

    Raises:
        InvalidInputError: It names none.
    """
    try:
        return Bump(str(word).lower())
    except ValueError:
        raise InvalidInputError(
            f"{word!r} is no part of a semantic version; bump is one of: {', '.join(Bump)}."
        ) from None


def _json_able(what: str, values: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        # There and back: tuples become lists and numbers as keys become strings now, not when somebody reads it.
        stored: dict[str, Any] = json.loads(canonical_json(dict(values or {})))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{what} cannot be stored as JSON: {error}. Use numbers, strings, lists and dicts."
        ) from None
    return stored
