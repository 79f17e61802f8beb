"""The pipeline file: what is trained, what it must reach, and where it goes; checked before any of it happens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from registry.base import Record
from registry.endpoints.canary import CanarySettings
from registry.endpoints.settings import TargetKind, TargetSettings, settings_of
from registry.engines.spec import OptimizeSpec
from registry.errors import InvalidInputError, InvalidPipelineError
from registry.guard import Guard, PublicKey
from registry.names import check_name
from registry.policy import IncumbentRule, PromotionPolicy
from registry.stages import ModelStage
from registry.yaml_files.document import read_yaml
from registry.yaml_files.schema import problems_of
from registry.yaml_files.wording import Problem, found
from tasks.entry_points import match_arguments, resolve
from tasks.notices import NoticeSettings

Stage = Annotated[ModelStage, BeforeValidator(lambda word: ModelStage.parse(word) if isinstance(word, str) else word)]


class EntryPoint(Record):
    """A function as ``module:function``, and its keyword arguments."""

    entry_point: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Evaluation(EntryPoint):
    """What measures: (outputs, labels) in, numbers out. Engines are held to ``metric``, higher is better."""

    entry_point: str = "tasks.evaluation:classification"
    metric: str = "accuracy"


class GuardSettings(Record):
    """What the registry is to hold every client to; ``approvers`` are shell patterns."""

    require_approval: tuple[Stage, ...] = ()
    accept_asserted: bool = False
    approvers: tuple[str, ...] = ()
    allow_self_approval: bool = False
    min_approvals: int = Field(default=1, ge=1)
    signers: dict[str, PublicKey] = Field(default_factory=dict)
    strict_path: bool = False

    def to_guard(self) -> Guard:
        """Return the registry's own record of it."""
        return Guard(**dict(self))


class RegistrySettings(Record):
    """Where the registry lies, and what guards it; without a guard the registry's own stays as it is."""

    url: str = ".modelway"
    guard: GuardSettings | None = None


class DeploySettings(Record):
    """Where the version in production is served, and by which steps it takes over from the one before.

    ``settings`` are those of the target (``registry.endpoints.settings``); without ``canary`` it takes over at once.
    """

    target: TargetKind = "local"
    endpoint_name: Annotated[str, AfterValidator(lambda name: check_name(name, kind="endpoint"))]
    settings: dict[str, Any] = Field(default_factory=dict)
    canary: CanarySettings | None = None

    @model_validator(mode="after")
    def _of_this_target(self) -> Self:
        try:
            _ = self.place
        except InvalidInputError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def place(self) -> TargetSettings:
        """The target's settings as it takes them."""
        return settings_of(self.target, self.settings)


class ApprovalSettings(Record):
    """Whether a run asks a person before production, how long an answer holds, and how long the run waits for one."""

    required: bool = True
    expires_in_hours: float = Field(default=72.0, gt=0)
    timeout_s: float = Field(default=3600.0, gt=0)


class RetrainingSettings(Record):
    """By how much of the evaluation's metric a retrained version must be better, in the metric's own unit."""

    min_gain: float = Field(default=0.001, gt=0)

    def rule(self, evaluation: Evaluation) -> IncumbentRule:
        """Return the comparison with the version in production; the evaluation's metric is better when higher."""
        return IncumbentRule(metric=evaluation.metric, may_drop=-self.min_gain)


class PipelineConfig(Record):
    """A pipeline file that holds; ``name`` is the model's."""

    name: Annotated[str, AfterValidator(check_name)]
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    registry: RegistrySettings = RegistrySettings()
    data: EntryPoint
    trainer: EntryPoint
    evaluation: Evaluation = Evaluation()
    policy: PromotionPolicy = PromotionPolicy()
    optimize: OptimizeSpec = OptimizeSpec()
    deploy: DeploySettings
    approval: ApprovalSettings = ApprovalSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    notify: NoticeSettings = NoticeSettings()

    @field_validator("tags", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        # A tag given in a list has an empty value.
        return (
            dict.fromkeys(value, "")
            if isinstance(value, list) and all(isinstance(word, str) for word in value)
            else value
        )


_CALLED: tuple[tuple[str, type[EntryPoint], int, tuple[str, ...]], ...] = (
    ("data", EntryPoint, 0, ()),
    ("trainer", EntryPoint, 1, ("progress",)),
    ("evaluation", Evaluation, 2, ()),
)
"""Each section that names a function: what it is read as, how many arguments come first, what the caller may add."""


def load_pipeline(path: str | os.PathLike[str]) -> PipelineConfig:
    """Read a pipeline file and check all of it, its functions and their parameters too; those are imported for it.

    Raises:
        InvalidPipelineError: Anything at all is wrong. The message has a line for each mistake: the file, the line, the
            key, what was found there and what to do.
    """
    file = read_yaml(Path(path), kind="pipeline file")
    value, problems = file.plain()
    if not isinstance(value, dict):
        problems = [((), f"a pipeline file is made of keys and values; found {found(value)} at its top.")]
    if problems:
        raise file.refusal(problems)
    config, problems = problems_of(PipelineConfig, value)
    problems += _function_problems(value)
    if config is None or problems:
        raise file.refusal(problems)
    return config


def _function_problems(value: Mapping[str, Any]) -> Iterator[Problem]:
    for section, kind, given, offered in _CALLED:
        try:
            named = kind.model_validate(value.get(section, {}))
        except ValidationError:
            continue  # told with the rest of the file's form
        try:
            function = resolve(named.entry_point)
        except InvalidPipelineError as error:
            yield (section, "entry_point"), str(error)
            continue
        for place, what in match_arguments(function, named.parameters, given=given, offered=offered)[1]:
            yield (section, "parameters", *place) if place else (section, "entry_point"), what
