"""Deleting a version: first the event, after which nobody finds it, then its files."""

from __future__ import annotations

from registry.endpoints.desired import EndpointState
from registry.errors import VersionInUseError
from registry.log import Snapshot, read_together
from registry.plan import plan_delete
from registry.serving import Serving
from registry.versions import VersionRef, canonical


class Deleting(Serving):
    """The verb that takes versions away."""

    def delete_version(
        self, name: str, version: VersionRef, *, force: bool = False, reason: str = "", actor: str | None = None
    ) -> None:
        """Delete a version: its files go, its history stays, and its label is never given again.

        Deleting it a second time removes what a first try left behind. Archive is what you want as a rule: an archived
        version can be rolled back to.

        Args:
            name: The model.
            version: Number, label or alias.
            force: Delete it although aliases point at it; they go with it.
            reason: Why; recorded.
            actor: Who is recorded.

        Raises:
            ModelNotFoundError, VersionNotFoundError: There is no such version.
            VersionInUseError: It is in production, an endpoint serves it or would come back to it, or an alias points
                at it and ``force`` is not set; nothing was changed.
            StoreError: The storage failed; after the event was written the version is gone, and ``gc`` or a second
                call removes the files.
        """
        name, _, alias = name.partition("@")
        asked = alias or version
        first = self._log(name).read()
        state = first.state
        key = state.aliases.get(str(asked)) or canonical(asked)
        if key not in state.versions:
            self._check_exists(name, first)
        for endpoint, wanted in self._wanted_of(name).items():
            if key in wanted:
                raise VersionInUseError(
                    f"{name}:{state.versions[key].label if key in state.versions else asked} is what the endpoint "
                    f"{endpoint} serves or would go back to; nothing was changed. Deploy another, or run `modelway "
                    f"endpoints stop {endpoint}`."
                )
        # By its own label: were the alias moved meanwhile, the version that was meant is the one that goes.
        known = self._append(
            name, lambda known: plan_delete(known.state, name, key, force=force, reason=reason), actor=actor
        )
        folder = f"models/{name}/{known.state.versions[key].path}"
        # The sidecar last: as long as it is there, what is left can be told from a folder of somebody else's.
        for file in sorted(self.store.list(folder), key=lambda file: file == f"{folder}/metadata.json"):
            self.store.delete(file)

    def _wanted_of(self, name: str) -> dict[str, set[str]]:
        """Return the canonical labels of a model's versions that each endpoint serves, or would come back to."""
        endpoints = sorted(self._root.read().state.endpoints)
        known: list[Snapshot[EndpointState]] = read_together(self.store, [self._endpoint_log(one) for one in endpoints])
        wanted: dict[str, set[str]] = {}
        for endpoint, snapshot in zip(endpoints, known, strict=True):
            state, observed = snapshot.state, self._observed(endpoint)
            seen = None if observed is None else observed.desired
            all_of_them = [*(desired for _, desired in state.before), state.desired, seen]
            of_model = [one for one in all_of_them if one is not None and one.model == name]
            wanted[endpoint] = {canonical(share.version) for one in of_model for _, share in one.shares()}
        return wanted
