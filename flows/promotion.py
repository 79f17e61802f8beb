"""Promotion: bring a version that is registered already through the gate, and serve it where that is wanted."""

from __future__ import annotations

from prefect import flow

from flows.gate import ASK_AT_MOST, pass_gate
from flows.running import carried
from registry import ModelStage
from tasks import run_steps, steps
from tasks.gate import Gate, policy_in
from tasks.outcome import Outcome
from tasks.pipeline import DeploySettings


@flow(name="promotion", flow_run_name="{name} {version} to {stage}", validate_parameters=False)
def promotion(  # noqa: PLR0913 - the public interface
    name: str,
    version: str,
    *,
    url: str,
    stage: str = "production",
    policy: str | None = None,
    endpoint_name: str | None = None,
    expires_in_hours: float = 72.0,
    timeout_s: float = 3600.0,
    ask_at_most: int = ASK_AT_MOST,
    requested_by: str | None = None,
) -> Outcome:
    """Ask a person for a registered version, and promote it when the answer is yes.

    Args:
        name: The model.
        version: Number, label or alias.
        url: The registry.
        stage: Where to.
        policy: The path of a policy file, beside the registry's own policy.
        endpoint_name: Serve it there afterwards.
        expires_in_hours: How long an answer holds.
        timeout_s: How long a run waits that cannot be suspended.
        ask_at_most: How often a person may be asked while this process lives.
        requested_by: Who asks for the promotion; nobody approves their own request.

    Raises:
        NotFoundError: There is no such version.
        IllegalTransitionError: It cannot move there.
        ModelwayError: A step failed; what was done until then stands in the registry.
    """
    candidate = steps.find(url, name, version)
    run = run_steps.begin(
        url,
        candidate.name,
        kind="promotion",
        parameters={"name": name, "version": version, "stage": stage},
        version=candidate.version,
    )

    def way() -> Outcome:
        gate = Gate(
            url=url,
            model=candidate.name,
            stage=ModelStage.parse(stage),
            policy=policy_in(policy),
            expires_in_hours=expires_in_hours,
            timeout_s=timeout_s,
        )
        stopped = pass_gate(gate, candidate, run=run.id, ask_at_most=ask_at_most, actor=requested_by)
        if stopped is not None:
            return stopped
        if endpoint_name is None:
            return Outcome.of("promoted", url, candidate, f"it is in {gate.stage}")
        wanted = DeploySettings(endpoint_name=endpoint_name)
        endpoint = steps.deploy(url, candidate, wanted, why=f"promotion {run.id}", key=f"{run.id}:deploy")
        deployed = Outcome.of("deployed", url, candidate, f"it is in {gate.stage} and serves at {endpoint.name}")
        return deployed.model_copy(update={"endpoint": endpoint.name, "endpoint_url": endpoint.url})

    return carried(run, url=url, model=candidate.name, way=way)
