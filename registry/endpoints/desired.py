"""What an endpoint is to serve: numbered generations in its own log, each an event; pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from registry.base import StoredRecord
from registry.encoding import FORMAT, canonical_json
from registry.endpoints.serving import RunningServer
from registry.endpoints.settings import LocalSettings, TargetKind, TargetSettings
from registry.endpoints.target import Role
from registry.engines.records import Parity
from registry.log.record import LogRecord

PRODUCTION = "production"
"""What an endpoint follows that is to serve whichever version holds production; anything else is an alias."""


class Share(StoredRecord):
    """A version and its part in a generation: ``share`` of the requests (0 to 1) goes to it, or is copied to it.

    ``why_engine`` says why this engine serves and no other, such as that the one chosen does not fit the machine.
    """

    version: str
    metadata_digest: str
    variant: str | None = None
    why_engine: str = ""
    share: float = Field(ge=0.0, le=1.0)


class Desired(StoredRecord):
    """Which bytes are to serve: a version by its sidecar's digest, and the engine by its key (none: its own file).

    ``follows`` is what the version was found by, ``production`` or an alias: where that points elsewhere, the endpoint
    has drifted. None pins the version. ``settings`` are the target's, None for the defaults of a local one.
    """

    model: str
    version: str
    metadata_digest: str
    variant: str | None = None
    why_engine: str = ""
    target: TargetKind = "local"
    why: str = ""
    follows: str | None = None
    canary: Share | None = None
    shadow: Share | None = None
    settings: TargetSettings | None = None

    @model_validator(mode="after")
    def _settings_of_the_target(self) -> Self:
        if (self.settings.kind if self.settings is not None else "local") != self.target:
            raise ValueError(f"the target is {self.target}, and its settings are of another kind")
        return self

    @property
    def place(self) -> TargetSettings:
        """The settings of the target."""
        return self.settings or LocalSettings()

    def shares(self) -> Iterator[tuple[Role, Share]]:
        """Yield every version that is to be open, the stable one first."""
        beside = 0.0 if self.canary is None else self.canary.share
        stable = self.model_dump(include={"version", "metadata_digest", "variant", "why_engine"})
        yield "stable", Share(**stable, share=1.0 - beside)
        if self.canary is not None:
            yield "canary", self.canary
        if self.shadow is not None:
            yield "shadow", self.shadow


class Wanted(StoredRecord):
    """A new generation is wanted; ``previous`` is the one that was wanted until then, 0 for none."""

    type: Literal["wanted"] = "wanted"
    desired: Desired
    previous: int = 0
    key: str | None = None


class SeenPart(StoredRecord):
    """A version that serves: which bytes (``digest``, the sha256 of the opened file), and how it was checked."""

    role: Role
    version: str
    share: float
    engine: str
    digest: str
    golden: Parity | None = None


class Served(StoredRecord):
    """A generation was brought up: from here on these bytes answer, at ``url``."""

    type: Literal["served"] = "served"
    generation: int
    parts: tuple[SeenPart, ...]
    url: str
    host: str


class Failed(StoredRecord):
    """A generation could not be brought up; the one before it is wanted again."""

    type: Literal["failed"] = "failed"
    generation: int
    reason: str


class Stopped(StoredRecord):
    """Nothing is to serve any more."""

    type: Literal["stopped"] = "stopped"
    reason: str = ""


EndpointEvent = Annotated[Wanted | Served | Failed | Stopped, Field(discriminator="type")]
_EVENTS: TypeAdapter[Any] = TypeAdapter(EndpointEvent)


class EndpointState(StoredRecord):
    """An endpoint as its log says: the generation is the record that wanted it, 0 where nothing is to serve.

    ``served`` is the generation that was brought up last: it is proven, and no failure makes another take its place.
    ``before`` are those that a failure comes back to.
    """

    generation: int = 0
    desired: Desired | None = None
    before: tuple[tuple[int, Desired], ...] = ()
    keys: dict[str, int] = Field(default_factory=dict)
    served: int = 0

    @property
    def proven(self) -> bool:
        """Whether what is wanted was brought up once."""
        return self.served == self.generation != 0


class EndpointMachine:
    """The machine that an endpoint's log is folded with."""

    name = "endpoint/2"

    def initial(self) -> EndpointState:
        """Return an endpoint that serves nothing."""
        return EndpointState()

    def dump(self, state: EndpointState) -> bytes:
        """Return a state as the JSON that a checkpoint holds."""
        return state.model_dump_json().encode()

    def load(self, state: bytes) -> EndpointState:
        """Return the state that a checkpoint holds."""
        return EndpointState.model_validate_json(state)

    def parse(self, event: dict[str, Any]) -> EndpointEvent:
        """Return the event that a record holds."""
        return _EVENTS.validate_json(canonical_json(event))  # type: ignore[no-any-return]

    def fold(self, state: EndpointState, event: EndpointEvent, record: LogRecord) -> EndpointState:
        """Return the state after ``event``."""
        match event:
            case Wanted():
                before = state.before if state.desired is None else (*state.before, (state.generation, state.desired))
                keys = state.keys if event.key is None else {**state.keys, event.key: record.number}
                return state.model_copy(
                    update={"generation": record.number, "desired": event.desired, "before": before, "keys": keys}
                )
            case Served():
                # Nothing comes back further than to what was proven: older versions are free to be deleted.
                before = () if event.generation == state.generation else state.before
                return state.model_copy(update={"served": event.generation, "before": before})
            case Failed() if event.generation != state.generation:
                # A newer one is wanted already: this one must not be what a failure of that comes back to.
                before = tuple(earlier for earlier in state.before if earlier[0] != event.generation)
                return state.model_copy(update={"before": before})
            case Failed():
                generation, desired = state.before[-1] if state.before else (0, None)
                return state.model_copy(
                    update={"generation": generation, "desired": desired, "before": state.before[:-1]}
                )
            case Stopped():
                return EndpointState(keys=state.keys)


class Observed(StoredRecord):
    """``observed.json``: which generation was last seen serving, where, and as which process of which host.

    ``engine``, ``why_engine`` and ``golden`` are the stable part's. ``server`` is the process of a local endpoint,
    ``resources`` the names of what was made elsewhere.
    """

    format: int = FORMAT
    endpoint: str
    generation: int
    desired: Desired
    engine: str
    why_engine: str = ""
    server: RunningServer | None = None
    host: str
    golden: Parity | None = None
    since: datetime
    address: str | None = None
    grpc: str | None = None
    model_name: str | None = None
    resources: dict[str, str] = Field(default_factory=dict)
    parts: tuple[SeenPart, ...] = ()

    @property
    def url(self) -> str | None:
        """Where it answers; in what earlier releases wrote down the process says so."""
        return self.address or (None if self.server is None else self.server.url)
