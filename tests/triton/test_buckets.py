"""A real Triton whose repository is in a bucket that it reads itself, and one beside a bucket that it cannot reach."""

from __future__ import annotations

import emulators
import pytest
from triton_parts import REGISTRY, bring_up, digest_of_network, part_of, rollout_of, sha256, users_of
from triton_server import running_triton

from registry.endpoints.settings import TritonSettings
from registry.endpoints.target import Look
from registry.endpoints.triton.target import TritonTarget
from registry.errors import EndpointError
from registry.store.open import open_store

pytestmark = pytest.mark.heavy


def test_versions_are_swapped_in_a_bucket_of_s3_without_an_error() -> None:
    with emulators.s3_server() as bucket:
        credentials = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        # Triton wants an address that is not Amazon's inside the URL.
        where = f"s3://{bucket.address}/{emulators.BUCKET}/triton"
        arguments = ["--disable-auto-complete-config"]
        url = f"{bucket.url}/triton"
        open_store(url, storage_options=bucket.options).create("keep.txt", b"an empty folder is none in a bucket")
        with running_triton(where, environment=credentials, arguments=arguments) as triton:
            settings = TritonSettings(repository=url, grpc=triton.grpc, http=triton.http)
            target = TritonTarget(settings, endpoint="shop", registry=REGISTRY, storage_options=bucket.options)
            bring_up(target, rollout_of(1, part_of(1)))
            with users_of(triton.grpc, "digits", seeds=(1, 2, 8)) as users:
                users.wait_for(100)
                bring_up(target, rollout_of(2, part_of(2), keep=(1,)))
                users.wait_for(100)
                bring_up(target, rollout_of(3, part_of(1), keep=(2,)))
                bring_up(target, rollout_of(4, part_of(1, seed=8, variant="k8")))
                users.wait_for(100)
            assert (users.errors, users.wrong) == ([], 0)
            assert min(users.answered[seed] for seed in (1, 2, 8)) > 0
            assert target.look() == Look(running=True, shares={1: 1.0}, digests={1: digest_of_network(8)})
            target.stop()
            assert not target.look().running


def test_what_is_written_to_a_bucket_of_google_is_what_triton_reads(tmp_path_factory: pytest.TempPathFactory) -> None:
    with emulators.gcs_server() as bucket, running_triton(tmp_path_factory.mktemp("empty")) as triton:
        settings = TritonSettings(repository=f"{bucket.url}/triton", grpc=triton.grpc)
        target = TritonTarget(settings, endpoint="shop", registry=REGISTRY, storage_options=bucket.options)
        bring_up(target, rollout_of(1, part_of(1)), until="configure")
        store = open_store(settings.repository, storage_options=bucket.options)
        assert store.list("") == [
            f"digits--candidate/{path}" for path in ("1/model.onnx", "config.pbtxt", "modelway.json", "warmup/1.input")
        ]
        assert sha256(store.read("digits--candidate/1/model.onnx")) == digest_of_network(1)
        with pytest.raises(EndpointError, match=r"The repository that the server reads must be gs://models/triton\."):
            target.load(rollout_of(1, part_of(1)))
