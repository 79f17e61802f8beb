"""A registry whose promotions wait for a person on a Prefect server, and those who may answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect_house import PrefectHouse
from typer.testing import CliRunner, Result

from deployments.cli import make_program
from flows.promotion import promotion
from registry import Guard, ModelRegistry
from registry.signing import generate
from registry.state import Asked

ANN, BOB, EVE, CARL = "ann@example.com", "bob@example.com", "eve@example.org", "carl@example.com"


@dataclass
class Office:
    """A registry whose promotions to production wait for a person on a Prefect server; ann, bob and eve have keys."""

    prefect: PrefectHouse
    deployment: UUID
    folder: Path
    keys: dict[str, Path] = field(default_factory=dict)
    public: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.registry = ModelRegistry(self.folder / "registry", actor=CARL)
        for name in (ANN, BOB, EVE):
            private, self.public[name] = generate()
            self.keys[name] = self.folder / f"{name}.pem"
            self.keys[name].write_bytes(private)

    def guard(self, *, signed: bool = False, **more: Any) -> None:
        """Guard production: people of example.com say yes; ``signed``: by their keys."""
        listed: dict[str, Any] = {
            "require_approval": {"production"},
            "approvers": ("*@example.com",),
            "accept_asserted": not signed,
            "signers": {name: self.public[name] for name in (ANN, BOB)},
        }
        self.registry.set_guard(Guard(**(listed | more)))

    def ask(self, model: str = "digits", *, through: str | None = None) -> tuple[UUID, str]:
        """Register a version and start its promotion; it is suspended when this gives the run and the request."""
        version = self.registry.register(model, b"weights")
        run = self.prefect.run(
            self.deployment, name=model, version=version.version, url=self.registry.url, requested_by=CARL
        )
        self.carry(run, through=through)
        return run, self.registry.get_approvals(model)[-1].request.id

    def carry(self, run: UUID, *, through: str | None = None) -> None:
        """Carry a run, as a worker would, until it ends or is suspended; ``through`` is another way to the API."""
        special = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_API_URL: through or self.prefect.api_url}
        with self.prefect.settings(), temporary_settings(special):
            carried = self.prefect.read(run)
            try:
                run_flow(promotion, flow_run=carried)
            except Pause:
                return

    def asked(self, request: str, model: str = "digits") -> Asked:
        return self.registry.get_approval(model, request).asked

    def stage(self, version: int = 1, model: str = "digits") -> str:
        return self.registry.get_version(model, version).stage.value

    def modelway(self, *words: object) -> Result:
        """Call the command line as a program would: no terminal."""
        with self.prefect.settings():
            return CliRunner().invoke(make_program(), [str(word) for word in words], prog_name="modelway")
