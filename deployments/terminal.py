"""What a run looks like in a terminal: a line for each step, the evidence, the closing summary; plain when piped."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import sys
import threading
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from registry import ModelRegistry, ModelStage
from registry.cli.text import plain
from registry.default import default_registry
from registry.store import open_store
from tasks.outcome import Outcome
from tasks.telling import STEP

_WIDTH_WHEN_PIPED = 120


class Terminal:
    """Where a run's lines go; safe to use from the flow's thread and from the one that waits for an answer."""

    def __init__(self, console: Console | None = None) -> None:
        """Take a console; standard output by default."""
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=_WIDTH_WHEN_PIPED, no_color=True)
        self._lock = threading.Lock()

    def step(self, name: str, line: str) -> None:
        """Write what a step did."""
        with self._lock:
            self.console.print(f"[bold green]{name:>10}[/]  {_escaped(line)}", soft_wrap=True)

    def say(self, line: str) -> None:
        """Write a line as it is."""
        with self._lock:
            self.console.print(_escaped(line), soft_wrap=True)

    def ask(self, question: str) -> None:
        """Write a question and stay on its line."""
        with self._lock:
            self.console.print(f"[bold yellow]{_escaped(question)}[/]", end="", soft_wrap=True)

    def evidence(self, markdown: str, link: str | None) -> None:
        """Write the evidence: Markdown, its tables drawn; and where else it can be answered."""
        with self._lock:
            self._drawn(Markdown(plain(markdown)))
            if link:
                self.console.print(f"\nIn Prefect's UI, by its Resume button: {link}", soft_wrap=True)
            self.console.print()

    def _drawn(self, what: RenderableType) -> None:
        """Write something that rich draws; where it is no terminal, without the blanks that rich pads lines with."""
        self.console.print()
        if self.console.is_terminal:
            self.console.print(what)
            return
        with self.console.capture() as drawn:
            self.console.print(what)
        lines = "\n".join(line.rstrip() for line in drawn.get().splitlines())
        self.console.out(re.sub(r"\n{3,}", "\n\n", lines).strip("\n"), highlight=False)

    def summary(self, outcome: Outcome, *, config: str, curl: str | None) -> None:
        """Write how the run of a pipeline file ended, what serves, and where to look next."""
        with self._lock:
            self._drawn(_summary(outcome, ModelRegistry(outcome.url)))
            for line in _next_steps(outcome, config, curl):
                self.console.print(_escaped(line), soft_wrap=True)


class StepLines(logging.Handler):
    """Shows our own lines of Prefect's logs as steps, and everything else from warnings upward."""

    def __init__(self, terminal: Terminal) -> None:
        """Take where to write."""
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, if it is one of ours or a warning."""
        step = getattr(record, STEP, None)
        if step is not None:
            self._terminal.step(step, record.getMessage())
        elif record.levelno >= logging.WARNING and not _is_the_end_of_a_run(record):
            self._terminal.step(record.levelname.lower(), record.getMessage())


def quiet_prefect(terminal: Terminal) -> None:
    """Send what Prefect would write to the console to ``terminal`` instead; its server still gets every line."""
    from prefect.logging.configuration import setup_logging

    setup_logging()
    logging.getLogger().handlers = [StepLines(terminal)]
    for name in ("uvicorn", "fastapi"):
        logging.getLogger(name).handlers = []


def _is_the_end_of_a_run(record: logging.LogRecord) -> bool:
    # Prefect logs a failure with its traceback for the task, again for the flow, and raises it: once is enough.
    return record.name.startswith(("prefect.flow_runs", "prefect.task_runs"))


def _summary(outcome: Outcome, registry: ModelRegistry) -> Table | str:
    if outcome.version is None:
        return f"{outcome.model}: {outcome.ending.replace('_', ' ')}"
    version = registry.get_version(outcome.model, outcome.version)
    choice = registry.get_choice(outcome.model, outcome.version)
    table = Table(
        title=f"{version.full_name}: {outcome.ending.replace('_', ' ')}", show_header=False, title_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("stage", f"{version.stage} since {version.stage_since:%Y-%m-%d %H:%M:%S} UTC")
    for approval in version.approvals:
        table.add_row("approved by", _escaped(f"{approval.approver} ({approval.method}): {approval.reason}"))
    table.add_row("metrics", ", ".join(f"{name} {value:.4g}" for name, value in version.metrics.items()))
    table.add_row("engine", _escaped(choice.reason))
    if outcome.trial is not None:
        trial = outcome.trial
        measured = ", ".join(f"{name} {value:.4f}" for name, value in trial.metrics.items())
        table.add_row(
            "over HTTP",
            f"{trial.samples} test samples: {measured}; p50 {trial.p50_ms:.2f} ms, p99 {trial.p99_ms:.2f} ms",
        )
    if outcome.endpoint is not None:
        table.add_row(
            "endpoint", outcome.endpoint_url or f"{outcome.endpoint}, stopped (--keep-serving leaves it running)"
        )
    table.add_row("files", _near(version.artifact_path))
    return table


def _near(path: str) -> str:
    """Return a path as people here would write it: from the working folder, if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _next_steps(outcome: Outcome, config: str, curl: str | None) -> list[str]:
    model, version, modelway = outcome.model, outcome.version, _command(outcome.url)
    if outcome.ending == "deployed":
        serving = [f"\nask it:   {curl}", f"stop it:  {modelway} endpoints stop {outcome.endpoint}"] if curl else []
        return [
            *serving,
            f"\nlook:     {modelway} models show {model} {version}",
            f"history:  {modelway} models log {model}",
            *([f"go back:  {modelway} models rollback {model}"] if _has_a_way_back(outcome) else []),
        ]
    if outcome.ending == "approval_pending":
        run = f"{modelway} run {shlex.quote(config)} --version {version}"
        return [
            f"\n{outcome.words} To take it on, either",
            f"  give the name of an approver:  {run} --approve-as you@example.com",
            f"  or answer at a terminal:       {run}",
            f"  or in Prefect's UI:            PREFECT_API_URL=http://127.0.0.1:4200/api {run}",
        ]
    return [f"\n{outcome.words}"]


def _has_a_way_back(outcome: Outcome) -> bool:
    moves = ModelRegistry(outcome.url).get_transitions(outcome.model)
    return len({move.version for move in moves if move.to_stage is ModelStage.PRODUCTION}) > 1


def _command(url: str) -> str:
    """Return how this command line is called for the registry at ``url`` from the working folder."""
    program = "modelway" if shutil.which("modelway") else _near(str(Path(sys.argv[0]).absolute()))
    return program if open_store(url).url == default_registry().url else f"{program} --url {shlex.quote(url)}"


def _escaped(text: str) -> str:
    """Return text for rich: nothing in it is markup, or a control character."""
    return escape(plain(text))
