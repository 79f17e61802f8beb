"""What all verbs share: the options of every verb, the registry they open, what they write, how they end.

Nothing here imports more than typer before a verb runs: ``modelway --help`` stays quick.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand

from registry.cli.text import plain
from registry.errors import InvalidInputError, ModelwayError, NotFoundError, VersionNotFoundError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from registry.records import ModelVersion
    from registry.registry import ModelRegistry

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


@dataclass(frozen=True)
class NextStep:
    """What a person may want to do now: ``words`` say why, ``command`` is the words after ``modelway``."""

    words: str
    command: Sequence[str]


def to_show(version: ModelVersion) -> NextStep:
    """Return the step that shows a version."""
    return NextStep("to see it", ("models", "show", version.name, version.version))


def confirm(question: str, *, otherwise: str) -> None:
    """Ask once more; return if a person says yes; else say ``otherwise`` and end with exit code 1.

    Raises:
        InvalidInputError: Nobody can answer here.
    """
    if not sys.stdin.isatty():
        raise InvalidInputError(f"{question} Nobody can answer that here: give --yes.")
    typer.echo(f"{plain(question)} [y/N] ", err=True, nl=False)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        typer.echo(otherwise, err=True)
        raise typer.Exit(1)


@dataclass(frozen=True)
class Invocation:
    """One call of the command line: the options that every verb takes."""

    url: str | None = None
    as_json: bool = False
    debug: bool = False

    @property
    def location(self) -> str:
        """Where the registry is: ``--url``, else as the environment or pyproject.toml says, else the default place."""
        from registry.config import DEFAULT_LOCATION, configured_location

        return self.url or configured_location() or DEFAULT_LOCATION

    @property
    def on_this_machine(self) -> bool:
        """Whether the registry is on a disk here, and not in a bucket that may be far away."""
        return "://" not in self.location or self.location.startswith("file://")

    def open(self, *, make: bool = False) -> ModelRegistry:
        """Return the registry at ``location``.

        Args:
            make: The verb makes a registry where there is none.

        Raises:
            NotFoundError: There is none, and ``make`` is not set.
        """
        from registry.registry import ModelRegistry

        registry = ModelRegistry(self.location)
        if not make:
            _check_exists(registry)
        return registry

    def show(self, found: object, draw: Callable[[Any], Sequence[Table]], *, if_none: str = "") -> None:
        """Write what a verb found: as JSON for programs, else as tables.

        Args:
            found: A record, or what ``write_json`` takes.
            draw: Gives the tables; it is handed the module ``registry.cli.tables``, which is slow to import.
            if_none: What to tell people instead of an empty table.
        """
        if self.as_json:
            write_json(found)
            return
        if if_none and not found:
            typer.echo(plain(if_none))
            return
        from registry.cli import tables

        tables.write(*draw(tables))

    def tell(self, outcome: object, sentence: str, *steps: NextStep) -> None:
        """Write what a verb changed: the record as JSON for programs, else a sentence and the next steps.

        Args:
            outcome: A record, or what ``write_json`` takes.
            sentence: What was changed, for people.
            steps: What can be done now; aligned below the sentence.
        """
        if self.as_json:
            write_json(outcome)
            return
        typer.echo(plain(sentence))
        margin = max((len(step.words) for step in steps), default=0) + 1
        for step in steps:
            typer.echo(f"{step.words + ':':<{margin}}  {plain(self.line(*step.command))}")

    def line(self, *words: str) -> str:
        """Return a command to copy that reaches the same registry: ``--url`` is in it if it was given."""
        return shlex.join(["modelway", *(["--url", self.url] if self.url else []), *words])


def _check_exists(registry: ModelRegistry) -> None:
    try:
        registry.store.read("registry.json")
    except FileNotFoundError:
        raise NotFoundError(
            f"no registry at {registry.url} yet; `modelway models register` or `modelway run` makes one. "
            f"If yours lies elsewhere, give it by --url or MODELWAY_URL."
        ) from None


def write_json(value: object) -> None:
    """Write records, or lists and dicts of them, as JSON to standard output; field names are stable."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_json_able))


def _json_able(record: Any) -> Any:
    return record.model_dump(mode="json")


class Verb(TyperCommand):
    """A command that takes the options of the whole program after its name too, and ends as the exit codes promise."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return this command's parameters, with those of the program that every verb takes."""
        own = super().get_params(ctx)
        return [*own[:-1], *_shared_options(ctx), *own[-1:]]  # --help stays last

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and put what was given after the verb over what was given before it."""
        rest = super().parse_args(ctx, args)
        given = {option.name: ctx.params.pop(option.name, None) for option in _shared_options(ctx)}
        # Asked by a shell for what may come next, no callback has made one.
        before = ctx.obj or Invocation(url=ctx.find_root().params.get("url"))
        ctx.obj = dataclasses.replace(before, **{name: value for name, value in given.items() if value})
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; errors become a line on standard error and an exit code."""
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # the program's edge: nothing above can handle it
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read the output has gone: typer ends the program quietly
            raise typer.Exit(_report(error, debug=ctx.obj.debug)) from error


def _shared_options(ctx: Any) -> list[Any]:
    shared = {field.name for field in dataclasses.fields(Invocation)}
    return [param for param in ctx.find_root().command.params if param.name in shared]


def _report(error: Exception, *, debug: bool) -> int:
    """Write an error to standard error and return the exit code."""
    if debug:
        traceback.print_exception(error)
    expected = isinstance(error, ModelwayError)
    words = str(error) if expected else f"{type(error).__name__}: {error}"
    if isinstance(error, VersionNotFoundError):
        from registry.versions import near_labels

        words += did_you_mean(near_labels(error.version, error.known))
    mend = "" if expected or debug else "\nThis was not foreseen: run again with --debug to see where it happened."
    typer.secho("error: ", fg="red", err=True, nl=False)
    typer.echo(plain(words) + mend, err=True)
    return error.exit_code if isinstance(error, ModelwayError) else 1
