"""From a training script into the registry: register what was trained, or train and register in one call.

How a model is trained is the caller's business: a config with a ``train`` method, or a function. This module adds the
order: what can be known to be refused is refused before hours of training, a model that was not registered is never
promoted, and the version says by itself what trained it, on which data and with which parameters.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from registry.config import RegistryConfig
from registry.default import default_registry
from registry.errors import ApprovalRequired, ModelNotFoundError
from registry.metrics import ModelMetrics
from registry.names import look_alike
from registry.records import ModelVersion
from registry.registry import InMemoryRegistry, ModelRegistry
from registry.stages import ModelStage, check_move
from registry.training import Trainer, fields_of, recorded
from registry.versions import Bump, VersionRef, canonical

if TYPE_CHECKING:
    from registry.frameworks.kinds import ModelFramework

Place = ModelRegistry | RegistryConfig | str | os.PathLike[str]
"""A registry, or where it lies."""


def register_trained_model(  # noqa: PLR0913 - the public interface
    model: Any,
    model_name: str,
    *,
    metrics: ModelMetrics | Mapping[str, float] | None = None,
    promote_to_staging: bool = False,
    registry: Place | None = None,
    idempotency_key: str | None = None,
    **same: Any,
) -> tuple[Any, ModelVersion]:
    """Register a model that was trained elsewhere, and take it to staging if asked.

    Args:
        model: The trained object; or bytes, or the path of a file or folder that it was saved to.
        model_name: The model in the registry.
        metrics: Numbers by name.
        promote_to_staging: Move the new version to staging.
        registry: A registry, or where it lies; the default one without it.
        idempotency_key: The same key registers and moves once, however often the call is repeated.
        same: What else ``ModelRegistry.register`` takes: version, bump, framework, parameters, tags, description,
            signature, lineage, samples, actor.

    Returns:
        ``model`` as it was given, and its version as it stands now.

    Raises:
        InvalidInputError, ConflictError, StoreError: It could not be registered; nothing was promoted.
        PolicyFailed, ApprovalRequired: It is registered and stays in development, because staging is not open to it.
    """
    models = _opened(registry)
    source = "artifact" if isinstance(model, bytes | str | os.PathLike) else "model"
    new = models.register(model_name, **{source: model}, metrics=metrics, idempotency_key=idempotency_key, **same)
    if promote_to_staging:
        new = models.promote(
            new.name,
            new.version,
            ModelStage.STAGING,
            actor=same.get("actor"),
            reason="promoted with its registration",
            idempotency_key=idempotency_key,
        )
    return model, new


def train_and_register_model(  # noqa: PLR0913 - the public interface
    *,
    model_name: str,
    config: Any = None,
    trainer: Callable[..., Any] | str | None = None,
    version: VersionRef | None = None,
    bump: Bump | str | None = None,
    framework: ModelFramework | str | None = None,
    metrics: ModelMetrics | Mapping[str, float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | Iterable[str] | None = None,
    description: str = "",
    lineage: Mapping[str, Any] | None = None,
    promote_to_staging: bool = False,
    registry: Place | None = None,
    idempotency_key: str | None = None,
    actor: str | None = None,
    **inputs: Any,
) -> tuple[Any, ModelVersion]:
    """Train a model, register it, and take it to staging if asked.

    The trainer is ``trainer(config, **inputs)``, else ``config.train(**inputs)``, else ``config(**inputs)``. It returns
    the model, or the pair of model and metrics, or a ``TrainedModel``.

    Recorded with the version, as far as JSON holds them: the config's fields as parameters, the trainer's name and the
    inputs (data paths) as lineage. A field whose name begins with ``_``, or a dataclass field with ``repr=False``, is
    not recorded: keep what is secret in one of those.

    Args:
        model_name: The model in the registry.
        config: What to train with: a dataclass, a pydantic model, a dict or any object; None for a trainer without one.
        trainer: A function, or its name as ``module:function``.
        version: A label; None for the next one.
        bump: Which part of the greatest semantic version to count up.
        framework: What made it; told from the object without it.
        metrics: Numbers by name; they stand above those of the trainer.
        parameters: They stand above those of the trainer, and those above the fields of the config.
        tags: Pairs, or plain words.
        description: Words for people.
        lineage: It stands above what the trainer says, and that above ``trainer`` and ``inputs``.
        promote_to_staging: Move the new version to staging.
        registry: A registry, or where it lies; the default one without it.
        idempotency_key: The same key registers and moves once, however often the call is repeated; it trains each time.
        actor: Who is recorded.
        inputs: Everything else goes to the trainer by name: ``tfrecord_paths=[...]``, ``epochs=3``.

    Returns:
        The trained object, and its version as it stands now.

    Raises:
        InvalidInputError: Something given cannot be, or the trainer does not take its inputs; nothing was trained. Or
            the trainer returned nothing that can be registered.
        VersionExistsError: The label is taken; nothing was trained.
        StoreError: The registry cannot be read (nothing was trained) or written.
        ApprovalRequired, IllegalTransitionError: Staging is not open to a new version; nothing was trained.
        PolicyFailed: It is registered and stays in development: it does not meet the policy for staging.
    """
    models, run = _opened(registry), Trainer.of(config, trainer)
    run.check(inputs, beside=inspect.signature(train_and_register_model).parameters)
    same: dict[str, Any] = {"version": version, "bump": bump, "framework": framework, "tags": tags}
    same |= {"description": description, "idempotency_key": idempotency_key, "actor": actor}
    before = {"metrics": metrics, "parameters": parameters, "lineage": lineage}
    _rehearse(models, model_name, same | before, promote_to_staging=promote_to_staging)
    trained = run.train(inputs)
    return register_trained_model(
        trained.model,
        model_name,
        metrics=ModelMetrics.of(trained.metrics).updated(ModelMetrics.of(metrics)),
        parameters={**recorded(fields_of(config)), **trained.parameters, **(parameters or {})},
        lineage={"trainer": run.name, "inputs": recorded(inputs), **trained.lineage, **(lineage or {})},
        samples=trained.samples,
        signature=trained.signature,
        promote_to_staging=promote_to_staging,
        registry=models,
        **same,
    )


def _opened(place: Place | None) -> ModelRegistry:
    if place is None:
        return default_registry()
    return place if isinstance(place, ModelRegistry) else ModelRegistry(place)


def _rehearse(models: ModelRegistry, name: str, same: Mapping[str, Any], *, promote_to_staging: bool) -> None:
    """Register without a model, in memory, beside what could be in its way: what is refused here would be later."""
    rehearsal, taken, version = InMemoryRegistry(), models.list_models(), same["version"]
    if other := look_alike(name, taken):
        rehearsal.register(other)
    if name in taken:
        labels: list[str] = []
        with contextlib.suppress(ModelNotFoundError):  # the name is taken, its first version not there yet
            labels = [known.version for known in models.list_versions(name)]
        equal = [label for label in labels if version is not None and canonical(label) == canonical(version)]
        # Under an idempotency key the label may be taken by this very call, an earlier time.
        in_the_way = [label for label in labels if label not in equal] if same["idempotency_key"] else equal or labels
        for label in in_the_way[-1:]:
            rehearsal.register(name, version=label)
    rehearsal.register(name, **same)
    guard = models.guard
    if promote_to_staging and ModelStage.STAGING in guard.require_approval:
        raise ApprovalRequired(
            f"{name} needs an approval to move to staging, and nobody can give it before it is trained: leave "
            f"promote_to_staging out, and ask for the approval when it is registered. Nothing was trained."
        )
    if promote_to_staging:
        check_move(name, ModelStage.DEVELOPMENT, ModelStage.STAGING, strict_path=guard.strict_path)
