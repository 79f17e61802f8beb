"""Functions that a pipeline file names as ``module:function``: found, held against their parameters, and called."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from registry.errors import InvalidPipelineError, Mistake
from registry.yaml_files.wording import Problem, meant, told


def resolve(entry_point: str) -> Callable[..., Any]:
    """Import and return the function that ``module:function`` names; the working folder is searched last.

    Raises:
        InvalidPipelineError: No colon, no such module, an error inside the module, no such function in it, or nothing
            that can be called; the message says which, and names what is close.
    """
    module_name, colon, function_name = entry_point.partition(":")
    if not colon or not module_name or not function_name:
        raise InvalidPipelineError(
            f"{entry_point!r} is no entry point: write module:function, for example tasks.trainers.digits:train."
        )
    module = _import(module_name)
    function = getattr(module, function_name, None)
    if function is None:
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise InvalidPipelineError(
            f"the module {module_name} has no {function_name!r}.{meant(function_name, known)}"
            f" It was read from {getattr(module, '__file__', 'no file')}."
        )
    if not callable(function):
        raise InvalidPipelineError(
            f"{entry_point} is {function!r}, and cannot be called: name a function that takes the parameters."
        )
    try:
        inspect.signature(function)
    except ValueError:
        raise InvalidPipelineError(
            f"{entry_point} does not tell its parameters, like some functions written in C: wrap it in one of yours."
        ) from None
    return typing.cast("Callable[..., Any]", function)


def check_arguments(
    function: Callable[..., Any],
    parameters: Mapping[str, Any],
    where: str,
    *,
    given: int = 0,
    offered: Iterable[str] = (),
) -> dict[str, Any]:
    """Return ``parameters`` as ``function`` annotates them: a list as a tuple, text as a path, where it asks for that.

    Args:
        function: What is to be called.
        parameters: JSON values by name.
        where: What the parameters belong to; stands before each problem.
        given: How many arguments come before them, by position.
        offered: Names that the caller itself may pass, which a file cannot set.

    Raises:
        InvalidPipelineError: A parameter that the function does not take, one that is missing, or one of another type;
            all of them are listed.
    """
    arguments, problems = match_arguments(function, parameters, given=given, offered=offered)
    if problems:
        mistakes = [Mistake("", None, ".".join(map(str, (where, *place))), what) for place, what in problems]
        raise InvalidPipelineError("\n".join(map(str, mistakes)), mistakes)
    return arguments


def call(entry_point: str, parameters: Mapping[str, Any], *given: Any, **offered: Any) -> Any:
    """Call the function that ``entry_point`` names.

    Args:
        entry_point: ``module:function``.
        parameters: Its keyword arguments, as a pipeline file holds them.
        given: What it takes by position.
        offered: Keyword arguments that it gets if it takes them, and never hears of otherwise.

    Raises:
        InvalidPipelineError: There is no such function, or it does not take these parameters.
    """
    function = resolve(entry_point)
    arguments = check_arguments(function, parameters, entry_point, given=len(given), offered=offered)
    takes = _by_name(function, len(given)) or {}
    wanted = {name: value for name, value in offered.items() if name in takes}
    return function(*given, **arguments, **wanted)


def match_arguments(
    function: Callable[..., Any], parameters: Mapping[str, Any], *, given: int = 0, offered: Iterable[str] = ()
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the arguments converted, and problems with their places below the parameters; see ``check_arguments``."""
    known = _by_name(function, given)
    if known is None:
        taken = f"the function takes {_count(function)} arguments by position, and {given} are passed to it"
        return {}, [((), f"{taken}: give it as many.")]
    settable = {name: parameter for name, parameter in known.items() if name not in set(offered)}
    kinds = _annotations(function)
    arguments: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in parameters.items():
        if why := _not_settable(function, name, settable):
            problems.append(((name,), why))
            continue
        try:
            arguments[name] = _converted(kinds.get(name, Any), value)
        except ValidationError as error:
            problems += [((name, *place), what) for place, what in told(error, value)]
    for name, parameter in settable.items():
        if parameter.default is parameter.empty and name not in parameters:
            problems.append(((name,), "the function needs this parameter, and it is missing: add it."))
    return arguments, problems


def _not_settable(function: Callable[..., Any], name: str, settable: Mapping[str, Any]) -> str | None:
    parameters = inspect.signature(function).parameters
    if name in settable or (name not in parameters and any(one.kind is one.VAR_KEYWORD for one in parameters.values())):
        return None
    if name in parameters:
        return "the function gets this from modelway itself: remove it."
    there_are = meant(name, settable) or f" It takes: {', '.join(settable) or 'none'}."
    return f"the function has no parameter {name!r}.{there_are}"


def _import(name: str) -> Any:
    # A console script has its own folder first on the path, not the one that the user stands in.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InvalidPipelineError(
                f"there is no module {name}.{_siblings(name)} A module is looked for in the installed packages and in "
                f"{here}."
            ) from None
        raise _broken(name, error) from error
    except Exception as error:
        # The module is the user's own code, and importing it may raise anything.
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> InvalidPipelineError:
    kind = type(error).__name__
    return InvalidPipelineError(
        f"the module {name} is there, and importing it failed: {kind}: {error}. Mend the module."
    )


def _siblings(name: str) -> str:
    parent = name.rpartition(".")[0]
    folders = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if parent and folders is None:
        return ""
    return meant(name, [f"{parent}.{found.name}".lstrip(".") for found in pkgutil.iter_modules(folders)])


def _by_name(function: Callable[..., Any], given: int) -> dict[str, inspect.Parameter] | None:
    """Return what can be passed by keyword after ``given`` arguments by position; None if those are too many."""
    parameters = list(inspect.signature(function).parameters.values())
    by_position = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    if len(by_position) < given and not any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return None
    taken = {one.name for one in by_position[:given]}
    return {
        one.name: one
        for one in parameters
        if one.name not in taken and one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}
    }


def _count(function: Callable[..., Any]) -> int:
    kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    return sum(kind in {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD} for kind in kinds)


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # A name that only type checkers import: those parameters are taken as they come.
        return {}


def _converted(kind: Any, value: Any) -> Any:
    adapter = _adapter(kind)
    # Strict JSON is the right measure for a YAML file: a list may be a tuple and 1 a float, "1" is no number.
    return value if adapter is None else adapter.validate_json(json.dumps(value), strict=True)


def _adapter(kind: Any) -> TypeAdapter[Any] | None:
    for config in (ConfigDict(arbitrary_types_allowed=True), None):
        try:
            return TypeAdapter(kind, config=config)
        except PydanticUserError:
            continue  # a record or dataclass has its own configuration, and allows none beside it
    return None
