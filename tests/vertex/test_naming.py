"""Names on Vertex AI: always within its grammars, and the same for the same thing."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from vertex_parts import REGISTRY

from registry.endpoints.settings import VertexSettings
from registry.endpoints.vertex import naming
from registry.endpoints.vertex.service import Service
from registry.errors import EndpointError
from registry.versions import label_of

_PATIENT = profile(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
_SETTINGS = VertexSettings(project="acme", region="europe-west4", staging="gs://bucket")
_NAMES = st.from_regex(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9])){0,62}", fullmatch=True)
_SEMANTIC = r"v?(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){2}(-[1-9a-zA-Z][0-9a-zA-Z-]{0,9}(\.[1-9a-zA-Z-]{1,9}){0,3})?"
_LABELS = st.from_regex(_SEMANTIC, fullmatch=True) | st.integers(1, 10**9 - 1).map("v{}".format)


@_PATIENT
@given(_NAMES)
def test_every_name_gives_ids_that_vertex_takes(name: str) -> None:
    model = naming.last_part(naming.model_name(_SETTINGS, REGISTRY, name))
    endpoint = naming.last_part(naming.endpoint_name(_SETTINGS, name))
    assert re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", model)
    assert re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", endpoint)
    assert model != naming.last_part(naming.model_name(_SETTINGS, "ab" * 16, name))


@_PATIENT
@given(_LABELS)
def test_every_label_gives_aliases_that_vertex_takes(label: str) -> None:
    assert label_of(label) == label
    for alias in (naming.version_alias(label), naming.upload_alias(label, {"artifact_uri": "gs://somewhere"})):
        assert re.fullmatch(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]", alias)


def test_a_label_keeps_its_form_where_it_can() -> None:
    assert naming.version_alias("v3") == "v3"
    assert naming.version_alias("1.2.0-rc.1") == "v1-2-0-rc-1"
    assert naming.upload_alias("v3", {"image": "a"}) != naming.upload_alias("v3", {"image": "b"})


def test_a_generation_and_a_place_are_one_id_of_ten_digits_at_most() -> None:
    assert naming.deployment_id(42, 1) == "421"
    with pytest.raises(EndpointError, match="takes 10 digits"):
        naming.deployment_id(10**9 + 7, 0)


def test_shares_are_whole_percent_or_none() -> None:
    assert [naming.percent_of(share) for share in (0.0, 0.1, 0.29, 0.9, 1.0)] == [0, 10, 29, 90, 100]
    assert naming.percent_of(0.125) is None


def test_a_folder_that_is_not_ours_tells_no_number() -> None:
    ours = f"gs://bucket/serving/{REGISTRY}/digits/12/{'ab' * 16}"
    assert naming.number_of(ours) == naming.number_of(f"{ours}/") == 12
    assert naming.number_of("gs://bucket/models/12") is None


def test_the_service_is_asked_at_the_address_of_its_region_over_https() -> None:
    assert Service(_SETTINGS).url == "https://europe-west4-aiplatform.googleapis.com"
    other = _SETTINGS.model_copy(update={"api_endpoint": "europe-west4-aiplatform.p.googleapis.com"})
    assert Service(other).url == "https://europe-west4-aiplatform.p.googleapis.com"
