"""What a shell offers after Tab: the models, versions, aliases and endpoints of the registry that a line names.

Tab asks in the middle of a line: nothing is made, nothing is written to standard error, and where there is no registry,
or a bucket does not answer within two seconds, nothing is offered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from registry.registry import ModelRegistry

Offers = Iterable[tuple[str, str]]
"""Words with what each of them is, which shells other than bash show beside it."""

WAIT_S: Final = 2.0
NOBODY: Final = "none"
"""What to expect of production, or of an alias, where it is expected to be held by no version."""


def models(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the models; after ``NAME@`` the aliases of one."""
    name, at, _ = incomplete.partition("@")
    if not at:
        return offered(ctx, incomplete, lambda registry: ((one, "a model") for one in registry.list_models()))
    return offered(
        ctx, incomplete, lambda registry: ((f"{name}@{one}", what) for one, what in _aliases(registry, name))
    )


def versions(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the versions of the model that the line names, the newest first, and its aliases."""
    name = _model(ctx)
    return offered(ctx, incomplete, lambda registry: [*_versions(registry, name), *_aliases(registry, name)])


def holders(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the versions of the model that the line names, and the word for none of them."""
    return [*versions(ctx, incomplete), *_starting([(NOBODY, "no version")], incomplete)]


def aliases(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the aliases of the model that the line names."""
    return offered(ctx, incomplete, lambda registry: _aliases(registry, _model(ctx)))


def endpoints(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the endpoints."""
    return offered(
        ctx, incomplete, lambda registry: ((endpoint.name, "an endpoint") for endpoint in registry.list_endpoints())
    )


def stages(incomplete: str) -> list[tuple[str, str]]:
    """Offer the stages, in the order of the way."""
    from registry.stages import ModelStage

    return _starting(((stage.value, "a stage") for stage in ModelStage), incomplete)


def targets(incomplete: str) -> list[tuple[str, str]]:
    """Offer the stages that a version can be moved to."""
    return [offer for offer in stages(incomplete) if offer[0] != "development"]


def bumps(incomplete: str) -> list[tuple[str, str]]:
    """Offer the parts of a semantic version."""
    from registry.versions import Bump

    return _starting(((part.value, "a part of the version") for part in Bump), incomplete)


def frameworks(incomplete: str) -> list[tuple[str, str]]:
    """Offer the frameworks."""
    from registry.frameworks.kinds import ModelFramework

    return _starting(((one.value, "a framework") for one in ModelFramework), incomplete)


def _model(ctx: typer.Context) -> str:
    # After an option that has no value yet the words are not sorted out: the first one is the model.
    words = [ctx.params.get("name"), *ctx.args, ""]
    return str(next(word for word in words if word is not None)).partition("@")[0]


def _versions(registry: ModelRegistry, name: str) -> Offers:
    return ((one.version, one.stage.value) for one in reversed(registry.list_versions(name)))


def _aliases(registry: ModelRegistry, name: str) -> Offers:
    return [(alias, one.version) for one in registry.list_versions(name) for alias in one.aliases]


def _starting(offers: Offers, incomplete: str) -> list[tuple[str, str]]:
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def offered(ctx: typer.Context, incomplete: str, find: Callable[[ModelRegistry], Offers]) -> list[tuple[str, str]]:
    """Return those of what ``find`` gives that begin as typed; nothing where that fails, or takes too long."""
    found: list[tuple[str, str]] = []

    def look() -> None:
        try:
            found.extend(_starting(find(ctx.obj.open()), incomplete))
        except Exception:  # noqa: BLE001 - whatever it is, a person in the middle of a line is not to see it
            found.clear()

    # Not waited for to the end: a bucket that cannot be reached would hold the shell until its own time limit.
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(None if ctx.obj.on_this_machine else WAIT_S)
    return [] if looking.is_alive() else found
