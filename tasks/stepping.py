"""`step`: a Prefect task that registers the Models that it returns.

The module has another name than the function: ``tasks.step`` would be the module as soon as anything imported it.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from prefect import Task
from prefect.context import FlowRunContext, TaskRunContext
from prefect.tasks import TaskOptions
from prefect.utilities.callables import call_with_parameters, get_call_parameters
from prefect.utilities.collections import visit_collection
from prefect.utilities.visualization import get_task_viz_tracker

from registry import ModelRegistry, default_registry
from registry.errors import InvalidInputError
from registry.integration import Place
from tasks.model import Model
from tasks.telling import tell

P = ParamSpec("P")
R = TypeVar("R")

_LATER = (Coroutine, Generator, AsyncGenerator)
"""What a function may give back before it has done its work: its Models are not there yet."""


class Step(Task[P, R]):
    """A Prefect task in a run, and a plain function where nothing runs: Prefect would start a server for that call."""

    if not TYPE_CHECKING:  # for type checkers Prefect's own overloads stand

        def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
            """Run the task; outside any run call the function, unless a state is asked for, which only a run has."""
            running = FlowRunContext.get() or TaskRunContext.get() or get_task_viz_tracker()
            if running or return_state or wait_for:
                return super().__call__(*args, return_state=return_state, wait_for=wait_for, **kwargs)
            return call_with_parameters(self.fn, get_call_parameters(self.fn, args, kwargs))

    def with_options(self, **options: Any) -> Step[P, R]:
        """Return the same step with other options of ``prefect.task``."""
        made: Any = super().with_options(**options)
        made.__class__, made.task_key = type(self), self.task_key
        changed: Step[P, R] = made
        return changed


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(
    *, registry: Place | None = None, **options: Unpack[TaskOptions]
) -> Callable[[Callable[P, R]], Step[P, R]]: ...


def step(
    function: Callable[..., Any] | None = None, /, *, registry: Place | None = None, **options: Unpack[TaskOptions]
) -> Any:
    """Make a function a Prefect task that registers each ``Model(..., register=True)`` in what it returns.

    Found are Models alone or at any depth in tuples, lists, dicts, sets, dataclasses and pydantic models. They are
    registered when the function has returned and before the task ends, so that a task whose registration fails has
    failed. In their place the caller gets Models that know what they became: ``registered``, and ``version`` its
    label. A Model that was registered before, or is there twice, is not registered again.

    In a flow or a task it is a task of Prefect's, also with ``submit`` and ``map``. A task that is retried runs its
    function again and registers once: a Model whose version stood already gets that one, with the bytes of the try that
    registered it. Each other run registers anew, also in a flow that is retried or run from the top, unless Prefect has
    kept the result (``persist_result=True``).

    Outside any run the call is a plain one: it registers, and needs no server, and of the options none applies.

    Args:
        function: A plain function or method; not async, and no generator.
        registry: A registry, or where it lies; without it the default one when the step runs.
        options: Every option of ``prefect.task``.

    Raises:
        InvalidInputError: The function is async, a generator, or a task already.
    """
    if function is None:
        return functools.partial(step, registry=registry, **options)
    if isinstance(function, Task):
        raise InvalidInputError(f"{function.name} is a Prefect task already: write @step instead of @task, not above.")
    options.setdefault("log_prints", None)  # as prefect.task has it: what the flow says
    made = Step(function, **options)
    if made.isasync or made.isgenerator:
        kind = "an async function" if made.isasync else "a generator"
        raise InvalidInputError(
            f"{made.name} is {kind}, and @step would not see the Models that it gives. Return them from a plain "
            f"function; or use prefect.task, and registry.register_model in it."
        )
    # Only now: name, keys and source of the task are those of the function that was given.
    made.fn = _registering(made.fn, registry)
    return made


def _registering(function: Callable[..., Any], place: Place | None) -> Callable[..., Any]:
    @functools.wraps(function)
    def registering(*args: Any, **kwargs: Any) -> Any:
        returned = function(*args, **kwargs)
        if isinstance(returned, _LATER):
            raise InvalidInputError(
                f"{function.__qualname__} returned a {type(returned).__name__}, and @step would not see the Models "
                f"that it gives. Return the Models themselves. Nothing was registered."
            )
        run = TaskRunContext.get()
        # `train.fn()` in another task is in that task's run, which is not what is retried here.
        ours = run is not None and run.task.fn is registering
        return _registered(returned, place, f"step-{run.task_run.id}" if run is not None and ours else None)

    return registering


def _registered(returned: Any, place: Place | None, run: str | None) -> Any:
    """Return the same value with its Models registered; those of one name are told apart by their order."""
    done: dict[int, Model] = {}
    numbers: dict[str, int] = {}

    def visit(value: Any) -> Any:
        if not (isinstance(value, Model) and value.register and value.registered is None):
            return value
        if id(value) not in done:
            number = numbers[value.name] = numbers.get(value.name, 0) + 1
            key = None if run is None else f"{run}-{value.name}-{number}"
            model = done[id(value)] = value.become(value.register_in(_opened(place), idempotency_key=key))
            tell("register", f"registered {model.name}:{model.version}")
        return done[id(value)]

    return visit_collection(returned, visit, return_data=True)


def _opened(place: Place | None) -> ModelRegistry:
    if place is None:
        return default_registry()
    return place if isinstance(place, ModelRegistry) else ModelRegistry(place)
