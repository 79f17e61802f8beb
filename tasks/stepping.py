"""`step`: a Prefect task that registers the Models that it returns.

The module has another name than the function: ``tasks.step`` would be the module as soon as anything imported it.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload
from uuid import UUID

from prefect import Task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.task_runners import TaskRunner
from prefect.tasks import TaskOptions
from prefect.utilities.callables import call_with_parameters, get_call_parameters, get_parameter_defaults
from prefect.utilities.visualization import get_task_viz_tracker

from registry.errors import InvalidInputError
from registry.integration import Place
from tasks.positions import position_of
from tasks.registering_models import Registering, Registry

P = ParamSpec("P")
R = TypeVar("R")

_LATER = (Coroutine, Generator, AsyncGenerator)
"""What a plain function may give back before it has done its work: its Models are not there yet."""


class Step(Task[P, R]):
    """A Prefect task in a run, and a plain function where nothing runs: Prefect would start a server for that call."""

    position: str | None = None
    """Where in its flow run the one call stands that this copy of the step was made for."""

    _begun: tuple[UUID, int] | None = None

    def at(self, parameters: Mapping[str, Any]) -> Step[P, R]:
        """Return a copy for the call that is made now, which goes with it to wherever it runs."""
        defaults = get_parameter_defaults(self.fn)
        # What is left out does not count: a parameter that was added since changes nothing.
        given = {
            name: value for name, value in parameters.items() if name not in defaults or value is not defaults[name]
        }
        made = copy.copy(self)
        made.position = position_of(self.name, given)
        return made

    def begin(self, function: Callable[..., Any]) -> str | None:
        """Return what the idempotency keys of this try begin with; None if ``function`` is called by itself in it.

        ``train.fn()`` in the run of another step, or in its own, is not what is tried again there.
        """
        run = TaskRunContext.get()
        if run is None or run.task is not self or self.fn is not function:
            return None
        begun, self._begun = self._begun, (run.task_run.id, run.task_run.run_count)
        return None if begun == self._begun else f"{self.position or f'task:{run.task_run.id}'}"

    if not TYPE_CHECKING:  # for type checkers Prefect's own overloads stand

        def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
            """Run the task; outside any run call the function, unless a state is asked for, which only a run has."""
            parameters = get_call_parameters(self.fn, args, kwargs)
            running = FlowRunContext.get() or TaskRunContext.get() or get_task_viz_tracker()
            if running or return_state or wait_for:
                here = self.at(parameters)
                return Task.__call__(here, *args, return_state=return_state, wait_for=wait_for, **kwargs)
            return call_with_parameters(self.fn, parameters)

        def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
            """Submit the call to the flow's task runner."""
            here = self.at(get_call_parameters(self.fn, args, kwargs))
            return Task.submit(here, *args, return_state=return_state, wait_for=wait_for, **kwargs)

        def map(
            self, *args: Any, return_state: bool = False, wait_for: Any = None, deferred: bool = False, **kwargs: Any
        ) -> Any:
            """Submit a call for each element to the flow's task runner."""
            flow = FlowRunContext.get()
            if flow is None or deferred or get_task_viz_tracker():
                return super().map(*args, return_state=return_state, wait_for=wait_for, deferred=deferred, **kwargs)
            parameters = get_call_parameters(self.fn, args, kwargs, apply_defaults=False)
            futures = _Mapping(flow.task_runner).map(self, parameters, wait_for)
            if not return_state:
                return futures
            futures.wait()
            return [future.state for future in futures]

    def with_options(self, **options: Any) -> Step[P, R]:
        """Return the same step with other options of ``prefect.task``."""
        made: Any = super().with_options(**options)
        made.__class__, made.task_key = type(self), self.task_key
        changed: Step[P, R] = made
        return changed


class _Mapping(TaskRunner[Any]):
    """Takes Prefect's own ``map`` apart into calls, each with its position, and submits them to the runner."""

    def __init__(self, runner: TaskRunner[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Prefect's has no types
        self._runner, self._started = runner, True

    def duplicate(self) -> _Mapping:
        return self

    def submit(self, task: Any, parameters: dict[str, Any], *more: Any, **options: Any) -> Any:
        return self._runner.submit(task.at(parameters), parameters, *more, **options)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(
    *, registry: Place | None = None, **options: Unpack[TaskOptions]
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    function: Callable[..., Any] | None = None, /, *, registry: Place | None = None, **options: Unpack[TaskOptions]
) -> Any:
    """Make a function a Prefect task that registers each ``Model(..., register=True)`` in what it gives.

    Found are Models alone or at any depth in tuples, lists, dicts, sets, dataclasses and pydantic models. They are
    registered when the function has returned and before the task ends, so that a task whose registration fails has
    failed; those that a generator yields, each before the caller gets it. In their place the caller gets Models that
    know what they became: ``registered``, and ``version`` its label. A Model that was registered before, or is there
    twice, is not registered again. Each version is an asset in Prefect, named by where it is stored.

    In a flow or a task it is a task of Prefect's, also with ``submit`` and ``map``: in threads, processes, Dask, Ray.
    Each call registers once, however often it is tried, and also when the flow is retried or passed through again from
    the top after it was suspended: the registry knows the call by its idempotency key, made of its position in the flow
    run (``tasks.positions`` says how), the model's name, and the how-manyth Model of that name it is in what the call
    gives. A Model whose version stood already is given back as it was registered then, data and metrics, not as the
    repeated training has made it. The same call made twice in one pass registers twice.

    Outside any run the call is a plain one: it registers, needs no server, and of the options none applies.

    Args:
        function: A function, method, generator, async function or async generator.
        registry: A registry, or where it lies; without it the default one when the step runs.
        options: Every option of ``prefect.task``.

    Raises:
        InvalidInputError: The function is a task already.
    """
    if function is None:
        return functools.partial(step, registry=registry, **options)
    if isinstance(function, Task):
        raise InvalidInputError(f"{function.name} is a Prefect task already: write @step instead of @task, not above.")
    options.setdefault("log_prints", None)  # as prefect.task has it: what the flow says
    made = Step(function, **options)
    # Only now: name, keys and source of the task are those of the function that was given.
    made.fn = _wrapped(made, Registry(registry))
    return made


def _wrapped(made: Step[..., Any], registry: Registry) -> Callable[..., Any]:
    """Return the function with its Models registered, of the same kind: Prefect runs each of the four in its way."""
    function = made.fn
    if made.isasync:
        return _async_generator(function, registry) if made.isgenerator else _async_function(function, registry)
    return _generator(function, registry) if made.isgenerator else _function(function, registry)


def _function(function: Callable[..., Any], registry: Registry) -> Callable[..., Any]:
    @functools.wraps(function)
    def registering(*args: Any, **kwargs: Any) -> Any:
        trying = _try(registering, registry)
        return trying.in_place(_there(function, function(*args, **kwargs)))

    return registering


def _generator(function: Callable[..., Any], registry: Registry) -> Callable[..., Any]:
    @functools.wraps(function)
    def registering(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        trying, items, sent = _try(registering, registry), function(*args, **kwargs), None
        try:
            while True:
                try:
                    item = items.send(sent)
                except StopIteration as end:
                    return trying.in_place(end.value)
                sent = yield trying.in_place(item)
        finally:
            items.close()

    return registering


def _async_function(function: Callable[..., Any], registry: Registry) -> Callable[..., Any]:
    @functools.wraps(function)
    async def registering(*args: Any, **kwargs: Any) -> Any:
        trying = _try(registering, registry)
        # In a thread: an upload would stop everything else in the event loop.
        return await asyncio.to_thread(trying.in_place, _there(function, await function(*args, **kwargs)))

    return registering


def _async_generator(function: Callable[..., Any], registry: Registry) -> Callable[..., Any]:
    @functools.wraps(function)
    async def registering(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        trying, items, sent = _try(registering, registry), function(*args, **kwargs), None
        try:
            while True:
                try:
                    item = await items.asend(sent)
                except StopAsyncIteration:
                    return
                sent = yield await asyncio.to_thread(trying.in_place, item)
        finally:
            await items.aclose()

    return registering


def _try(registering: Callable[..., Any], registry: Registry) -> Registering:
    run = TaskRunContext.get()
    return Registering(
        registry, run.task.begin(registering) if run is not None and isinstance(run.task, Step) else None
    )


def _there(function: Callable[..., Any], returned: Any) -> Any:
    if isinstance(returned, _LATER):
        raise InvalidInputError(
            f"{function.__qualname__} returned a {type(returned).__name__}, and @step would not see the Models "
            f"that it gives. Return the Models themselves, or decorate what makes them. Nothing was registered."
        )
    return returned
