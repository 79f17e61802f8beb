"""The one process that serves a local endpoint: found, started at the address it had, given its settings, ended."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from registry.endpoints.client import ControlClient
from registry.endpoints.process import find_server, start_server, stop_server, wait_for_answer
from registry.endpoints.serving import RunningServer, ServedModels, ServerConfig, read_state
from registry.endpoints.settings import LocalSettings
from registry.errors import EndpointError

_KEPT_FOR_LIFE = {
    "workers", "engine_threads", "max_batch", "max_delay_ms", "max_concurrency", "timeout_s", "log_share",
}  # fmt: skip
"""The settings that a process has for its whole life: where they change, another one takes its place."""


_ENDED_WITHIN_S = 15.0  # longer than requests under way are given


class LocalProcess:
    """The process of an endpoint, whose files lie in ``folder``."""

    def __init__(self, settings: LocalSettings, *, endpoint: str, folder: Path) -> None:
        """Take where its files lie; nothing is touched."""
        self._settings, self._endpoint, self._folder = settings, endpoint, folder
        self.models_file = folder / "models.json"
        self._state_file, self._log_path = folder / "state.json", folder / "server.log"

    def find(self) -> RunningServer | None:
        """Return the process if it answers."""
        return find_server(self._state_file, log_path=self._log_path)

    def running(self) -> RunningServer:
        """Return the process.

        Raises:
            EndpointError: It does not answer.
        """
        if (running := self.find()) is None:
            raise EndpointError(
                f"the process of endpoint {self._endpoint!r} has ended; {self._log_path} says why. "
                f"Run `modelway endpoints reconcile {self._endpoint}`."
            )
        return running

    def ensure(self) -> None:
        """Have a process with the settings that are wanted; one that has them stays.

        Raises:
            EndpointError: It cannot be started.
        """
        # One that is only slow must not get a second beside it; one that hangs has to let go of the port.
        running = self.find() or wait_for_answer(self._state_file, log_path=self._log_path)
        if running is not None and not self._differs():
            return
        if running is not None:
            stop_server(running, timeout_s=_ENDED_WITHIN_S)  # it has to let go of the address first
        last = self._last_ports()
        ports = self._settings.port or last[0], self._settings.grpc_port or last[1]
        try:
            self._start(ports)
        except EndpointError:
            if not self.models_file.exists():
                raise
            # What it served last is no more to be opened: what is wanted is loaded next, and needs a process only.
            self.write(ServedModels())
            self._start(ports)

    def stop(self, *, forget: bool) -> None:
        """End the process, requests under way are finished; ``forget`` its files as well, but for the requests kept."""
        running = self.find() or wait_for_answer(self._state_file, log_path=self._log_path)
        if running is not None:
            stop_server(running, timeout_s=_ENDED_WITHIN_S)
        if forget:
            for path in self._folder.glob("*"):
                if path.is_file() and path.name != "lock":  # which is being held
                    path.unlink(missing_ok=True)

    def control(self) -> ControlClient:
        """Return a client that may load.

        Raises:
            EndpointError: The process has ended.
        """
        state = read_state(self._state_file)
        if state is None:
            self.running()
            raise EndpointError(f"the process of endpoint {self._endpoint!r} has no state file.")
        return ControlClient(state.url, state.token)

    def served(self) -> ServedModels:
        """Return what the process serves, by its own word: a file may have been written that it never read.

        Raises:
            EndpointError: It does not answer.
        """
        with self.control() as control:
            return control.served()

    def write(self, models: ServedModels) -> None:
        """Write what is to be loaded, in one step."""
        staged = self.models_file.with_suffix(".tmp")
        staged.write_text(models.model_dump_json(indent=2) + "\n", encoding="utf-8")
        staged.replace(self.models_file)

    def _config(self, ports: tuple[int, int]) -> ServerConfig:
        return ServerConfig(
            **self._settings.model_dump(include=_KEPT_FOR_LIFE),
            port=ports[0],
            grpc_port=ports[1],
            endpoint=self._endpoint,
            models_file=self.models_file,
            state_file=self._state_file,
            log_folder=self._folder / "requests" if self._settings.log_share else None,
        )

    def _differs(self) -> bool:
        """Return whether the process was started with other settings; where any port is wanted, its own will do."""
        try:
            written = ServerConfig.model_validate_json((self._folder / "server.json").read_bytes())
        except (OSError, ValidationError):
            return True
        kept = {*_KEPT_FOR_LIFE, "port", "grpc_port"}
        ports = self._settings.port or written.port, self._settings.grpc_port or written.grpc_port
        return written.model_dump(include=kept) != self._config(ports).model_dump(include=kept)

    def _last_ports(self) -> tuple[int, int]:
        """Return the ports that the endpoint had, 0 for none: its address stays when its process does not."""
        last = self._folder / "ports"
        http, grpc = (int(word) for word in last.read_text().split()) if last.exists() else (0, 0)
        return http, grpc

    def _start(self, ports: tuple[int, int]) -> None:
        wanted = self._settings.port, self._settings.grpc_port
        try:
            running = start_server(self._config(ports), folder=self._folder)
        except EndpointError:
            if ports == wanted:
                raise
            running = start_server(self._config(wanted), folder=self._folder)  # somebody has taken the last ones
        found = [(address or ":0").rpartition(":")[2] for address in (running.url, running.grpc)]
        (self._folder / "ports").write_text(" ".join(found))
