"""The work pools that come with modelway are what their workers take; none of these workers is started here."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.schema_tools.validation import is_valid_schema, validate

from deployments.pools import WorkPool, worker_of
from deployments.settings import load_deployments

POOLS = Path(__file__).parents[2] / "configs" / "pools"
FILES = ["process", "docker", "kubernetes", "gpu"]


def pool_of(file: str, folder: Path) -> WorkPool:
    (folder / "deployments.yaml").write_text(f"pools: [{POOLS / file}.yaml]\n")
    (pool,) = load_deployments(folder / "deployments.yaml").pools
    return pool


def job_of(pool: WorkPool) -> Any:
    """Return the job that a worker would start for a run."""
    job: Any = asyncio.run(worker_of(pool.settings.type).job_configuration.from_template_and_values(pool.template, {}))
    job.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="careful-owl"))
    return job


def test_every_pool_file_is_one_of_those_that_are_tried() -> None:
    assert {file.stem for file in POOLS.iterdir()} == set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_pool_is_within_the_job_schema_of_its_worker(file: str, tmp_path: Path) -> None:
    pool = pool_of(file, tmp_path)
    WorkPoolCreate(name=pool.name, type=pool.settings.type, base_job_template=pool.template)
    is_valid_schema(pool.template["variables"])
    assert pool.settings.variables
    assert not validate(pool.settings.variables, pool.template["variables"], raise_on_error=True)
    env = job_of(pool).env
    # A Kubernetes job has its variables as a list.
    given = env if isinstance(env, dict) else {one["name"]: one["value"] for one in env}
    assert given["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "60"


def test_a_container_gets_the_image_the_volumes_and_the_networks(tmp_path: Path) -> None:
    job = job_of(pool_of("docker", tmp_path))
    assert (job.image, job.volumes, job.networks) == ("modelway:latest", ["/srv/modelway:/srv/modelway"], ["modelway"])
    assert job.mem_limit == "8g"


def test_a_job_on_a_gpu_asks_for_one_of_its_kind(tmp_path: Path) -> None:
    pod = job_of(pool_of("gpu", tmp_path)).job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    # What was laid over took nothing away.
    assert container["image"] == "registry.example.com/modelway-tensorrt:latest"
    assert pod["serviceAccountName"] == "modelway"
    assert {"name": "PREFECT_API_URL", "value": "http://prefect-server.modelway:4200/api"} in container["env"]
