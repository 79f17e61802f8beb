"""What a server tells of its versions: Triton's statistics, Prometheus's metrics, and right answers that come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families
from served_models import list_models, served

from registry.endpoints.answering import Service
from registry.endpoints.client import InferenceClient
from registry.endpoints.labels import AnsweredClasses, Label, Labels, classes_in
from registry.endpoints.process import start_server, stop_server
from registry.endpoints.protocol import InferenceRequest, WantedOutput
from registry.endpoints.statistics import LATENCY_BUCKETS_MS, Counters
from registry.endpoints.tensors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from registry.endpoints.serving import RunningServer, ServerConfig

SAMPLES = np.random.default_rng(8).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def fresh(tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]) -> Iterator[RunningServer]:
    """A server of iris alone, v1 stable and v2 its shadow, that nobody has asked anything yet."""
    stable, shadow = served("iris", "v1", engines["first"]), served("iris", "v2", engines["second"], role="shadow")
    running = start_server(config_for(tmp_path, stable, shadow, grpc=False), folder=tmp_path)
    yield running
    stop_server(running)


@pytest.fixture
def asking(fresh: RunningServer) -> Iterator[InferenceClient]:
    with InferenceClient(fresh.url) as client:
        yield client


def test_nvidias_client_reads_the_statistics(fresh: RunningServer, asking: InferenceClient) -> None:
    for size in (1, 2, 3, 3):
        asking.infer("iris", {"x": SAMPLES[:size]}, version="1")
    with pytest.raises(ProtocolError):
        asking.infer("iris", {"x": SAMPLES[:, :2]}, version="1")
    client = triton.InferenceServerClient(urlsplit(fresh.url).netloc)
    (stats,) = client.get_inference_statistics("iris", "1")["model_stats"]
    everything = client.get_inference_statistics()["model_stats"]
    client.close()
    assert [(one["name"], one["version"]) for one in everything] == [("iris", "1"), ("iris", "2")]
    assert (stats["name"], stats["version"]) == ("iris", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (9, 4)
    assert stats["last_inference"] > 1_700_000_000_000
    durations = stats["inference_stats"]
    assert {name: one["count"] for name, one in durations.items()} == {
        "success": 4, "fail": 0, "queue": 4, "compute_input": 4, "compute_infer": 4, "compute_output": 4,
    }  # fmt: skip
    assert durations["success"]["ns"] >= durations["compute_infer"]["ns"] > 0
    assert [(one["batch_size"], one["compute_infer"]["count"]) for one in stats["batch_stats"]] == [
        (1, 1), (2, 1), (3, 2),
    ]  # fmt: skip


def test_the_statistics_count_what_a_canary_is_judged_by(asking: InferenceClient) -> None:
    for _ in range(20):
        asking.infer("iris", {"x": SAMPLES}, version="1")
    counted = asking.statistics("iris", version="1")[0]["modelway"]
    assert (counted["requests"], counted["errors"], counted["invalid"]) == (20, 0, 0)
    assert [bound for bound, _ in counted["latency_ms"]] == list(LATENCY_BUCKETS_MS)
    counts = [count for _, count in counted["latency_ms"]]
    assert counts == sorted(counts)
    assert counts[-1] == 20
    assert counted["latency_sum_ms"] > 0
    with pytest.raises(ProtocolError, match="iris has no version '3'"):
        asking.statistics("iris", version="3")
    with pytest.raises(ProtocolError, match="no model 'other'"):
        asking.statistics("other")


def _metrics(url: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Return every sample by its name, then by the values of its labels, model and version first."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    answer = httpx.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            first = [name for name in ("model", "version", "role") if name in sample.labels]
            names = [*first, *sorted(set(sample.labels) - set(first))]
            found.setdefault(sample.name, {})[tuple(sample.labels[name] for name in names)] = sample.value
    return found


def test_prometheus_finds_every_number(fresh: RunningServer, asking: InferenceClient) -> None:
    for _ in range(5):
        asking.infer("iris", {"x": SAMPLES[:2]}, request_id="again")
    with pytest.raises(ProtocolError):
        asking.infer("iris", {"x": SAMPLES[:, :2]})
    asking.tell_labels("iris", {"again": [0, 1]})
    found = _metrics(fresh.url)
    assert found["modelway_requests_total"] == {
        ("iris", "1", "stable", "ok"): 5, ("iris", "1", "stable", "invalid"): 1, ("iris", "2", "shadow", "ok"): 5,
    }  # fmt: skip
    assert found["modelway_generation"] == {(): 7}
    assert found["modelway_in_flight"] == {(): 0}
    assert found["modelway_refused_total"] == {(): 0}
    assert found["modelway_version_share"] == {("iris", "1"): 1, ("iris", "2"): 1}
    assert found["modelway_labelled_total"] == {("iris", "1"): 2, ("iris", "2"): 2}
    (info, _) = found["modelway_version_info"]
    assert {"iris", "1", "v1", "stable", "onnxruntime", "f32"} < set(info)
    assert any(value.startswith("sha256:") for value in info)
    for name in ("modelway_request_seconds", "modelway_queue_seconds", "modelway_batch_samples"):
        assert found[f"{name}_count"]["iris", "1"] == 5
        assert found[f"{name}_bucket"]["iris", "1", "+Inf"] == 5
        assert found[f"{name}_bucket"]["iris", "1", "32.0" if "batch" in name else "30.0"] == 5
    assert found["modelway_batch_samples_sum"]["iris", "1"] == 10
    assert found["process_resident_memory_bytes"][()] > 0


def test_labels_that_come_back_tell_who_was_right(asking: InferenceClient) -> None:
    answered = {
        version: asking.infer("iris", {"x": SAMPLES}, version=version)["probabilities"].argmax(axis=1).tolist()
        for version in ("1", "2")
    }
    asking.infer("iris", {"x": SAMPLES}, request_id="batch")
    for number in range(6):
        asking.infer("iris", {"x": SAMPLES[number : number + 1]}, request_id=f"one {number}")
    truth = [0, 1, 2, 0, 1, 2]
    assert asking.tell_labels("iris", {"batch": truth, "nobody": 1}) == 1
    assert asking.tell_labels("iris", {"batch": truth}) == 0  # they count once
    assert asking.tell_labels("iris", {f"one {number}": label for number, label in enumerate(truth)}) == 6
    for version, classes in answered.items():
        counted = asking.statistics("iris", version=version)[0]["modelway"]
        right = sum(one == other for one, other in zip(classes, truth, strict=True))
        assert (counted["labelled"], counted["correct"]) == (12, 2 * right)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "Input should be an object"),
        (b'{"labels": [{"id": "a"}]}', "labels.0.label: Field required"),
        (b'{"labels": [{"id": "a", "label": "cat"}]}', "labels.0.label"),
        (b'{"labels": [{"id": 4, "label": 1}]}', "labels.0.id: Input should be a valid string"),
    ],
)
def test_labels_that_are_none_are_refused_and_nothing_is_counted(
    fresh: RunningServer, asking: InferenceClient, body: bytes, reason: str
) -> None:
    asking.infer("iris", {"x": SAMPLES[:1]}, request_id="a")
    refusal = httpx.post(f"{fresh.url}/v2/models/iris/labels", content=body)
    assert refusal.status_code == 400
    assert reason in refusal.json()["error"]
    assert asking.statistics("iris", version="1")[0]["modelway"]["labelled"] == 0
    assert asking.tell_labels("iris", {"a": 1}) == 1
    assert httpx.post(f"{fresh.url}/v2/models/other/labels", json={"labels": []}).status_code == 404


def test_counters_belong_to_an_engine_under_a_version(
    tmp_path: Path, engines: dict[str, Path], config_for: Callable[..., ServerConfig]
) -> None:
    first = served("iris", "v1", engines["first"])
    candidate = served("iris", "v2", engines["second"], role="candidate")
    config = config_for(tmp_path, first, candidate)
    service = Service(config, token="t")  # noqa: S106 - guards nothing here

    def counted() -> dict[str, int]:
        return {one["version"]: one["modelway"]["requests"] for one in service.statistics("iris")}

    async def roll_out() -> list[dict[str, int]]:
        found = []
        for generation, versions in enumerate(
            [
                (first, candidate),
                (
                    first.model_copy(update={"share": 0.5}),
                    candidate.model_copy(update={"role": "canary", "share": 0.5}),
                ),
                (served("iris", "v1", engines["second"]),),
            ],
            start=7,
        ):
            list_models(config, *versions, generation=generation)
            await service.load("iris", "t")
            for address in service.catalog.numbers_of("iris"):
                asked = InferenceRequest(None, {"x": SAMPLES}, (WantedOutput("probabilities", binary=True),))
                await service.answer(service.named("iris", address), asked)
            found.append(counted())
        return found

    asked = asyncio.run(roll_out())
    service.close()
    # The probe of a candidate is none of the canary's requests, and v1 with another engine is another thing.
    assert asked == [{"1": 1, "candidate": 1}, {"1": 2, "2": 1}, {"1": 1}]


def _remembered(classes: AnsweredClasses, name: str, found: list[int]) -> Counters:
    counters = Counters()
    classes.remember("m", name, counters, {"class": np.array(found)})
    return counters


def _told(**labels: int | list[int]) -> Labels:
    return Labels(labels=[Label(id=name, label=label) for name, label in labels.items()])


def test_only_the_last_requests_are_known_and_only_so_many_samples() -> None:
    classes = AnsweredClasses(max_requests=3, max_samples=10)
    for name in ("a", "b", "c", "d"):
        _remembered(classes, name, [1])
    assert classes.tell("m", _told(a=1, b=1)) == 1
    _remembered(classes, "large", list(range(9)))
    assert classes.tell("m", _told(c=1)) == 0
    assert classes.tell("m", _told(d=1, large=list(range(9)))) == 2
    _remembered(classes, "larger", list(range(11)))
    assert classes.tell("m", _told(larger=list(range(11)))) == 0


def test_an_id_that_comes_again_stands_for_its_last_answer() -> None:
    classes = AnsweredClasses()
    counters = Counters()
    for answered in (1, 2):
        classes.remember("m", "a", counters, {"class": np.array([answered])})
    assert classes.tell("m", _told(a=[1, 2])) == 0  # it had one sample
    assert classes.tell("m", _told(a=2)) == 1
    assert (counters.labelled, counters.correct) == (1, 1)
    assert classes.tell("other", _told(a=2)) == 0


def test_classes_are_read_from_whole_numbers_or_from_the_one_output_of_scores() -> None:
    scores = np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)

    def read(**outputs: Any) -> list[int] | None:
        found = classes_in(outputs)
        return None if found is None else found.tolist()

    assert read(scores=scores) == [1, 0]
    assert read(label=np.array([3, 4]), scores=scores) == [3, 4]
    assert read(label=np.array([[3], [4]], np.int32)) == [3, 4]
    assert read(one=scores, two=scores) is None
    assert read(number=np.array([0.5, 0.7])) is None
    assert read(boxes=np.zeros((2, 3, 4))) is None
    assert read(none=np.zeros((2, 0))) is None
