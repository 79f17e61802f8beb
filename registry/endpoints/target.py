"""What a place that serves must do, whatever it is: each call can be made again after a crash at any point of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from registry.endpoints.serving import RunningServer
    from registry.engines.records import Parity
    from registry.records import FileEntry
    from registry.signature import Signature

Samples: TypeAlias = "tuple[NDArray[Any], NDArray[Any]]"
"""Golden inputs and the model's own outputs for them, shapes (n, ...)."""

GOLDEN_TOLERANCE = 1e-3
"""How far, absolutely and relatively, an endpoint's answers to the golden samples may be from the model's own."""

Role = Literal["stable", "canary", "shadow"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One version of a rollout, with everything that a target needs to serve it.

    Args:
        model: The model's name in the registry.
        version: The version's label, such as ``v3`` or ``1.2.0``.
        number: Its ordinal in the model, 1 or more, for targets whose versions are whole numbers.
        role: ``stable`` and ``canary`` answer requests, ``shadow`` gets copies of them and its answers are dropped.
        share: Of the requests that name no version, 0 to 1; the stable and the canary one's add up to 1.
        metadata_digest: Of the version's sidecar.
        variant: The engine's key; None for the version's own file.
        engine: The engine's name, such as ``onnxruntime`` or ``tensorrt-fp16``.
        key_fields: The fields of the engine's key; empty for the version's own file.
        signature: Inputs and outputs as the engine has them, where they are known; -1 where a size is free.
        fetch: Puts the engine's files into a folder, verified, and says which of them is opened, with its digest.
            An engine with golden outputs of its own has them there as ``golden.npy`` (``registry.engines.job``).
        samples: Golden inputs and the model's own outputs, None where the version has none.
    """

    model: str
    version: str
    number: int
    role: Role
    share: float
    metadata_digest: str
    variant: str | None
    engine: str
    key_fields: Mapping[str, Any] = field(default_factory=dict)
    signature: Signature | None = None
    fetch: Callable[[Path], FileEntry]
    samples: Samples | None = None

    @property
    def full_name(self) -> str:
        """The version as people write it: ``digits:v3``."""
        return f"{self.model}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One generation to bring up: the stable part first, then a canary or a shadow beside it.

    ``registry`` is the registry's id: two registries that share a server do not touch each other's models. ``keep`` are
    the ordinals of versions that a target need not remove, because the way back leads there.
    """

    registry: str
    endpoint: str
    generation: int
    parts: tuple[Part, ...]
    keep: tuple[int, ...] = ()

    @property
    def stable(self) -> Part:
        """The part that answers what no canary does."""
        return self.parts[0]


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Where a generation answers.

    Args:
        url: The base URL for requests over HTTP (``{url}/v2/models/...``), or the service's own.
        grpc: Host and port for requests over gRPC, None where there are none.
        model_name: The model's name at that address.
        server: The process, where it is one of this machine.
        resources: Names that the target gave to what it made, such as the endpoint's resource name.
    """

    url: str
    grpc: str | None = None
    model_name: str
    server: RunningServer | None = None
    resources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a target really serves at this moment.

    Args:
        running: Whether anything answers.
        shares: The share of the requests by the version's ordinal, 0 for one that is open and gets none.
        digests: The sha256 of the opened file, 64 hexadecimal digits, by the version's ordinal.
        words: Why nothing answers, or what else is remarkable.
    """

    running: bool
    shares: Mapping[int, float] = field(default_factory=dict)
    digests: Mapping[int, str] = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a version did since its counters began, as far as the target counts it.

    Args:
        requests: Answered or failed, those refused for their form not among them.
        errors: Of them, those that failed.
        latency_sum_ms: Milliseconds over all of them.
        latency_ms: Upper bounds of buckets in ms and how many requests were at most so slow, cumulative.
        labelled: Samples whose right answer came back later.
        correct: Of them, those that were right.
    """

    requests: int
    errors: int
    latency_sum_ms: float = 0.0
    latency_ms: tuple[tuple[float, int], ...] = ()
    labelled: int = 0
    correct: int = 0

    def plus(self, earlier: Counted | None) -> Counted:
        """Return these counts with earlier ones of the same version; those have no buckets, and neither has the sum."""
        if earlier is None:
            return self
        return Counted(
            requests=self.requests + earlier.requests,
            errors=self.errors + earlier.errors,
            latency_sum_ms=self.latency_sum_ms + earlier.latency_sum_ms,
            labelled=self.labelled + earlier.labelled,
            correct=self.correct + earlier.correct,
        )


@runtime_checkable
class Sampled(Protocol):
    """A place whose counters cannot be read: what its versions do is seen by asking them."""

    def sample(self, rollout: Rollout, requests: int) -> Mapping[int, Counted]:
        """Ask golden samples as users would ask, by the shares, and return what came of it by the version's ordinal.

        A request that nobody answered counts as failed for every version: who should have is not known. So does an
        answer that differs from the recorded one, for the version that gave it.

        Args:
            rollout: What serves.
            requests: How many to send, >= 1, one sample each.
        """
        ...


class Target(Protocol):
    """A place that serves. All but ``look`` and ``count`` change it, and can be repeated: a second call finds it done.

    The order is ``check``, ``stage``, ``configure``, ``load``, ``probe``, ``route``, ``collect``. Until ``route`` the
    requests that name no version go where they went before.
    """

    def objection(self, engine: str, key_fields: Mapping[str, Any]) -> str | None:
        """Return in words why this target cannot open an engine, None if it can. Touches nothing.

        Args:
            engine: Its name, ``onnxruntime`` for the model's own ONNX file.
            key_fields: The fields of its key; empty for the model's own file.
        """
        ...

    def check(self, rollout: Rollout) -> None:
        """Refuse what cannot be served here, before anything is touched.

        Raises:
            EndpointError: It cannot; the words say what to do. RefusedError: It may not.
        """
        ...

    def stage(self, rollout: Rollout) -> None:
        """Put the engines' files where the target reads them; what is there already, with these bytes, stays."""
        ...

    def configure(self, rollout: Rollout) -> None:
        """Write the target's configuration if it differs, such that what serves goes on serving."""
        ...

    def load(self, rollout: Rollout) -> None:
        """Open what is new beside what serves, and wait until it is ready; it gets no requests of users."""
        ...

    def probe(self, rollout: Rollout) -> Mapping[str, Parity]:
        """Hold the answers of the parts to the golden samples, those that have some, by version.

        Raises:
            EndpointError: An answer differs, or none came.
        """
        ...

    def route(self, rollout: Rollout) -> Reached:
        """Give each part its share of the requests, in one step, and say where they are answered."""
        ...

    def collect(self, rollout: Rollout) -> None:
        """Close and remove what this generation does not serve; what ``rollout.keep`` names may stay on the disk."""
        ...

    def stop(self, *, forget: bool = True) -> None:
        """Serve nothing of this endpoint any more; requests under way are finished. What is not there is no error."""
        ...

    def look(self) -> Look:
        """Return what is really served; a target that does not answer is ``running=False``, never an error."""
        ...

    def count(self) -> Mapping[int, Counted]:
        """Return what the versions did, by ordinal; empty where the target does not count."""
        ...
