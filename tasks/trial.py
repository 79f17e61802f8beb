"""Try an endpoint with the pipeline's test data, as a client would."""

from __future__ import annotations

from registry import Endpoint
from registry.errors import EndpointError
from registry.progress import track
from tasks import user_code
from tasks.outcome import Trial
from tasks.pipeline import PipelineConfig


def try_endpoint(pipeline: PipelineConfig, endpoint: Endpoint) -> Trial:
    """Send every test sample through the endpoint over HTTP, one a request, and measure answers and times.

    Raises:
        EndpointError: It does not run, or a request had no answer.
    """
    from registry.endpoints.client import InferenceClient
    from registry.endpoints.trial import send_all

    if endpoint.url is None:
        raise EndpointError(f"{endpoint.name} does not run; `modelway endpoints show {endpoint.name}` tells more.")
    test = user_code.load_splits(pipeline.data).test
    with (
        InferenceClient(endpoint.url) as client,
        track(f"asking {endpoint.name}", len(test.inputs), "samples") as advance,
    ):
        tensors = client.metadata(pipeline.name)
        name, output = tensors["inputs"][0]["name"], tensors["outputs"][0]["name"]
        sent = send_all(client, pipeline.name, {name: test.inputs}, progress=advance)
    if sent.errors:
        raise EndpointError(
            f"{sent.errors} of {sent.requests} requests to {endpoint.name} had no answer; "
            f"the first said: {sent.first_error}"
        )
    return Trial(
        samples=len(test),
        metrics=user_code.evaluate(pipeline.evaluation, sent.outputs[output], test.labels),
        p50_ms=sent.p50_ms,
        p95_ms=sent.p95_ms,
        p99_ms=sent.p99_ms,
    )
