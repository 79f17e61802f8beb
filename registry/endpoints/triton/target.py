"""Triton as a target: what is new is loaded and probed under a name of its own before the model that users ask is it.

A model serves one version. Beside ``digits`` there are, for a while, ``digits--candidate``, which nobody asks but the
probe, and ``digits--canary``, which gets its share from clients that know of it (``WeightedClient``). They are models
of their own because Triton gives a request that names no version to the highest one that is loaded: a canary under the
model's own name would get all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from registry.endpoints.target import Counted, Look, Part, Reached, Rollout
from registry.endpoints.triton.config import Labels, ServingOptions, write_config
from registry.endpoints.triton.control import TritonControl, UnreachableError, key_headers
from registry.endpoints.triton.looking import CANDIDATE, count_at, look_at
from registry.endpoints.triton.objections import ServerMachine, objection_of
from registry.endpoints.triton.probing import probe_part
from registry.endpoints.triton.repository import CONFIG, TritonRepository
from registry.endpoints.triton.weighted import CANARY, share_key, shares_of
from registry.errors import EndpointError, ModelwayError
from registry.names import check_name

if TYPE_CHECKING:
    from registry.endpoints.settings import TritonSettings
    from registry.engines.records import Parity


class TritonTarget:
    """A Triton Inference Server with explicit model control, and its model repository."""

    def __init__(
        self,
        settings: TritonSettings,
        *,
        endpoint: str,
        registry: str,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Take where the server and its repository are; nothing is asked of them yet.

        Raises:
            InvalidInputError: The repository is at no place that Triton reads, or the model's name is none.
            MissingExtraError: The client for the repository's kind of bucket is not installed.
        """
        if settings.model_name is not None:
            check_name(settings.model_name)
        self._settings, self._endpoint, self._registry = settings, endpoint, registry
        self._repository = TritonRepository(
            settings.repository, registry=registry, endpoint=endpoint, storage_options=storage_options
        )
        self._options = ServingOptions(
            instances=settings.instances,
            device=settings.device,
            max_batch=settings.max_batch,
            max_delay_ms=settings.max_delay_ms,
        )
        self._machine = ServerMachine(
            tensorrt_version=settings.tensorrt_version,
            compute_capability=settings.compute_capability,
            device=settings.device,
        )

    def objection(self, engine: str, key_fields: Mapping[str, Any]) -> str | None:
        """Return in words why this server cannot open an engine, None if it can."""
        return objection_of(engine, key_fields, self._machine)

    def check(self, rollout: Rollout) -> None:
        """Refuse what cannot be served here, before anything is touched.

        Raises:
            EndpointError: An engine that does not fit, a shadow, two parts of one version, or no answer from Triton.
            RefusedError: A folder under one of the names is somebody else's.
        """
        for part in rollout.parts:
            if part.role == "shadow":
                raise EndpointError(
                    f"{part.full_name} cannot be a shadow at {self._endpoint}: Triton copies no requests. Shadow "
                    f"traffic is there on a local endpoint only; here, give it a share as a canary."
                )
            if words := self.objection(part.engine, part.key_fields):
                raise EndpointError(
                    f"{part.full_name} cannot be served at {self._endpoint} as {part.engine}: {words}. Nothing was "
                    f"changed. Choose another engine, or `onnxruntime`, which every Triton opens."
                )
            self._config("checked", part, "")
        numbers = [part.number for part in rollout.parts]
        if len(set(numbers)) != len(numbers):
            raise EndpointError(
                f"{rollout.stable.full_name} cannot be its own canary at {self._endpoint}: Triton counts by version. "
                f"Roll the other engine out alone; it is tried before it serves."
            )
        name = self._name(rollout)
        for each in (name, name + CANDIDATE, name + CANARY):
            self._repository.marker(each)
        with self._control() as control:
            control.ready_versions()  # asked for the refusal: of one that does not answer, or wants a key

    def stage(self, rollout: Rollout) -> None:
        """Put the engines' files where Triton reads them; what is there already, with these bytes, stays."""
        name = self._name(rollout)
        with self._control() as control:
            for part in rollout.parts:
                with self._unless_served(control, rollout, part) as where:
                    self._repository.put(where, part, near=(name, name + CANARY, name + CANDIDATE))

    def configure(self, rollout: Rollout) -> None:
        """Write the configuration of what is new if it differs; that of what serves is written when it is routed."""
        with self._control() as control:
            for part in rollout.parts:
                with self._unless_served(control, rollout, part) as where:
                    staged = self._repository.staged(where, part.number)
                    self._repository.configure(where, self._config(where, part, staged.digest))

    def load(self, rollout: Rollout) -> None:
        """Load what is new under a name of its own, and wait until it is ready.

        Raises:
            EndpointError: Triton refused it, or was not done in time; what served before still does.
        """
        with self._control() as control:
            for part in rollout.parts:
                with self._unless_served(control, rollout, part) as where:
                    if not self._serves(control, where, part):
                        # Not over what an earlier try left: files of the same second are the same to Triton.
                        if control.labels(where) is not None:
                            control.unload(where)
                        self._load(control, where, part)

    def probe(self, rollout: Rollout) -> Mapping[str, Parity]:
        """Hold the answers of the parts to the golden samples, those that have some, by version.

        Raises:
            EndpointError: An answer differs, or none came.
        """
        found = {}
        with self._control() as control:
            for part in rollout.parts:
                if part.samples is not None:
                    with self._unless_served(control, rollout, part) as where:
                        found[part.version] = self._probe(control, where, part)
                    if part.version not in found:
                        found[part.version] = self._probe(control, self._home(self._name(rollout), part), part)
        return found

    def route(self, rollout: Rollout) -> Reached:
        """Let the model serve the stable part in place of what it serves, and tell the shares.

        Raises:
            EndpointError: Triton refused it, or was not done in time; what served before still does.
        """
        name, stable = self._name(rollout), rollout.stable
        with self._control() as control, self._unless_served(control, rollout, stable) as where:
            if where != name:
                self._take_over(control, where, name, stable)
        shares = {share_key(name, part): part.share for part in rollout.parts}
        routed = {"generation": rollout.generation, "shares": shares, "place": self._own_place}
        for part in rollout.parts:
            home = self._home(name, part)
            self._repository.note(home, self._repository.claim(home).model_copy(update=routed))
        settings = self._settings
        return Reached(
            url=f"http://{settings.http}" if settings.http else f"grpc://{settings.grpc}",
            grpc=settings.grpc,
            model_name=name,
            resources={"repository": f"{self._repository.url}/{name}", **shares_of(shares)},
        )

    def collect(self, rollout: Rollout) -> None:
        """Close and remove what this generation does not serve; what ``rollout.keep`` names stays in the repository."""
        name = self._name(rollout)
        serving = {self._home(name, part) for part in rollout.parts}
        with self._control() as control:
            for other in self._repository.markers():
                if other not in serving:
                    control.unload(other)
                    self._repository.remove(other)
        for part in rollout.parts:
            kept = (part.number, *rollout.keep) if part is rollout.stable else (part.number,)
            self._repository.remove_versions(self._home(name, part), keep=kept)

    def stop(self, *, forget: bool = True) -> None:
        """Unload every model of this endpoint, and remove it from the repository unless it is not to be forgotten.

        What was routed by other settings stays: the endpoint was moved from these, and may have the same server still.

        Raises:
            EndpointError: Triton does not answer, so that nobody knows whether it serves; nothing was removed.
        """
        markers = self._repository.markers()
        with self._control() as control:
            for name, marker in markers.items():
                if marker.place in {"", self._own_place}:
                    control.unload(name)
                    if forget:
                        self._repository.remove(name)

    def look(self) -> Look:
        """Return what is really served: by the server's own word, and the shares by what was routed last."""
        try:
            with self._control() as control:
                return look_at(control, self._repository)
        except EndpointError as error:
            return Look(running=False, words=str(error))

    def count(self) -> Mapping[int, Counted]:
        """Return what the versions did since they were loaded, by ordinal.

        Raises:
            EndpointError: Triton does not answer.
        """
        with self._control() as control:
            return count_at(control, self._repository)

    @contextmanager
    def _control(self) -> Iterator[TritonControl]:
        settings = self._settings
        with TritonControl(settings.grpc, timeout_s=settings.timeout_s, headers=key_headers()) as control:
            yield control

    @property
    def _own_place(self) -> str:
        return f"{self._settings.grpc}/{self._settings.model_name or ''}"

    def _name(self, rollout: Rollout) -> str:
        return self._settings.model_name or rollout.stable.model

    def _home(self, name: str, part: Part) -> str:
        """Return the model that serves a part once it is routed."""
        return share_key(name, part).partition("/")[0]

    def _place(self, control: TritonControl, rollout: Rollout, part: Part) -> str:
        """Return the model in which a part is brought up: where it serves already, else where nobody asks it."""
        name = self._name(rollout)
        home = self._home(name, part)
        if part.role == "canary" or self._serves(control, home, part):
            return home
        promoted = name + CANARY
        if len(rollout.parts) == 1 and self._serves(control, promoted, part):
            return promoted
        return name + CANDIDATE

    @contextmanager
    def _unless_served(self, control: TritonControl, rollout: Rollout, part: Part) -> Iterator[str]:
        """Give the model in which a part is brought up, and pass over a failure there if it serves after all.

        Another one who brought up the same generation was faster then, and has taken the candidate down.
        """
        try:
            yield self._place(control, rollout, part)
        except ModelwayError:
            if not self._serves(control, self._home(self._name(rollout), part), part):
                raise

    def _probe(self, control: TritonControl, name: str, part: Part) -> Parity:
        return probe_part(control, name, part, options=self._options, read=self._repository.read)

    def _serves(self, control: TritonControl, name: str, part: Part) -> bool:
        """Return whether a model serves a part, and would again after a restart of the server."""
        labels, marker = control.labels(name), self._repository.marker(name)
        staged = marker.versions.get(str(part.number)) if marker else None
        if labels is None or staged is None or not staged.is_of(part):
            return False
        config = self._config(name, part, staged.digest)
        loaded = labels == self._labels(part, staged.digest) and self._repository.read(name, CONFIG) == config
        return loaded and control.ready_versions().get(name) == [part.number]

    def _take_over(self, control: TritonControl, where: str, name: str, part: Part) -> None:
        staged = self._repository.copy(where, name, part.number)
        before = self._repository.read(name, CONFIG)
        self._repository.configure(name, self._config(name, part, staged.digest))
        try:
            self._load(control, name, part)
        except EndpointError:
            # A server that starts again must not begin with what it has just refused.
            self._repository.configure(name, before)
            raise

    def _load(self, control: TritonControl, name: str, part: Part) -> None:
        try:
            control.load(name)
        except UnreachableError:
            raise
        except EndpointError as error:
            raise EndpointError(
                f"{part.full_name} ({part.engine}) could not be loaded: {error} What served before still does. The "
                f"repository that the server reads must be {self._repository.url}."
            ) from error
        control.wait_until_ready(name, part.number)
        if control.labels(name) != self._labels(part, self._repository.staged(name, part.number).digest):
            raise EndpointError(
                f"Triton at {control.address} loaded another {name} than was written for {part.full_name}: the "
                f"repository that it reads is not {self._repository.url}. Name the one that it reads in the endpoint's "
                f"settings."
            )

    def _config(self, name: str, part: Part, digest: str) -> bytes:
        return write_config(name, part, labels=self._labels(part, digest), options=self._options)

    def _labels(self, part: Part, digest: str) -> Labels:
        return Labels(
            registry=self._registry,
            endpoint=self._endpoint,
            number=part.number,
            version=part.version,
            digest=digest,
            metadata_digest=part.metadata_digest,
            variant=part.variant or "",
        )
