"""A fake Vertex AI, a bucket, and targets that use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from emulators import Emulator, gcs_server
from vertex_parts import REGISTRY

from registry.endpoints.settings import VertexSettings
from registry.endpoints.vertex import VertexTarget
from registry.store import open_store

if TYPE_CHECKING:
    from vertex_fake import FakeVertex


Targets = Callable[..., VertexTarget]


@pytest.fixture(scope="session")
def bucket() -> Iterator[Emulator]:
    """An object store that stays for all tests: what is staged there is never changed."""
    with gcs_server() as emulator:
        yield emulator


@pytest.fixture
def vertex(bucket: Emulator) -> Iterator[FakeVertex]:
    """A service with nothing in it."""
    from vertex_fake import running_vertex
    from vertex_fake_rules import VertexRules

    def read(folder: str) -> dict[str, bytes]:
        store = open_store(folder, storage_options=bucket.options)
        keys = store.list("")
        return {key: data for key, data in zip(keys, store.read_many(keys), strict=True) if data is not None}

    with running_vertex(VertexRules(read)) as fake:
        yield fake


@pytest.fixture
def settings(vertex: FakeVertex, bucket: Emulator) -> VertexSettings:
    """Settings that fit it."""
    return VertexSettings(
        project="acme",
        region="europe-west4",
        staging=f"{bucket.url}/serving",
        image="europe-west4-docker.pkg.dev/acme/containers/tritonserver:25.10-py3",
        api_endpoint=vertex.url,
        timeout_s=20.0,
    )


@pytest.fixture
def target(settings: VertexSettings, bucket: Emulator) -> Targets:
    """Return a maker of targets, each as a new process would have it: ``target("digits", machine_type="n2-...")``."""

    def make(endpoint: str = "digits", registry: str = REGISTRY, **changed: Any) -> VertexTarget:
        from google.auth.credentials import AnonymousCredentials

        return VertexTarget(
            settings.model_copy(update={"poll_s": 0.004, **changed}),
            endpoint=endpoint,
            registry=registry,
            storage_options=bucket.options,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        )

    return make
