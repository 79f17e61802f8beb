"""Work pools: the file that describes one, held against the job schema of the worker that will read it."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from prefect.settings.models.flows import FlowsSettings
from prefect.utilities.schema_tools.validation import validate
from prefect.workers.base import BaseWorker
from pydantic import Field

from registry.base import Record
from registry.yaml_files.wording import Problem, meant

_WORKERS: Final = {
    "process": ("prefect.workers.process", "ProcessWorker", "prefect"),
    "docker": ("prefect_docker.worker", "DockerWorker", "prefect-docker"),
    "kubernetes": ("prefect_kubernetes.worker", "KubernetesWorker", "prefect-kubernetes"),
}
"""Where each type of pool has its worker: module, class, and the package that brings it."""


HEARTBEAT: Final = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
"""The variable by which a run knows how often to give a sign of life."""


class PoolSettings(Record):
    """A work pool. ``variables`` are defaults of its jobs; a deployment may set others in ``job_variables``.

    ``job_configuration`` is laid over the worker's own, for what it has no variable for; lists item by item.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    type: Literal["process", "docker", "kubernetes"]
    description: str = ""
    concurrency: int | None = Field(default=None, ge=1)
    variables: dict[str, Any] = Field(default_factory=dict)
    job_configuration: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class WorkPool:
    """A pool that holds: its settings, and the job template that its worker will fill in."""

    settings: PoolSettings
    template: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name on the server."""
        return self.settings.name

    @property
    def heartbeat_s(self) -> float:
        """How often a run of it gives a sign of life, in seconds; Prefect's own default where the file sets none."""
        return float(
            _environment(self.settings).get(HEARTBEAT) or FlowsSettings.model_fields["heartbeat_frequency"].default
        )


def worker_of(kind: str) -> type[BaseWorker[Any, Any, Any]]:
    """Return the worker of a type of pool.

    Raises:
        ModuleNotFoundError: The package that brings it is not installed.
    """
    module, name, _ = _WORKERS[kind]
    worker: type[BaseWorker[Any, Any, Any]] = getattr(importlib.import_module(module), name)
    return worker


def template_problems(settings: PoolSettings) -> tuple[dict[str, Any], list[Problem]]:
    """Return the base job template of a pool, and what its worker would not take, by place in the pool file."""
    try:
        template = copy.deepcopy(worker_of(settings.type).get_default_base_job_template())
    except ModuleNotFoundError:
        package = _WORKERS[settings.type][2]
        words = f"pools of the type {settings.type} need {package} where they are applied: pip install {package}."
        return {}, [(("type",), words)]
    problems = [(("variables", *at), what) for at, what in _variable_problems(template, settings.variables)]
    known = template["job_configuration"]
    problems += (
        (
            ("job_configuration", key),
            f"a {settings.type} job has no {key!r}.{meant(key, known)} It has: {', '.join(known)}.",
        )
        for key in settings.job_configuration.keys() - known.keys()
    )
    if not re.fullmatch(r"[3-9]\d|\d{3,}", _environment(settings).get(HEARTBEAT) or "30"):
        problems.append((("variables", "env", HEARTBEAT), "give whole seconds, 30 at least, in quotes."))
    for name, value in settings.variables.items():
        if name in template["variables"]["properties"]:
            template["variables"]["properties"][name]["default"] = value
    template["job_configuration"] = _laid_over(known, settings.job_configuration)
    return template, problems


def variable_problems(pool: WorkPool, variables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield which job variables the pool's jobs do not have, or not with such values."""
    return _variable_problems(pool.template, variables)


def _variable_problems(template: Mapping[str, Any], variables: Mapping[str, Any]) -> Iterator[Problem]:
    known = template["variables"]["properties"]
    for name in variables:
        # Prefect itself passes over a variable that it does not know, without a word.
        if name.partition(".")[0] not in known:
            yield (
                (name,),
                f"a job of this pool has no variable {name!r}.{meant(name, known)} It has: {', '.join(known)}.",
            )
    # A name with dots sets one key inside a variable, and the schema knows whole variables only.
    whole = {name: value for name, value in variables.items() if name in known}
    for error in validate(whole, template["variables"], ignore_required=True):
        yield tuple(error.absolute_path), f"{error.message}: the schema of the pool's jobs does not take it."


def _environment(settings: PoolSettings) -> dict[str, str]:
    env = settings.variables.get("env")
    return env if isinstance(env, dict) else {}


def _laid_over(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _laid_over(below.get(key), value) for key, value in above.items()}
    if isinstance(below, list) and isinstance(above, list):
        both = [_laid_over(*pair) for pair in zip(below, above, strict=False)]
        return [*both, *below[len(both) :], *above[len(both) :]]
    return above
