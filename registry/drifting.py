"""Where an endpoint is not what it should be: it follows what points elsewhere, or serves what was not wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from registry.base import Record
from registry.endpoints.desired import PRODUCTION, Desired, EndpointState, Observed
from registry.endpoints.differences import differences
from registry.endpoints.target import Counted, Sampled
from registry.errors import ApprovalRequired, EndpointNotFoundError, NotFoundError, PolicyFailed
from registry.names import near
from registry.plan import check_policy
from registry.policy import PromotionPolicy
from registry.reconciling import Reconciling, this_host
from registry.records import ModelVersion
from registry.stages import ModelStage
from registry.state import ModelState
from registry.versions import VersionRef, canonical


class Drift(Record):
    """One way in which an endpoint is not what it should be, and the command that mends it.

    ``kind``: ``follows`` (the registry says another version than the endpoint serves; ``version`` is that one, None
    where there is none), ``unfinished`` (a generation was wanted and not brought up to its end), ``down`` (nothing
    answers), ``other`` (other bytes or shares than those brought up), ``left over`` (something serves, and nothing was
    wanted).
    """

    endpoint: str
    kind: Literal["follows", "unfinished", "down", "other", "left over"]
    words: str
    mend: str
    version: str | None = None


class Drifting(Reconciling):
    """The verbs that see where endpoints are not what they should be."""

    def get_drift(self, name: str | None = None) -> list[Drift]:
        """Return where endpoints are not what they should be; asks each target what it really serves.

        An endpoint that another machine, or another user of this one, serves is judged by the registry alone.

        Args:
            name: One endpoint; all of them by default.

        Raises:
            EndpointNotFoundError: There is none of that name.
        """
        names = sorted(self._root.read().state.endpoints) if name is None else [self._known_endpoint(name)]
        return [drift for one in names for drift in self._drift_of(one)]

    def count_endpoint(self, name: str) -> dict[str, Counted]:
        """Return what the versions at an endpoint did, by their labels, as far as its target counts.

        Raises:
            EndpointNotFoundError: There is none of that name.
            EndpointError: Its target does not answer.
        """
        desired = self._endpoint_log(self._known_endpoint(name)).read().state.desired
        if desired is None:
            return {}
        return self._by_label(desired, self._target(name, desired.place).count())

    def sample_endpoint(self, name: str, requests: int) -> dict[str, Counted] | None:
        """Ask an endpoint whose target does not count, by its golden samples; None where the target counts.

        Args:
            name: The endpoint.
            requests: How many requests to send, >= 1; they are split by the endpoint's shares.

        Raises:
            EndpointNotFoundError: There is none of that name.
            EndpointError: Its versions have no golden samples, or it does not answer at all.
        """
        state = self._endpoint_log(self._known_endpoint(name)).read().state
        if state.desired is None:
            return {}
        target = self._target(name, state.desired.place)
        if not isinstance(target, Sampled):
            return None
        rollout = self._rollout(name, state.generation, state.desired, target, None)
        return self._by_label(state.desired, target.sample(rollout, requests))

    def _by_label(self, desired: Desired, counted: Mapping[int, Counted]) -> dict[str, Counted]:
        labels = {
            self.get_version(desired.model, share.version).ordinal: share.version for _, share in desired.shares()
        }
        return {labels[number]: one for number, one in counted.items() if number in labels}

    def _known_endpoint(self, name: str) -> str:
        names = self._root.read().state.endpoints
        if name not in names:
            raise EndpointNotFoundError(name, near(name, names))
        return name

    def _drift_of(self, name: str) -> list[Drift]:
        state, observed = self._endpoint_log(name).read().state, self._observed(name)
        mend = f"modelway endpoints reconcile {name}"
        if state.desired is None:
            if observed is None:
                return []
            words = f"{name} was stopped, and generation {observed.generation} was never seen to end"
            return [Drift(endpoint=name, kind="left over", words=words, mend=mend)]
        desired, found = state.desired, []
        if (newer := self._points_elsewhere(name, desired)) is not None:
            found.append(newer.model_copy(update={"mend": mend}))
        if observed is None or observed.generation != state.generation:
            seen = "nothing was" if observed is None else f"generation {observed.generation} was last"
            words = (
                f"generation {state.generation} ({desired.model}:{desired.version}) is wanted, and {seen} seen serving"
            )
            return [*found, Drift(endpoint=name, kind="unfinished", words=words, mend=mend)]
        if self._is_served_elsewhere(name, observed):
            down = observed.server is not None and observed.host == this_host() and not self._runs(observed)
            words = f"{name}: the process that another user of this machine started for it has ended"
            return [*found, *([Drift(endpoint=name, kind="down", words=words, mend="")] if down else [])]
        look = self._target(name, desired.place).look()
        kind: Literal["down", "other"] = "other" if look.running else "down"
        return [
            *found,
            *(
                Drift(endpoint=name, kind=kind, words=f"{name}: {words}", mend=mend)
                for words in differences(observed, look, self._ordinals(desired))
            ),
        ]

    def _points_elsewhere(self, name: str, desired: Desired) -> Drift | None:
        """Return the drift of an endpoint that follows what points at another version now."""
        if desired.follows is None:
            return None
        followed = f"production of {desired.model}"
        if desired.follows == PRODUCTION:
            holder = self.get_production_model(desired.model)
        else:
            followed = f"{desired.model}@{desired.follows}"
            try:
                holder = self.get_model_metadata(followed)
            except NotFoundError:
                holder = None
        if holder is None:
            words = f"{name} follows {followed}, which points at nothing, and serves {desired.version}"
            return Drift(endpoint=name, kind="follows", words=words, mend="")
        # A canary that has been promoted gets its requests step by step: it is on its way already.
        on_its_way = desired.canary is not None and desired.canary.version == holder.version
        if holder.version == desired.version or on_its_way:
            return None
        words = f"{name} follows {followed}, which is {holder.version}, and serves {desired.version}"
        return Drift(endpoint=name, kind="follows", words=words, mend="", version=holder.version)

    def _followed(self, model_name: str, version: VersionRef | None, metadata: ModelVersion) -> str | None:
        """Return what an endpoint follows that is given a version: an alias it was asked by, or production it holds."""
        asked = model_name.partition("@")[2] or ("" if version is None else str(version))
        if asked in metadata.aliases:
            return asked
        return PRODUCTION if metadata.stage is ModelStage.PRODUCTION else None

    def _runs(self, observed: Observed) -> bool | None:
        """Return whether the process that was seen serving runs; None where only its target could say."""
        from registry.endpoints.process import is_running

        if observed.server is None:
            return None
        return observed.host == this_host() and is_running(observed.server)

    def _check_may_serve(self, version: ModelVersion, endpoint: str, current: EndpointState, *, shadow: bool) -> None:
        """Hold a version to what guards production, unless it has held it.

        What is measured must do for any endpoint. A person's yes is needed where the endpoint is production's: it
        follows production, or serves a version that has held it. A shadow answers nobody and needs none.

        Raises:
            PolicyFailed: It does not meet the registry's policy for production.
            ApprovalRequired: It would answer in production without having been approved.
        """
        known, key = self._resolve(version.name, version.version, None)
        state = known.state
        if state.versions[key].held_production:
            return
        result = check_policy(state, version.name, key, self.guard.policy_for(ModelStage.PRODUCTION, PromotionPolicy()))
        if not result.passed:
            raise PolicyFailed(version.full_name, f"endpoint {endpoint}", result.failures)
        needed = ModelStage.PRODUCTION in self.guard.require_approval
        if needed and not shadow and _is_productions(version.name, current, state):
            raise ApprovalRequired(
                f"{version.full_name} has not been approved for production, and {endpoint} is production's. Promote it "
                f"first, deploy it to another endpoint, or as a shadow, which answers nobody. Nothing was changed."
            )


def _is_productions(model: str, current: EndpointState, state: ModelState) -> bool:
    """Return whether an endpoint follows production, or serves a version that has held it."""
    served = current.desired
    if served is None or served.model != model:
        return False
    held = state.versions.get(canonical(served.version))
    return served.follows == PRODUCTION or (held is not None and held.held_production)
