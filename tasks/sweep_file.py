"""The sweep file: one pipeline, and the choices of its trainer's parameters; checked before anything is trained."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from registry import ModelVersion
from registry.base import Record
from registry.encoding import canonical_json, digest_of
from registry.yaml_files.document import read_yaml
from registry.yaml_files.schema import problems_of
from registry.yaml_files.wording import Problem, found
from tasks.entry_points import match_arguments, resolve
from tasks.pipeline import PipelineConfig, load_pipeline
from tasks.runners import Runner


class SweepSettings(Record):
    """A sweep file: ``grid`` holds a list of values for each parameter of the trainer that is varied."""

    pipeline: str
    grid: dict[str, tuple[Any, ...]] = Field(min_length=1)
    runner: Runner = "threads"
    workers: int = Field(default=2, ge=1)
    threads_per_worker: int = Field(default=1, ge=1)
    address: str | None = None


class Candidate(Record):
    """One choice; ``parameters`` are all that the trainer gets, ``varied`` those of the grid."""

    number: int
    varied: dict[str, Any]
    parameters: dict[str, Any]

    @property
    def digest(self) -> str:
        """What the choice is known by in idempotency keys."""
        return digest_of(canonical_json(self.parameters)).partition(":")[2][:16]

    @property
    def words(self) -> str:
        """What is special about it."""
        return ", ".join(f"{name}={value}" for name, value in self.varied.items())


class Sweep(Record):
    """A sweep file that holds, with its pipeline and its candidates."""

    settings: SweepSettings
    pipeline: PipelineConfig
    candidates: tuple[Candidate, ...]


class Tried(Record):
    """A candidate that was trained, registered and measured; ``seconds`` is how long that took.

    ``score`` is the pipeline's metric on the validation data, which candidates are chosen by. The version's metrics are
    those on the test data, which the policy was held against; ``failures`` is what it did not meet.
    """

    candidate: Candidate
    version: ModelVersion
    score: float
    failures: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """How people tell it from the others."""
        return f"{self.version.full_name} ({self.candidate.words})"


class Failed(Record):
    """A candidate that nothing came of, and why."""

    candidate: Candidate
    error: str

    @property
    def name(self) -> str:
        """How people tell it from the others."""
        return f"candidate {self.candidate.number} ({self.candidate.words})"


def load_sweep(path: str | os.PathLike[str], **instead: Any) -> Sweep:
    """Read a sweep file and check all of it: its pipeline file, and each value of the grid against the trainer.

    Args:
        path: The file.
        instead: Settings that stand above those of the file; None where the file's holds.

    Raises:
        InvalidPipelineError: Anything is wrong in either file; the message has a line for each mistake.
    """
    file = read_yaml(Path(path), kind="sweep file")
    value, problems = file.plain()
    if not isinstance(value, dict):
        problems = [((), f"a sweep file is made of keys and values; found {found(value)} at its top.")]
    if problems:
        raise file.refusal(problems)
    value |= {name: setting for name, setting in instead.items() if setting is not None}
    settings, problems = problems_of(SweepSettings, value)
    if settings is None:
        raise file.refusal(problems)
    pipeline = load_pipeline(settings.pipeline)
    if problems := [*_grid_problems(settings, pipeline)]:
        raise file.refusal(problems)
    fixed = {name: one for name, one in pipeline.trainer.parameters.items() if name not in settings.grid}
    choices = [dict(zip(settings.grid, values, strict=True)) for values in itertools.product(*settings.grid.values())]
    candidates = tuple(
        Candidate(number=number, varied=varied, parameters={**fixed, **varied})
        for number, varied in enumerate(choices, start=1)
    )
    return Sweep(settings=settings, pipeline=pipeline, candidates=candidates)


def _grid_problems(settings: SweepSettings, pipeline: PipelineConfig) -> Iterator[Problem]:
    trainer = resolve(pipeline.trainer.entry_point)
    for name, values in settings.grid.items():
        if not values:
            yield ("grid", name), "there is nothing to choose from: give a list of values."
        for index, value in enumerate(values):
            if value in values[:index]:
                yield ("grid", name, index), f"{value!r} is there twice: take one away."
            given = {**pipeline.trainer.parameters, name: value}
            for place, what in match_arguments(trainer, given, given=1, offered=("progress",))[1]:
                if place[:1] == (name,):
                    yield ("grid", name, index, *place[1:]), what
