"""What an endpoint is to serve: numbered generations in its own log, each an event; pure."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from registry.base import StoredRecord
from registry.encoding import FORMAT, canonical_json
from registry.endpoints.serving import RunningServer
from registry.engines.records import Parity
from registry.log.record import LogRecord


class Desired(StoredRecord):
    """Which bytes are to serve: a version by its sidecar's digest, and the engine by its key (none: its own ONNX)."""

    model: str
    version: str
    metadata_digest: str
    variant: str | None = None
    target: Literal["local"] = "local"
    why: str = ""


class Wanted(StoredRecord):
    """A new generation is wanted."""

    type: Literal["wanted"] = "wanted"
    desired: Desired
    key: str | None = None


class Failed(StoredRecord):
    """A generation could not be brought up; the one before it is wanted again."""

    type: Literal["failed"] = "failed"
    generation: int
    reason: str


class Stopped(StoredRecord):
    """Nothing is to serve any more."""

    type: Literal["stopped"] = "stopped"
    reason: str = ""


EndpointEvent = Annotated[Wanted | Failed | Stopped, Field(discriminator="type")]
_EVENTS: TypeAdapter[Any] = TypeAdapter(EndpointEvent)


class EndpointState(StoredRecord):
    """An endpoint as its log says: the generation is the record that wanted it, 0 where nothing is to serve."""

    generation: int = 0
    desired: Desired | None = None
    before: tuple[tuple[int, Desired], ...] = ()
    keys: dict[str, int] = Field(default_factory=dict)


class EndpointMachine:
    """The machine that an endpoint's log is folded with."""

    name = "endpoint/1"

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
                return EndpointState(generation=record.number, desired=event.desired, before=before, keys=keys)
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
    """``observed.json``: which generation was last seen serving, as which process of which host.

    ``why_engine`` says why this engine serves and no other, such as that the one chosen does not fit the machine.
    """

    format: int = FORMAT
    endpoint: str
    generation: int
    desired: Desired
    engine: str
    why_engine: str = ""
    server: RunningServer
    host: str
    golden: Parity | None = None
    since: datetime
