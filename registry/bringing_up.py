"""Bringing up an engine on this machine: which one serves, its files fetched, its process started and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry import clock
from registry.deriving import Deriving
from registry.endpoints.desired import Desired, Observed
from registry.errors import EndpointError
from registry.frameworks.kinds import ModelFramework
from registry.loading import manifest_in
from registry.records import FileEntry, ModelVersion

if TYPE_CHECKING:
    from registry.endpoints.local import LocalServers
    from registry.engines.fitting import Fitting

SERVED = ("onnxruntime", "openvino")
"""The backends that a local endpoint opens engines of."""


class BringingUp(Deriving):
    """What the verbs that make versions serve have in common on one machine."""

    def _servable(self, version: ModelVersion) -> Fitting:
        """Return the engine to serve, with no key for the version's own ONNX."""
        own = version.framework is ModelFramework.ONNX
        fitting = self.fit_engine(version.name, version.version, families=SERVED, needed=not own)
        if fitting.key is None and not own:
            raise EndpointError(
                f"{version.full_name} has no engine that a local endpoint runs on this machine: {fitting.words}; "
                f"run `modelway models optimize {version.name} {version.version} --spec FILE` first."
            )
        return fitting

    def _bring_up(self, endpoint: str, generation: int, desired: Desired) -> Observed:
        samples = self.load_samples(desired.model, desired.version)
        fitting = self._wanted_engine(desired)
        engine = fitting.engine or "onnxruntime"
        server, golden = self._servers(endpoint).bring_up(
            generation,
            desired,
            engine=engine,
            fetch_engine=lambda folder: self._fetch_engine(desired, folder),
            samples=samples,
        )
        return Observed(
            endpoint=endpoint,
            generation=generation,
            desired=desired,
            engine=engine,
            why_engine=fitting.words,
            server=server,
            host=this_host(),
            golden=golden,
            since=clock.now(),
        )

    def _wanted_engine(self, desired: Desired) -> Fitting:
        """Return the engine that a generation names, and why it is this one."""
        from registry.engines.fitting import Fitting

        fitting = self.fit_engine(desired.model, desired.version, families=SERVED, needed=True)
        if fitting.key == desired.variant:
            return fitting
        variants = self.get_variants(desired.model, desired.version)
        named = next((one.report.engine for one in variants if one.key == desired.variant), None)
        return Fitting(key=desired.variant, engine=named, words="it was wanted, and serves until another is deployed")

    def _servers(self, endpoint: str) -> LocalServers:
        import platformdirs

        from registry.endpoints.local import LocalServers

        return LocalServers(endpoint, platformdirs.user_state_path("modelway") / self.identity.id / endpoint)

    def _fetch_engine(self, desired: Desired, to: Path) -> FileEntry:
        if desired.variant is not None:
            manifest = self.download_variant(desired.model, desired.version, desired.variant, to)
        else:
            self.download(desired.model, desired.version, to, progress=False)
            manifest = manifest_in(self.get_sidecar(desired.model, desired.version))
        found = [entry for entry in manifest.files if entry.path.endswith(".onnx")]
        if len(found) != 1:
            names = ", ".join(entry.path for entry in manifest.files[:5])
            raise EndpointError(
                f"{desired.model}:{desired.version} has {len(found)} .onnx files where one is served (it has: {names})."
            )
        # The server compares the file with the digest that was recorded, once more, before it opens it.
        return found[0]

    def _stop(self, observed: Observed) -> None:
        from registry.endpoints.process import stop_server

        if observed.host == this_host():
            stop_server(observed.server)


def this_host() -> str:
    """Return the name that this machine has for itself."""
    import socket

    return socket.gethostname()


def runs_here(observed: Observed) -> bool:
    """Return whether a process that was seen serving is one of this machine, and runs."""
    from registry.endpoints.process import is_running

    return observed.host == this_host() and is_running(observed.server)
