"""``configs/deployments.yaml``: which flow runs where, when and after what; checked before a server is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from zoneinfo import available_timezones

from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from deployments.pools import HEARTBEAT, PoolSettings, WorkPool, template_problems, variable_problems
from registry.base import Record
from registry.errors import InvalidPipelineError
from registry.yaml_files.document import YamlFile, read_yaml
from registry.yaml_files.schema import problems_of
from registry.yaml_files.wording import Place, Problem, found, meant
from tasks.entry_points import match_arguments, resolve

DEFAULT_FILE: Final = Path("configs/deployments.yaml")
HEARTBEATS_MISSED: Final = 2
"""A run is not taken for dead before it may have lost so many heartbeats: one can come late."""

_Kind = TypeVar("_Kind", bound=BaseModel)


def _name(word: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*", word):
        raise ValueError(
            f"{word!r} cannot be a name here: use lower-case letters and digits, and single -, _ or . between them."
        )
    return word


def _cron(text: str) -> str:
    try:
        CronSchedule(cron=text)
    except ValidationError:
        raise ValueError(
            f"{text!r} is no cron line. Write five fields, minute hour day month weekday: '0 3 * * 1-5'."
        ) from None
    return text


def _timezone(name: str) -> str:
    if name not in available_timezones():
        mend = meant(name, available_timezones()) or " Write one of the IANA names, as Europe/Berlin or UTC."
        raise ValueError(f"there is no timezone {name!r}.{mend}")
    return name


Name = Annotated[str, AfterValidator(_name)]


class ScheduleSettings(Record):
    """When a deployment runs by itself, and with what; ``name`` tells its schedules apart."""

    name: Name
    cron: Annotated[str, AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    parameters: dict[str, Any] = Field(default_factory=dict)


class TriggerSettings(Record):
    """An event that starts a run. ``parameters`` may be templates, as ``{{ event.payload.reason }}``.

    Events of one resource within ``at_most_every_s`` of one that started a run start none.
    """

    event: str
    resource: str = "*"
    at_most_every_s: float = Field(default=0.0, ge=0)
    parameters: dict[str, Any] = Field(default_factory=dict)


class DeploymentSettings(Record):
    """A flow with its parameters, on a work pool (the first of the file without ``pool``)."""

    name: Name
    flow: str
    description: str = ""
    pool: str | None = None
    job_variables: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    concurrency: int | None = Field(default=None, ge=1)
    tags: tuple[str, ...] = ()
    schedules: tuple[ScheduleSettings, ...] = ()
    triggers: tuple[TriggerSettings, ...] = ()


class ZombieSettings(Record):
    """How long a run may be silent before it counts as dead."""

    within_s: float = Field(default=540.0, ge=60.0)


class DeploymentsFile(Record):
    """The file. What is applied from it carries ``tag``, by which a later apply knows what was removed from it."""

    tag: Name = "modelway"
    pools: tuple[str, ...] = Field(min_length=1)
    deployments: tuple[DeploymentSettings, ...] = ()
    zombies: ZombieSettings | None = None


@dataclass(frozen=True)
class Deployment:
    """A deployment that holds: its settings, with the flow and the pool that they name."""

    settings: DeploymentSettings
    flow: Flow[..., Any]
    pool: WorkPool

    @property
    def full_name(self) -> str:
        """``flow/deployment``, by which Prefect knows it."""
        return f"{self.flow.name}/{self.settings.name}"


@dataclass(frozen=True)
class Wanted:
    """What a server is to hold."""

    path: Path
    tag: str
    pools: tuple[WorkPool, ...]
    deployments: tuple[Deployment, ...]
    zombies: ZombieSettings | None


def load_deployments(path: str | os.PathLike[str] = DEFAULT_FILE) -> Wanted:
    """Read a deployments file and the pool files that it names, and check all of it; flows are imported for that.

    Raises:
        InvalidPipelineError: Anything at all is wrong; the message has a line for each mistake: file, line, key, what
            was found there and what to do.
    """
    file, settings = _read(Path(path), DeploymentsFile, "deployments file")
    pools = tuple(_load_pool(file, place, name) for place, name in enumerate(settings.pools))
    by_name = {pool.name: pool for pool in pools}
    problems: list[Problem] = []
    if len(by_name) < len(pools):
        problems.append((("pools",), "two of these files have the same pool name: give each its own."))
    deployments = []
    for number, one in enumerate(settings.deployments):
        place: Place = ("deployments", number)
        pool = pools[0] if one.pool is None else by_name.get(one.pool)
        if pool is None:
            problems.append(((*place, "pool"), _unknown_pool(str(one.pool), by_name)))
        else:
            problems += (
                ((*place, "job_variables", *at), what) for at, what in variable_problems(pool, one.job_variables)
            )
        try:
            flow = _flow(one.flow)
        except InvalidPipelineError as error:
            problems.append(((*place, "flow"), str(error)))
            continue
        problems += (((*place, *at), what) for at, what in _parameter_problems(one, flow))
        if pool is not None:
            deployments.append(Deployment(one, flow, pool))
    problems += _twice(deployments)
    problems += _impatience(settings, pools)
    if problems:
        raise file.refusal(problems)
    return Wanted(file.path, settings.tag, pools, tuple(deployments), settings.zombies)


def _read(path: Path, kind: type[_Kind], what: str) -> tuple[YamlFile, _Kind]:
    file = read_yaml(path, kind=what)
    value, problems = file.plain()
    if not isinstance(value, dict):
        problems = [((), f"a {what} is made of keys and values; found {found(value)} at its top.")]
    if problems:
        raise file.refusal(problems)
    record, problems = problems_of(kind, value)
    if record is None:
        raise file.refusal(problems)
    return file, record


def _load_pool(file: YamlFile, place: int, name: str) -> WorkPool:
    path = file.path.parent / name
    if not path.is_file():
        there = [str(one.relative_to(file.path.parent)) for one in file.path.parent.glob("**/*.yaml")]
        words = f"there is no file {path}; it is taken from the folder of this file.{meant(name, there)}"
        raise file.refusal([(("pools", place), words)])
    pool_file, settings = _read(path, PoolSettings, "pool file")
    template, problems = template_problems(settings)
    if problems:
        raise pool_file.refusal(problems)
    return WorkPool(settings, template)


def _unknown_pool(name: str, known: Mapping[str, WorkPool]) -> str:
    return f"no file under `pools` has the name {name!r}.{meant(name, known)} There are: {', '.join(known)}."


def _flow(entry_point: str) -> Flow[..., Any]:
    flow = resolve(entry_point)
    if not isinstance(flow, Flow):
        raise InvalidPipelineError(f"{entry_point} is {flow!r}, and no flow: name a function that @flow decorates.")
    return flow


def _parameter_problems(settings: DeploymentSettings, flow: Flow[..., Any]) -> Iterator[Problem]:
    """Yield what a flow does not take, and what a run that nobody starts by hand would miss."""
    # A person who starts a run by hand can still give what is missing here.
    yield from _refused(flow, settings.parameters, "parameters")
    by_themselves: list[tuple[Place, Mapping[str, Any]]] = [
        *((("schedules", number), one.parameters) for number, one in enumerate(settings.schedules)),
        *((("triggers", number), one.parameters) for number, one in enumerate(settings.triggers)),
    ]
    for place, parameters in by_themselves:
        yield from _refused(flow, parameters, *place, "parameters")
        given = settings.parameters | dict(parameters)
        for name, what in _missing(flow, given):
            yield (*place, "parameters", name), what


def _refused(flow: Flow[..., Any], parameters: Mapping[str, Any], *place: int | str) -> Iterator[Problem]:
    literal = {name: value for name, value in parameters.items() if not _is_template(value)}
    for at, what in match_arguments(flow.fn, literal)[1]:
        if at and at[0] in parameters:
            yield (*place, *at), what
    for name in parameters.keys() - literal.keys() - flow.parameters.properties.keys():
        known = flow.parameters.properties
        yield (*place, name), f"the flow has no parameter {name!r}.{meant(name, known)} It takes: {', '.join(known)}."


def _missing(flow: Flow[..., Any], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in flow.parameters.required or ():
        if name not in given:
            yield name, f"the flow {flow.name} needs {name!r}, and nobody is there to give it: add it here or above."


def _is_template(value: object) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _twice(deployments: list[Deployment]) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, one in enumerate(deployments):
        if one.full_name in seen:
            yield ("deployments", number, "name"), f"{one.full_name} is there twice: give one of them another name."
        seen.add(one.full_name)
        for key, names in (
            ("schedules", [schedule.name for schedule in one.settings.schedules]),
            ("triggers", [f"{trigger.event} of {trigger.resource}" for trigger in one.settings.triggers]),
        ):
            for place, name in enumerate(names):
                if name in names[:place]:
                    yield ("deployments", number, key, place), f"{name} is there twice: keep one of the two."


def _impatience(settings: DeploymentsFile, pools: tuple[WorkPool, ...]) -> Iterator[Problem]:
    if settings.zombies is None:
        return
    for pool in pools:
        least_s = HEARTBEATS_MISSED * pool.heartbeat_s
        if settings.zombies.within_s < least_s:
            words = (
                f"runs of the pool {pool.name} give a sign of life every {pool.heartbeat_s:g} s, and one can be late: "
                f"give at least {least_s:g}, or set {HEARTBEAT} in the pool's env."
            )
            yield ("zombies", "within_s"), words
