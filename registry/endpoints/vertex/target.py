"""Vertex AI as a target: versions are deployed dark beside what serves, and one change of the traffic puts them there.

A model that gets no traffic cannot be asked there, by nobody. So a first deployment is probed before anybody knows of
it; a later one is probed right after ``route`` has given it its share, and ``route`` puts the traffic back if it fails.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from registry.endpoints.target import Counted, Look, Part, Reached, Rollout, Target
from registry.endpoints.triton.config import max_batch_of
from registry.endpoints.triton.objections import ServerMachine, objection_of
from registry.endpoints.vertex.deploying import Deploying, split_of, wanted_split
from registry.endpoints.vertex.naming import WHOLE, number_of, percent_of
from registry.endpoints.vertex.probing import Prober
from registry.endpoints.vertex.service import Service
from registry.endpoints.vertex.staging import OPTIONS, Staging
from registry.endpoints.vertex.uploading import Uploading
from registry.errors import EndpointError, MissingExtraError, ModelwayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.endpoints.settings import VertexSettings
    from registry.endpoints.vertex.deploying import Split
    from registry.engines.records import Parity

_IMAGES = (".pkg.dev", "gcr.io")
"""The hosts, by how they end, that Vertex AI takes containers from."""

_SEEN_WITHIN_S = 120.0  # how long the service may send requests where they went before; it promises nothing


class VertexTarget(Target):
    """An endpoint of Vertex AI, with Triton as its container."""

    def __init__(
        self,
        settings: VertexSettings,
        *,
        endpoint: str,
        registry: str,
        storage_options: Mapping[str, Any] | None = None,
        credentials: Any = None,
    ) -> None:
        """Take where to serve; nothing is imported or asked yet.

        Args:
            settings: The project, the region, the machines.
            endpoint: The endpoint's name.
            registry: The registry's id.
            storage_options: For the bucket of ``settings.staging``.
            credentials: Of google.auth; by default those of the environment.
        """
        self._settings, self._endpoint = settings, endpoint
        self._service = Service(settings, credentials=credentials)
        self._staging = Staging(settings, registry, storage_options)
        self._uploading = Uploading(self._service, settings, registry, self._staging)
        self._deploying = Deploying(self._service, settings, registry, endpoint, self._uploading)
        within_s = min(_SEEN_WITHIN_S, settings.timeout_s)
        self._prober = Prober(self._service, self._deploying.name, within_s=within_s, pause_s=min(1.0, settings.poll_s))
        self._machine = ServerMachine(
            tensorrt_version=settings.tensorrt_version,
            compute_capability=settings.compute_capability,
            device="auto" if settings.accelerator_type else "cpu",
        )

    @override
    def objection(self, engine: str, key_fields: Mapping[str, Any]) -> str | None:
        return objection_of(engine, key_fields, self._machine)

    @override
    def check(self, rollout: Rollout) -> None:
        self._check_installed()
        self._check_settings()
        for part in rollout.parts:
            self._check_part(part)
        if sum(percent_of(part.share) or 0 for part in rollout.parts) != WHOLE:
            shares = ", ".join(f"{part.full_name} {part.share:g}" for part in rollout.parts)
            raise EndpointError(f"the shares of endpoint {self._endpoint!r} do not add up to 1: {shares}.")
        self._deploying.find()

    @override
    def stage(self, rollout: Rollout) -> None:
        for part in rollout.parts:
            # What was uploaded, Vertex AI has copied: the next step of a canary need not read gigabytes again.
            if not self._staging.is_there(part) or self._uploading.find(part) is None:
                self._staging.put(part)

    @override
    def configure(self, rollout: Rollout) -> None:
        self._deploying.create()
        for part in rollout.parts:
            self._uploading.upload(part)

    @override
    def load(self, rollout: Rollout) -> None:
        for place in range(len(rollout.parts)):
            self._deploying.deploy(rollout, place)

    @override
    def probe(self, rollout: Rollout) -> Mapping[str, Parity]:
        """Hold the answers of the parts that have traffic to the golden samples; ``route`` asks the dark ones."""
        endpoint = self._deploying.get()
        return self._probed(rollout, self._deploying.ids(rollout, endpoint), split_of(endpoint))

    @override
    def route(self, rollout: Rollout) -> Reached:
        """Give each part its share in one request; a part that was dark is probed then, and put back if it fails.

        Raises:
            EndpointError: An answer to the golden samples differs, or none came; the traffic is as it was before.
        """
        endpoint = self._deploying.get()
        ids, before = self._deploying.ids(rollout, endpoint), split_of(endpoint)
        wanted = wanted_split(rollout.parts, ids)
        if before != wanted:
            self._deploying.route(f"route the traffic of {self._deploying.name}", wanted)
            try:
                self._probed(rollout, ids, {key: share for key, share in wanted.items() if key not in before})
            except ModelwayError as error:
                self._deploying.route(f"put back the traffic of {self._deploying.name}", before)
                raise EndpointError(f"{error} The traffic was put back: {_words(before)}.") from error
        return Reached(
            url=f"{self._service.url}/v1/{self._deploying.name}:rawPredict",
            model_name=rollout.stable.model,
            resources={
                "endpoint": self._deploying.name,
                **{f"model:{part.version}": self._uploading.get(part).full_name for part in rollout.parts},
                **{f"deployed:{part.version}": key for key, part in zip(ids, rollout.parts, strict=True)},
            },
        )

    @override
    def collect(self, rollout: Rollout) -> None:
        """Undeploy what gets no traffic and is neither of this generation nor kept; a kept one is paid for."""
        used = self._deploying.ids(rollout, self._deploying.get())

        def needless(deployed: Any) -> bool:
            number = number_of(self._address(deployed))
            return deployed.id not in used and number is not None and number not in rollout.keep

        self._deploying.undeploy(needless)

    @override
    def stop(self, *, forget: bool = True) -> None:
        """Undeploy everything; the endpoint itself, which costs nothing, is deleted with ``forget``."""
        self._deploying.empty()
        if forget:
            self._deploying.delete()

    @override
    def look(self) -> Look:
        try:
            endpoint = self._deploying.find()
            if endpoint is None:
                return Look(running=False, words=f"{self._deploying.name} is not there")
            return self._seen(endpoint)
        except ModelwayError as error:
            return Look(running=False, words=str(error))

    @override
    def count(self) -> Mapping[int, Counted]:
        """Return nothing: the counters are in Cloud Monitoring, an API of its own that has to be paid for."""
        return {}

    def sample(self, rollout: Rollout, requests: int) -> Mapping[int, Counted]:
        """Ask golden samples by the traffic's shares, and return what came of it by the version's ordinal.

        Raises:
            EndpointError: There are no golden samples, or nothing is deployed.
        """
        endpoint = self._deploying.get()
        parts = dict(zip(self._deploying.ids(rollout, endpoint), rollout.parts, strict=True))
        asked = {key: (part, self._staging.expected(part)) for key, part in parts.items() if key in split_of(endpoint)}
        if not asked or any(samples is None for _, samples in asked.values()):
            raise EndpointError(
                f"{self._endpoint} cannot be watched: its counters are not read, and a version without golden samples "
                f"cannot be asked. Register versions with samples=, or move the shares by hand."
            )
        counted = self._prober.sample(
            {key: (part, samples) for key, (part, samples) in asked.items() if samples}, requests
        )
        return {parts[key].number: one for key, one in counted.items()}

    # ------------------------------------------------------------------------------------------------------- refusals

    def _check_installed(self) -> None:
        for module, package in (
            ("google.cloud.aiplatform_v1", "google-cloud-aiplatform"),
            ("tritonclient.grpc", "tritonclient[grpc]"),
        ):
            if not _is_installed(module):
                raise MissingExtraError(package, "vertex", "an endpoint of Vertex AI")

    def _check_settings(self) -> None:
        settings = self._settings
        host = settings.image.partition("/")[0]
        if not settings.staging.startswith("gs://"):
            raise EndpointError(
                f"Vertex AI reads models from gs:// only, and staging is {settings.staging!r}: name a folder of a "
                f"bucket in {settings.region}."
            )
        if not host.endswith(_IMAGES):
            raise EndpointError(
                f"Vertex AI takes containers from Artifact Registry only, and image is {settings.image!r}: copy it to "
                f"{settings.region}-docker.pkg.dev/{settings.project}/REPOSITORY/tritonserver and name that "
                f"(docs/vertex.md has the commands)."
            )
        if bool(settings.accelerator_type) != bool(settings.accelerator_count):
            raise EndpointError(
                f"accelerator_type is {settings.accelerator_type!r} and accelerator_count "
                f"{settings.accelerator_count}: give both, or none."
            )
        if settings.min_replicas > settings.max_replicas:
            raise EndpointError(
                f"min_replicas is {settings.min_replicas}, more than max_replicas, which is {settings.max_replicas}."
            )

    def _check_part(self, part: Part) -> None:
        if part.role == "shadow":
            raise EndpointError(
                f"{part.full_name} cannot be a shadow on Vertex AI, which sends no copies of requests: only an "
                f"endpoint of the kind local does. Give it a share of the traffic as a canary instead."
            )
        if percent_of(part.share) is None:
            raise EndpointError(
                f"{part.full_name} cannot have a share of {part.share:g}: Vertex AI splits traffic in whole percent, "
                f"such as {round(part.share, 2):g}."
            )
        if (why := self.objection(part.engine, part.key_fields)) is not None:
            raise EndpointError(f"the engine {part.engine} of {part.full_name} does not fit: {why}.")
        max_batch_of(part, OPTIONS)  # refuses a part whose tensors are not known

    # --------------------------------------------------------------------------------------------------- what is there

    def _probed(self, rollout: Rollout, ids: tuple[str, ...], traffic: Split) -> dict[str, Parity]:
        found = {}
        for part, deployed in zip(rollout.parts, ids, strict=True):
            samples = self._staging.expected(part) if deployed in traffic else None
            if samples is not None:
                found[part.version] = self._prober.probe(part, deployed, traffic[deployed], samples)
        return found

    def _seen(self, endpoint: Any) -> Look:
        split = split_of(endpoint)
        shares: dict[int, float] = {}
        digests: dict[int, str] = {}
        strangers = []
        for deployed in endpoint.deployed_models:
            address = self._address(deployed)
            if (number := number_of(address)) is None:
                strangers.append(str(deployed.display_name or deployed.id))
                continue
            if deployed.id in split:  # the others are kept for the way back
                shares[number] = shares.get(number, 0.0) + split[deployed.id] / WHOLE
            staged = self._staging.staged_at(address, number)
            if staged is not None and (number not in digests or deployed.id in split):
                digests[number] = staged.digest
        words = f"deployed there by somebody else: {', '.join(strangers)}" if strangers else ""
        return Look(
            running=bool(split), shares=shares, digests=digests, words=words or ("" if split else _words(split))
        )

    def _address(self, deployed: Any) -> str:
        """Return the folder that a deployed model was made from, nothing where that version is gone."""
        model = self._service.get_model(f"{deployed.model.partition('@')[0]}@{deployed.model_version_id}")
        return "" if model is None else str(model.artifact_uri)


def _words(split: Split) -> str:
    listed = ", ".join(f"{percent} % to {key}" for key, percent in sorted(split.items()))
    return listed or "nothing gets any traffic"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it lies in
        return False
