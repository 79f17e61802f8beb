"""Makes golden registries: small ones that a release has written, which every later release must read.

    python tests/golden/make.py FOLDER [SCENE...]     writes the scenes into a new folder, each with expected.json

What is committed is never edited and never made again: a release that writes otherwise adds a folder beside it. Clock
and ids are fixed, so that a scene can be made twice and compared.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typing_extensions import override

from registry import (
    FileModelStore,
    Guard,
    IncumbentRule,
    MetricRequirement,
    ModelRegistry,
    ModelStage,
    PromotionPolicy,
)
from registry.artifacts import entry_of, manifest_of
from registry.encoding import canonical_json, digest_of, readable_json
from registry.endpoints.desired import (
    Desired,
    EndpointEvent,
    EndpointMachine,
    EndpointState,
    Failed,
    Observed,
    SeenPart,
    Share,
    Stopped,
    Wanted,
)
from registry.endpoints.serving import RunningServer
from registry.endpoints.settings import LocalSettings, TritonSettings, VertexSettings
from registry.endpoints.wanting import plan_failed, plan_served
from registry.engines.judgement import JudgedOn, JudgedSamples, Judgement, Pivot, judgement_name
from registry.engines.key import engine_key
from registry.engines.records import Interval, Latency, Parity, VariantReport
from registry.engines.signatures import EngineSigner, signed
from registry.errors import ModelNotFoundError
from registry.events import DeployedAt, VariantAdded, VariantChosen
from registry.guard import EndpointNamed, RootMachine
from registry.log import EventLog, Snapshot
from registry.machine import ModelMachine
from registry.records import EngineChoice, FileEntry, Manifest, Variant
from registry.signature import Signature, TensorSpec
from registry.signing import payload, public_of, sign

ADA, GRACE, LIN = "ada@example.com", "grace@example.com", "lin@example.com"
DATA = "sha256:" + "da" * 32

BY_HAND = runpy.run_path(str(Path(__file__).with_name("by_hand.py")))

Scene = Callable[[Path], None]


class PowerCut(BaseException):
    """The process ends here; no clean-up runs on the registry."""


class FragileStore(FileModelStore):
    """A folder whose writer dies before it writes the first key that ends in ``dies_at``."""

    dies_at = "\0"

    @override
    def create(self, key: str, data: bytes) -> None:
        if key.endswith(self.dies_at) or self.dies_at in data.decode(errors="replace"):
            raise PowerCut
        super().create(key, data)

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        if key.endswith(self.dies_at):
            raise PowerCut
        super().upload(key, chunks)


@contextmanager
def fixed_clock_and_ids() -> Iterator[None]:
    """Let time go on by a minute and a bit at each look, and ids be counted."""
    looks, ids = iter(range(10_000)), iter(range(1, 10_000))

    def now() -> datetime:
        return datetime(2026, 1, 5, 9, tzinfo=UTC) + next(looks) * timedelta(seconds=61, milliseconds=250)

    def new_id() -> uuid.UUID:
        return uuid.UUID(int=next(ids))

    with patch("registry.clock.now", now), patch("uuid.uuid4", new_id):
        yield


def worked_example(folder: Path) -> None:
    """The registry that docs/format.md shows byte by byte."""
    models = ModelRegistry(folder, actor=ADA)
    models.register("digits", b"hello\n", metrics={"accuracy": 0.97}, tags=["baseline"])
    models.promote("digits", 1, "production", reason="the first one")


def basic(folder: Path) -> None:
    """Every plain verb: a folder, a file, bytes and nothing as artifacts, moves, ways back, aliases, annotations."""
    models = ModelRegistry(folder, actor=ADA)
    with tempfile.TemporaryDirectory() as source:
        _plain_verbs(models, Path(source))


def _plain_verbs(models: ModelRegistry, source: Path) -> None:
    for name, text in {"weights.bin": "\x00\x01\x02", "vocabulary/words.txt": "eins\nzwei\n", "Z.txt": "ä"}.items():
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    models.register(
        "digits",
        source,
        metrics={"accuracy": 0.91, "latency_ms": 2.5, "top_5": 0.995, "loss": float("nan")},
        parameters={"layers": [3, 3], "rate": 0.001, "name": "größer"},
        tags={"team": "vision", "baseline": ""},
        description="The first one.",
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(-1, 28, 28)),),
            outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 10)),),
        ),
        lineage={"data": DATA, "revision": "0123abc"},
        framework="custom",
    )
    models.register("digits", source / "weights.bin", metrics={"accuracy": 0.93}, idempotency_key="run-1/register")
    models.register("digits", b"third", metrics={"accuracy": 0.95})
    models.register("digits", metrics={"accuracy": 0.96}, description="Metadata only.")
    models.promote("digits", 1, "validation", reason="looks good", idempotency_key="run-1/promote")
    models.promote("digits", 1, "production", actor=GRACE)
    models.annotate("digits", 2, metrics={"accuracy": 0.94, "top_5": 0.99}, measured_on=DATA, idempotency_key="e-1")
    models.annotate("digits", 2, tags={"reviewed": "yes"}, description="Measured again.")
    models.promote("digits", 2, "production", expect_current=1)
    models.promote("digits", 3, "production")
    models.set_alias("digits", "champion", 3)
    models.set_alias("digits", "canary", 2)
    models.set_alias("digits", "champion", 2, expect=3)
    models.rollback("digits", reason="v3 is slow", idempotency_key="run-2/rollback")
    models.annotate("digits", 2, metrics={"accuracy": 0.945})
    models.archive("digits", 4, reason="of no use")
    models.restore("digits", 4)
    models.register("house-prices", b"42", version="v7", metrics={"mae": 12, "rmse": 1e-05})


def guarded(folder: Path) -> None:
    """A guard with a policy, approvals asked, given, rejected and asserted, and the guard changed under a model."""
    models = ModelRegistry(folder, actor=ADA)
    policy = PromotionPolicy().require_metric(MetricRequirement("accuracy", threshold=0.9))
    policy = policy.not_worse_than_incumbent(IncumbentRule(metric="accuracy", may_drop=0.02))
    guard = Guard(
        require_approval=(ModelStage.PRODUCTION,),
        approvers=("*@example.com",),
        accept_asserted=True,
        policies={ModelStage.PRODUCTION: policy},
    )
    models.register("digits", b"one", metrics={"accuracy": 0.95})
    models.set_guard(guard)
    models.register("digits", b"two", metrics={"accuracy": 0.96})
    asked = models.request_approval("digits", 1, "production", expires_in=timedelta(days=2), idempotency_key="ask-1")
    models.answer_approval("digits", asked.id, "approve", approver=GRACE, reason="fine", method="form")
    models.promote("digits", 1, "production", approval=asked)
    models.promote("digits", 2, "staging")
    asked = models.request_approval("digits", 2, "production", idempotency_key="ask-2")
    models.answer_approval("digits", asked.id, "reject", approver=GRACE, reason="not on a Friday")
    models.promote("digits", 2, "production", approved_by=GRACE, reason="on Monday then")
    models.set_guard(guard.model_copy(update={"strict_path": True, "approvers": ("*@example.com", "*@example.org")}))


def runs(folder: Path) -> None:
    """Runs that ended in several ways, were taken over and are open; two people who sign, and answers refused."""
    private, public = _key(b"1"), public_of(_key(b"1"))
    models = ModelRegistry(folder, actor=ADA)
    models.begin_run("digits", "run-1", kind="lifecycle", process="here:7:1.00", parameters={"config": "digits.yaml"})
    models.register("digits", b"one", idempotency_key="run-1:register")
    models.begin_run("digits", "run-1", kind="lifecycle", holder="run-2", taken_from="run-1", deployment="lifecycle/a")
    models.begin_run("digits", "run-1", kind="lifecycle", holder="run-2", process="here:8:2.00")
    asked = models.request_approval("digits", 1, "production", idempotency_key="run-1:ask-1")
    models.refuse_answer("digits", asked.id, approver="", why="nothing was filled in", number=0)
    guard = Guard(
        require_approval=(ModelStage.PRODUCTION,),
        approvers=(GRACE, LIN),
        min_approvals=2,
        signers={GRACE: public, LIN: public},
    )
    models.set_guard(guard)
    for who in (GRACE, LIN):
        signed = payload(asked.registry, asked, decision="approve", approver=who, reason="fine")
        models.answer_approval(
            "digits", asked.id, "approve", approver=who, reason="fine", signature=sign(private, signed)
        )
    models.promote("digits", 1, "production", approval=asked)
    models.end_run("digits", "run-1", "deployed", holder="run-2", version=1, words="it answers")
    for number in range(3, 106):
        models.begin_run("digits", f"run-{number}", kind="retraining", reason="drift")
        if number != 50:
            models.end_run("digits", f"run-{number}", "not_better", words="by 0.001")
    models.begin_run("nothing-yet", "run-a", kind="lifecycle", version="v1")
    models.set_guard(guard.model_copy(update={"min_approvals": 1, "accept_asserted": True}))


def _key(letter: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.from_private_bytes(letter * 32)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def semantic(folder: Path) -> None:
    """Semantic labels of all kinds, one deleted, one used again after it was given up, aliases that came and went."""
    store = FragileStore(folder)
    models = ModelRegistry(store=store, actor=ADA)
    for label in ("1.0.0", "v1.1.0", "2.0.0-rc.1"):
        models.register("faces", label.encode(), version=label)
    models.register("faces", b"bumped", bump="minor")
    models.set_alias("faces", "stable", "1.1.0")
    models.set_alias("faces", "old", "1.0.0")
    models.promote("faces", "1.0.0", "production")
    models.promote("faces", "1.1.0", "production")
    models.delete_alias("faces", "old")
    models.delete_version("faces", "1.0.0", reason="trained on the wrong data")
    store.dies_at = "/metadata.json"
    with suppress(PowerCut):
        models.register("faces", b"half", version="2.1.0+cpu", idempotency_key="run-3")
    store.dies_at = "\0"
    models.register("faces", b"other bytes", version="2.1.0+cpu", idempotency_key="run-3")
    models.set_alias("faces", "next", "2.1.0")
    models.register("faces", b"gone at once", bump="major")
    models.set_alias("faces", "brief", "3.0.0")
    models.delete_version("faces", "3.0.0", force=True)


def long_logs(folder: Path) -> None:
    """Logs with several checkpoints, of the registry and of a model."""
    models = ModelRegistry(folder, actor=ADA)
    for turn in range(18):
        models.set_guard(Guard(strict_path=turn % 2 == 0))
    for number in range(1, 9):
        models.register("digits", f"model {number}".encode(), metrics={"accuracy": 0.9 + number / 100})
    for turn in range(16):
        models.set_alias("digits", "canary", 1 + turn % 8)
    for number in range(1, 9):
        models.promote("digits", number, "production")
    for _ in range(3):
        models.rollback("digits")
    for number in range(1, 9):
        models.annotate("digits", number, metrics={"f1_score": number / 10})


def engines(folder: Path) -> None:
    """A version with two variants, one chosen, and two endpoints; what builds and serves them is not part of it."""
    models = ModelRegistry(folder, actor=ADA)
    models.register("digits", b"an onnx file", version=1)
    models.register("digits", b"another", version=2)
    models.promote("digits", 1, "production")
    log = EventLog(models.store, "models/digits/", ModelMachine())
    first = _variant(models, log, "fp32", p50_ms=1.0)
    second = _variant(models, log, "int8", p50_ms=0.4)
    baseline = (Latency(batch=1, repetitions=100, p50_ms=2.0, p95_ms=2.5, p99_ms=3.0, samples_per_s=500.0),)
    choice = EngineChoice(key=second, reason="5.0 times as fast", speedup=5.0, baseline=baseline, baseline_score=0.97)
    log.append(lambda _: VariantChosen(version="1", choice=choice), actor=ADA)
    root = EventLog(models.store, "", RootMachine())
    for name in ("main", "spare"):
        root.append(lambda _, name=name: EndpointNamed(endpoint=name), actor=ADA)  # type: ignore[misc]
    metadata = {one.version: one.metadata_digest for one in models.list_versions("digits")}
    wanted = Desired(model="digits", version="v1", metadata_digest=metadata["v1"], variant=first)
    other = Desired(model="digits", version="v2", metadata_digest=metadata["v2"], why="it is newer")
    main = EventLog(models.store, "endpoints/main/", EndpointMachine())
    for event in (
        Wanted(desired=wanted, key="run-4/deploy"),
        Wanted(desired=other),
        Failed(generation=2, reason="it did not answer"),
        *(Wanted(desired=other if turn % 2 else wanted) for turn in range(6)),
        Failed(generation=4, reason="it was never brought up"),
        *(Wanted(desired=other if turn % 2 else wanted) for turn in range(8)),
    ):
        main.append(lambda _, event=event: event, actor=ADA)  # type: ignore[misc]
    spare = EventLog(models.store, "endpoints/spare/", EndpointMachine())
    spare.append(lambda _: Wanted(desired=wanted, key="run-5/deploy"), actor=ADA)
    spare.append(lambda _: Stopped(reason="night"), actor=ADA)
    log.append(lambda _: DeployedAt(version="2", endpoint="main", generation=18), actor=ADA)
    server = RunningServer(
        pid=1, create_time=1.5, url="http://127.0.0.1:9", instance="f" * 32, log_path=Path("main.log")
    )
    parity = Parity(samples=5, max_abs=1e-06, max_rel=1e-05, cosine=1.0, top1_agreement=1.0, passed=True)
    seen = Observed(
        endpoint="main",
        generation=18,
        desired=other,
        engine="onnxruntime",
        server=server,
        host="serving.example.com",
        golden=parity,
        since=datetime(2026, 1, 5, 12, tzinfo=UTC),
    )
    models.store.replace("endpoints/main/observed.json", readable_json(seen))


def judged(folder: Path) -> None:
    """A registry that takes only signed engines, one that is signed, and the evidence of two choices."""
    models = ModelRegistry(folder, actor=ADA)
    signer = EngineSigner(GRACE, _key(b"2"))
    models.set_guard(Guard(signers={GRACE: public_of(signer.private_pem)}, signed_engines=True))
    models.register("digits", b"an onnx file", version=1)
    log = EventLog(models.store, "models/digits/", ModelMachine())
    key = _variant(models, log, "int8", p50_ms=0.4, signer=signer)
    (report,) = (one.report for one in models.get_variants("digits", 1))
    baseline = (
        Latency(batch=1, repetitions=9, p50_ms=2.0, p95_ms=2.5, p99_ms=3.0, samples_per_s=500.0, spread_ms=0.1),
    )
    for chosen, reason in ((None, "the original stays"), (key, "5.0 times as fast")):
        picture = f"a picture of {reason}".encode()
        evidence = Judgement(
            model="digits",
            version="v1",
            at=datetime(2026, 1, 5, 12, tzinfo=UTC),
            by=ADA,
            machine=JudgedOn(os="linux", arch="x86_64", processor="a processor", cores=2, memory_bytes=1 << 34),
            spec={"engines": ["onnxruntime-int8"]},
            onnx=Pivot(sha256="ab" * 32, opset=20, ir_version=10, files=("model.onnx",), parity=report.parity),
            samples=JudgedSamples(count=5, source="given", digest="sha256:" + "cd" * 32),
            baseline=baseline,
            baseline_score=0.97,
            baseline_interval=Interval(low=0.95, high=0.99, confidence=0.95),
            candidates=(report,),
            chosen=chosen,
            reason=reason,
            manifest=manifest_of([entry_of("pareto.png", picture)]),
        )
        data = readable_json(evidence)
        place = f"models/digits/versions/v1/variants/{judgement_name(digest_of(data))}"
        models.store.create(f"{place}/pareto.png", picture)
        models.store.create(f"{place}/judgement.json", data)
        choice = EngineChoice(key=chosen, reason=reason, baseline=baseline, judgement=digest_of(data))
        log.append(lambda _, choice=choice: VariantChosen(version="1", choice=choice), actor=ADA)  # type: ignore[misc]
    models.set_alias("digits", "canary", 1)


def _variant(
    models: ModelRegistry,
    log: EventLog[Any, Any],
    precision: str,
    *,
    p50_ms: float,
    signer: EngineSigner | None = None,
) -> str:
    data = f"an engine in {precision}".encode()
    fields = {"engine": "onnxruntime", "onnx_sha256": "ab" * 32, "precision": precision, "threads": 1}
    key = engine_key(fields)
    folder = f"models/digits/versions/v1/variants/{key}"
    entry = FileEntry(path="model.onnx", sha256=digest_of(data), size_bytes=len(data))
    listed = digest_of(canonical_json([entry.model_dump(mode="json")]))
    report = VariantReport(
        key=key,
        key_fields=fields,
        engine="onnxruntime",
        file="model.onnx",
        status="measured",
        parity=Parity(samples=5, max_abs=1e-06, max_rel=1e-05, cosine=1.0, passed=True),
        latency=(Latency(batch=1, repetitions=9, p50_ms=p50_ms, p95_ms=3.0, p99_ms=3.5, samples_per_s=900.0),),
        size_bytes=len(data),
        build_s=0.25,
    )
    variant = Variant(report=report, manifest=Manifest(digest=listed, size_bytes=len(data), files=(entry,)))
    metadata = readable_json(signed(variant, "digits", "v1", signer))
    models.store.create(f"{folder}/model.onnx", data)
    models.store.create(f"{folder}/metadata.json", metadata)
    log.append(lambda _: VariantAdded(version="1", key=key, digest=digest_of(metadata)), actor=ADA)
    return key


@dataclass(frozen=True)
class Rolling:
    """An endpoint that is rolled out without anything that serves: the plans of the registry decide what is written."""

    models: ModelRegistry
    name: str

    @property
    def log(self) -> EventLog[EndpointState, EndpointEvent]:
        return EventLog(self.models.store, f"endpoints/{self.name}/", EndpointMachine())

    def want(self, desired: Desired, key: str | None = None) -> None:
        def decide(known: Snapshot[EndpointState]) -> Wanted:
            return Wanted(desired=desired, previous=known.state.generation, key=key)

        self.log.append(decide, actor=ADA)

    def serve(self, at: RunningServer | str, *, checked: bool = True, **seen: Any) -> None:
        """Let what is wanted serve, as a process or at an address: observed.json, the log, and the model's log."""
        state = self.log.read().state
        assert state.desired is not None
        golden = Parity(samples=5, max_abs=1e-06, max_rel=1e-05, cosine=1.0, top1_agreement=1.0, passed=True)
        parts = tuple(
            SeenPart(
                role=role,
                version=share.version,
                share=share.share,
                engine="onnxruntime-int8" if share.variant else "onnxruntime",
                digest=hashlib.sha256(share.version.encode()).hexdigest() if checked else "",
                golden=golden if checked else None,
            )
            for role, share in state.desired.shares()
        )
        server = at if isinstance(at, RunningServer) else None
        observed = Observed(
            endpoint=self.name,
            generation=state.generation,
            desired=state.desired,
            engine=parts[0].engine,
            why_engine=state.desired.why_engine,
            server=server,
            host="serving.example.com",
            golden=parts[0].golden,
            since=datetime(2026, 1, 5, 12, tzinfo=UTC),
            address=at.url if isinstance(at, RunningServer) else at,
            grpc=seen.pop("grpc", None if server is None else server.grpc),
            model_name=seen.pop("model_name", state.desired.model),
            parts=parts,
            **seen,
        )
        self.models.store.replace(f"endpoints/{self.name}/observed.json", readable_json(observed))
        self.log.append(lambda known: plan_served(known.state, observed), actor=GRACE)
        models = EventLog(self.models.store, f"models/{state.desired.model}/", ModelMachine())
        for part in parts:
            deployed = DeployedAt(version=part.version[1:], endpoint=self.name, generation=state.generation)
            models.append(lambda _, deployed=deployed: deployed, actor=GRACE)  # type: ignore[misc]

    def fail(self, generation: int, reason: str) -> None:
        self.log.append(lambda known: plan_failed(known.state, generation, reason), actor=GRACE)

    def stop(self, reason: str) -> None:
        self.log.append(lambda _: Stopped(reason=reason), actor=ADA)
        self.models.store.delete(f"endpoints/{self.name}/observed.json")


def rolled_out(folder: Path) -> None:
    """Endpoints of each kind of target, with canary and shadow: what served, failed, came back and was stopped."""
    models = ModelRegistry(folder, actor=ADA)
    for number in (1, 2, 3):
        models.register("digits", f"the onnx file {number}".encode(), version=number)
    key = _variant(models, EventLog(models.store, "models/digits/", ModelMachine()), "int8", p50_ms=0.4)
    models.promote("digits", 1, "production")
    models.set_alias("digits", "next", 2)
    root = EventLog(models.store, "", RootMachine())
    for name in ("main", "triton", "vertex", "night", "never"):
        root.append(lambda _, name=name: EndpointNamed(endpoint=name), actor=ADA)  # type: ignore[misc]
    metadata = {one.version: one.metadata_digest for one in models.list_versions("digits")}
    stable = Desired(
        model="digits",
        version="v1",
        metadata_digest=metadata["v1"],
        variant=key,
        why_engine="5.0 times as fast",
        follows="production",
    )
    second, third = (Share(version=label, metadata_digest=metadata[label], share=0.1) for label in ("v2", "v3"))
    plain = Desired(model="digits", version="v2", metadata_digest=metadata["v2"], why="it is newer", follows="next")
    _local_roll_outs(Rolling(models, "main"), stable, plain, (second, third))
    _remote_roll_outs(models, stable, plain, second)
    night, never = Rolling(models, "night"), Rolling(models, "never")
    night.want(plain, key="run-5/deploy")
    night.serve(_process("night"))
    night.want(stable)
    night.stop("nobody asks")
    night.want(plain)
    night.fail(5, "it did not answer")
    never.want(plain)
    never.fail(1, "its engine cannot be opened")
    models.begin_run("digits", "run-6", kind="canary", version=2)
    models.end_run(
        "digits", "run-6", "taken_back", version=2, words="3 of its 100 requests failed (3.0%, at most 1.0%)"
    )


def _local_roll_outs(main: Rolling, stable: Desired, plain: Desired, beside: tuple[Share, Share]) -> None:
    """Write 19 generations and what became of them: the last is not brought up yet, the one before it serves."""
    second, third = beside
    tuned = LocalSettings(port=8080, max_batch=8, max_delay_ms=2.5, timeout_s=1.5, log_share=0.05)
    half = third.model_copy(update={"share": 0.5})
    both = stable.model_copy(update={"canary": half, "shadow": second, "settings": tuned, "why": "with a shadow"})
    process = _process("main", grpc="127.0.0.1:9001")
    for why, desired in (
        ("", stable),
        ("canary 10%", stable.model_copy(update={"canary": second})),
        ("canary 50%", stable.model_copy(update={"canary": second.model_copy(update={"share": 0.5})})),
        ("taken back: 3 of its 100 requests failed", stable),
        ("to see what it answers", stable.model_copy(update={"shadow": third})),
    ):
        main.want(desired.model_copy(update={"why": why}), key=None if why else "run-6/deploy")
        main.serve(process)
    main.want(plain)
    main.want(stable.model_copy(update={"version": "v3", "metadata_digest": third.metadata_digest, "variant": None}))
    main.fail(11, "generation 12 was wanted before it served")
    main.fail(12, "v3 answers its golden samples otherwise")
    main.want(both, key="run-6/deploy-both")
    main.want(plain.model_copy(update={"settings": tuned}))
    main.fail(16, "it did not answer")
    main.serve(process)
    main.want(plain.model_copy(update={"follows": None, "why": "pinned"}))


def _remote_roll_outs(models: ModelRegistry, stable: Desired, plain: Desired, second: Share) -> None:
    """Write what serves on Triton, with a canary and without, and on Vertex AI, to which an endpoint moved."""
    triton, vertex = Rolling(models, "triton"), Rolling(models, "vertex")
    server = TritonSettings(
        repository="s3://models/triton",
        grpc="triton.example.com:8001",
        http="triton.example.com:8000",
        model_name="digits-eu",
        device="gpu",
        compute_capability="8.0",
        tensorrt_version="10.13.3",
    )
    there = {"target": "triton", "settings": server}
    where = {"repository": "s3://models/triton/digits-eu", "shares": '{"digits-eu/1": 0.9, "digits-eu/2": 0.1}'}
    for desired in (stable, stable.model_copy(update={"canary": second})):
        triton.want(desired.model_copy(update=there))
        triton.serve(f"http://{server.http}", grpc=server.grpc, model_name="digits-eu", resources=where)
    triton.want(plain.model_copy(update={"target": "triton", "settings": TritonSettings(repository="gs://models/t")}))
    triton.fail(5, "no server answers at 127.0.0.1:8001")
    vertex.want(plain)
    vertex.serve(_process("vertex"))
    place = VertexSettings(
        project="a-project", region="europe-west4", staging="gs://models/vertex", accelerator_type="NVIDIA_TESLA_T4",
        accelerator_count=1, max_replicas=3, service_account="serving@a-project.iam.gserviceaccount.com",
    )  # fmt: skip
    vertex.want(stable.model_copy(update={"target": "vertex", "settings": place, "canary": second}))
    name = "projects/1/locations/europe-west4/endpoints/2"
    names = {"endpoint": name}
    for version, deployed in (("v1", "7"), ("v2", "8")):
        names[f"model:{version}"] = f"projects/1/locations/europe-west4/models/3@{version[1:]}"
        names[f"deployed:{version}"] = deployed
    vertex.serve(f"https://vertex.example.com/v1/{name}:rawPredict", checked=False, resources=names)


def _process(name: str, grpc: str | None = None) -> RunningServer:
    return RunningServer(
        pid=1, create_time=1.5, url="http://127.0.0.1:9", instance="f" * 32, log_path=Path(f"{name}.log"), grpc=grpc
    )


def crashed(folder: Path) -> None:
    """Registrations whose process died at each step; a retry with the same key must finish them."""
    store = FragileStore(folder)
    ModelRegistry(store=store, actor=ADA).register("digits", b"one")
    for name, step in {
        "digits": {"reserved": "/artifact.bin", "uploaded": "/metadata.json", "described": '"type":"registered"'},
        "faces": {"named": '"type":"registered"'},
        "houses": {"reserved": "/artifact.bin"},
    }.items():
        for key, dies_at in step.items():
            store.dies_at = dies_at
            with suppress(PowerCut):
                ModelRegistry(store=store, actor=ADA).register(name, key.encode(), idempotency_key=f"{name}-{key}")
    store.dies_at = "\0"
    ModelRegistry(store=store, actor=ADA).register("digits", b"five")


SCENES: dict[str, Scene] = {
    "worked-example": worked_example,
    "basic": basic,
    "guarded-with-approvals": guarded,
    "runs-and-signatures": runs,
    "semantic-with-deleted-and-aliases": semantic,
    "long-logs-with-checkpoints": long_logs,
    "variants-and-endpoints": engines,
    "judged-engines": judged,
    "rolled-out-endpoints": rolled_out,
    "crashed-registrations": crashed,
    "unknown-fields": BY_HAND["unknown_fields"],
    "unknown-settings": BY_HAND["unknown_settings"],
}
REFUSALS: dict[str, Scene] = {"refused": BY_HAND["refused"], "refused-endpoints": BY_HAND["refused_endpoints"]}


def say(models: ModelRegistry) -> dict[str, Any]:
    """Return what the verbs that look say of a whole registry, as JSON and without the place where it lies."""
    names = models.list_models()
    versions = {name: _or_nothing(lambda name=name: models.list_versions(name)) for name in names}  # type: ignore[misc]
    there = [name for name in names if versions[name]]
    each = [(name, one.version) for name in there for one in versions[name]]
    stages = ("development", "validation", "staging", "production", "archived")
    said = {
        "id": models.identity.id,
        "guard": _plain(models.guard),
        "models": names,
        "versions": {name: [_plain(one) for one in found] for name, found in versions.items()},
        "latest": {name: models.get_model_metadata(name).version for name in there},
        "production": {name: _label(models.get_production_model(name)) for name in there},
        "by_stage": {stage: [one.full_name for one in models.get_by_stage(stage)] for stage in stages},
        "transitions": {name: [_plain(one) for one in models.get_transitions(name)] for name in there},
        "production_then": {name: _holders(models, name) for name in there},
        "sidecars": {f"{name}:{label}": _plain(models.get_sidecar(name, label)) for name, label in each},
        "variants": {
            f"{name}:{label}": [_plain(one) for one in models.get_variants(name, label)] for name, label in each
        },
        "choices": {f"{name}:{label}": _plain(models.get_choice(name, label)) for name, label in each},
        "endpoints": [_plain(one) for one in models.list_endpoints()],
        "history": {
            one.name: [_plain(entry, "words") for entry in models.get_endpoint_history(one.name)]
            for one in models.list_endpoints()
        },
        "runs": {name: [_plain(run) for run in models.get_runs(name)] for name in names},
    }
    plain: dict[str, Any] = json.loads(json.dumps(said))
    return plain


def _holders(models: ModelRegistry, name: str) -> list[str | None]:
    """Return who held production right after each change of stage."""
    return [_label(models.get_production_model(name, at=moved.timestamp)) for moved in models.get_transitions(name)]


def _label(version: Any) -> str | None:
    return None if version is None else version.version


def _or_nothing(look: Callable[[], list[Any]]) -> list[Any]:
    try:
        return look()
    except ModelNotFoundError:
        return []


def _plain(record: Any, *but: str) -> dict[str, Any]:
    plain: dict[str, Any] = record.model_dump(mode="json", exclude={"artifact_path", *but})
    return plain


def make(name: str, folder: Path) -> None:
    """Write one scene into a new folder, with ``expected.json`` beside it."""
    place = folder / name
    place.mkdir(parents=True)
    with fixed_clock_and_ids():
        SCENES[name](place / "registry")
    said = say(ModelRegistry(place / "registry", actor=ADA))
    expected = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    (place / "expected.json").write_text(expected, encoding="utf-8")


if __name__ == "__main__":
    for asked in sys.argv[2:] or [*SCENES, *REFUSALS]:
        if asked in REFUSALS:
            REFUSALS[asked](Path(sys.argv[1]))
        else:
            make(asked, Path(sys.argv[1]))
