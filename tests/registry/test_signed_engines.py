"""Opening engines: the best one that fits, none that was changed, and only signed ones where the registry asks so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_network

from registry import Guard, ModelRegistry, OptimizeSpec
from registry.endpoints.client import InferenceClient
from registry.endpoints.desired import Wanted
from registry.engines.key import engine_key, this_machine
from registry.errors import EndpointError, IntegrityError, InvalidInputError, RefusedError
from registry.signing import generate

pytestmark = pytest.mark.heavy  # processes and stores of their own: seconds each

INPUTS = small_network.samples()
ONE = OptimizeSpec(engines=("onnxruntime",), batch_sizes=(1,), warmup=1, repetitions=5)
# Weights drawn at random leave many samples between two classes.
INT8 = OptimizeSpec(engines=("onnxruntime-int8",), batch_sizes=(1,), warmup=1, repetitions=5, min_agreement=0.9)
ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture
def net(on_disk: ModelRegistry) -> ModelRegistry:
    """Return a registry with a small network, v1 of ``net``, and the samples kept with it."""
    on_disk.register("net", model=small_network.network(), samples=INPUTS[:32])
    return on_disk


@pytest.fixture
def keys() -> dict[str, tuple[bytes, str]]:
    """Return a private and a public key of Ann's and of Bob's."""
    return {name: generate() for name in (ANN, BOB)}


@pytest.fixture
def guarded(net: ModelRegistry, keys: dict[str, tuple[bytes, str]]) -> ModelRegistry:
    """Return the registry, which takes only engines that Ann has signed."""
    net.set_guard(Guard(signers={ANN: keys[ANN][1]}, signed_engines=True))
    return net


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that any backend is asked to open."""
    from registry.engines.backends import onnxruntime

    seen: list[Path] = []
    real = onnxruntime.open_engine

    def note(file: Path, *rest: Any, **more: Any) -> Any:
        seen.append(file)
        return real(file, *rest, **more)

    monkeypatch.setattr(onnxruntime, "open_engine", note)
    return seen


def choose(registry: ModelRegistry, key: str | None) -> None:
    """Choose an engine, however fast it is on this machine."""
    from registry.events import VariantChosen
    from registry.records import EngineChoice

    chosen = VariantChosen(version="1", choice=EngineChoice(key=key, reason="it was chosen by this test"))
    registry._append_existing("net", lambda _: chosen)  # noqa: SLF001 - a measurement decides otherwise


def _only(registry: ModelRegistry) -> str:
    (variant,) = registry.get_variants("net", 1)
    return variant.key


def test_the_chosen_engine_is_opened_and_answers_as_the_model_does(net: ModelRegistry, opened: list[Path]) -> None:
    net.optimize("net", 1, spec=ONE, samples=INPUTS)
    choose(net, _only(net))
    engine = net.load_engine("net", 1)

    assert (engine.name, engine.key, engine.words) == ("onnxruntime", _only(net), "it was chosen by this test")
    assert len(opened) == 1
    np.testing.assert_allclose(engine(INPUTS), small_network.answers(INPUTS), rtol=1e-4, atol=1e-4)
    assert engine.metadata == net.get_version("net", 1)


def test_a_changed_byte_of_an_engine_is_found_before_it_is_opened(
    net: ModelRegistry, folder: Path, opened: list[Path]
) -> None:
    net.optimize("net", 1, spec=ONE, samples=INPUTS)
    choose(net, _only(net))
    file = folder / "models" / "net" / "versions" / "v1" / "variants" / _only(net) / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")

    with pytest.raises(IntegrityError) as caught:
        net.load_engine("net", 1)
    assert caught.value.file == str(file)
    assert opened == []


def test_an_engine_of_another_machine_is_not_opened_and_the_next_best_serves(
    net: ModelRegistry, foreign: Callable[..., str], opened: list[Path]
) -> None:
    net.optimize("net", 1, spec=ONE, samples=INPUTS)
    own = _only(net)
    key = foreign(net, os="plan9")
    choose(net, key)
    engine = net.load_engine("net", 1)

    assert engine.key == own
    assert "onnxruntime was chosen and cannot serve here: it was built for plan9 on x86_64, this is" in engine.words
    assert [file.parent.name for file in opened] != [key]
    assert len(opened) == 1


def test_where_no_engine_fits_the_plain_onnx_serves_and_it_is_said(
    net: ModelRegistry, foreign: Callable[..., str]
) -> None:
    key = foreign(net, version="0.1")
    choose(net, key)
    engine = net.load_engine("net", 1)
    assert engine.name == "onnxruntime"
    assert "it was built with onnxruntime 0.1, here is" in engine.words
    assert engine.words.endswith("no engine fits this machine, and the plain ONNX serves")
    np.testing.assert_allclose(engine(INPUTS), small_network.answers(INPUTS), rtol=1e-4, atol=1e-4)


@pytest.fixture
def foreign() -> Callable[..., str]:
    """Return what keeps an engine beside v1 whose key names another machine, and returns the key."""

    def keep(registry: ModelRegistry, *, engine: str = "onnxruntime", **changed: str) -> str:
        from registry import artifacts
        from registry.encoding import digest_of, readable_json
        from registry.events import VariantAdded
        from registry.records import Variant

        if not registry.get_variants("net", 1):
            registry.optimize("net", 1, spec=ONE, samples=INPUTS)
        made = registry.get_variants("net", 1)[0]
        fields = {**made.report.key_fields, **changed}
        key = engine_key(fields)
        report = made.report.model_copy(update={"key": key, "key_fields": fields, "engine": engine})
        place = f"models/net/versions/v1/variants/{key}"
        data = registry.store.read(f"models/net/versions/v1/variants/{made.key}/model.onnx")
        manifest = artifacts.upload(registry.store, place, artifacts.from_bytes(data, "model.onnx"), title="")
        sidecar = readable_json(Variant(report=report, manifest=manifest))
        registry.store.create(f"{place}/metadata.json", sidecar)
        added = VariantAdded(version="1", key=key, digest=digest_of(sidecar))
        registry._append_existing("net", lambda _: added)  # noqa: SLF001 - what another machine would do
        if changed.get("version"):
            _forget(registry, made.key)
        return key

    def _forget(registry: ModelRegistry, key: str) -> None:
        """Make the engine of this machine one that must not serve."""
        real = registry.get_variants
        registry.get_variants = lambda name, version: [  # type: ignore[method-assign]
            one for one in real(name, version) if one.key != key
        ]

    return keep


def test_an_engine_that_an_earlier_spec_refused_is_opened_once_a_later_one_has_chosen_it(net: ModelRegistry) -> None:
    strict = INT8.model_copy(update={"min_agreement": 1.0, "min_cosine": 1.0})
    net.optimize("net", 1, spec=strict, samples=INPUTS)
    (first,) = net.get_variants("net", 1)
    assert not first.report.is_fit
    net.optimize("net", 1, spec=INT8, samples=INPUTS)
    fitting = net.fit_engine("net", 1, needed=True)

    assert (fitting.key, fitting.engine) == (first.key, "onnxruntime-int8")
    assert net.get_variants("net", 1)[0].report == first.report, "it is the engine that was built then"
    net.optimize("net", 1, spec=strict, samples=INPUTS)
    assert net.fit_engine("net", 1, needed=True).key is None, "the last judgement counts"


def test_evidence_that_is_lost_keeps_no_version_from_serving(net: ModelRegistry, folder: Path) -> None:
    net.optimize("net", 1, spec=ONE, samples=INPUTS)
    before = net.fit_engine("net", 1, needed=True)
    (evidence,) = folder.rglob("judgement.json")
    evidence.unlink()
    assert net.fit_engine("net", 1, needed=True) == before
    assert [finding.what for finding in net.verify().findings] == ["missing"]


# --------------------------------------------------------------------------------------------------------- signatures
def test_a_registry_that_asks_for_signatures_builds_nothing_without_a_key(guarded: ModelRegistry, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(
        RefusedError, match=r"takes only signed engines: give a signer's key, by --key FILE or MODELWAY"
    ):
        guarded.optimize("net", 1, spec=ONE, samples=INPUTS)
    assert sorted(folder.rglob("*")) == before


def test_a_signed_engine_is_opened(guarded: ModelRegistry, keys: dict[str, tuple[bytes, str]]) -> None:
    guarded.optimize("net", 1, spec=ONE, samples=INPUTS, signing_key=keys[ANN][0])
    choose(guarded, _only(guarded))
    (variant,) = guarded.get_variants("net", 1)
    assert variant.signer == ANN
    assert guarded.load_engine("net", 1).key == variant.key


def test_the_key_may_stand_in_the_environment(
    guarded: ModelRegistry, keys: dict[str, tuple[bytes, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_SIGNING_KEY", str(tmp_path / "key.pem"))
    with pytest.raises(InvalidInputError, match=r"MODELWAY_SIGNING_KEY names .*key.pem, which cannot be read: No such"):
        guarded.optimize("net", 1, spec=ONE, samples=INPUTS)
    (tmp_path / "key.pem").write_bytes(keys[ANN][0])
    guarded.optimize("net", 1, spec=ONE, samples=INPUTS)
    assert [one.signer for one in guarded.get_variants("net", 1)] == [ANN]


def test_the_key_of_somebody_else_signs_nothing(guarded: ModelRegistry, keys: dict[str, tuple[bytes, str]]) -> None:
    with pytest.raises(InvalidInputError, match=f"is none of the registry's signers, who are: {ANN}"):
        guarded.optimize("net", 1, spec=ONE, samples=INPUTS, signing_key=keys[BOB][0])
    assert guarded.get_variants("net", 1) == []


@pytest.mark.parametrize("how", ["unsigned", "by somebody whom the guard does not name", "of another engine"])
def test_an_engine_without_a_signature_that_holds_is_refused_before_it_is_opened(
    net: ModelRegistry, keys: dict[str, tuple[bytes, str]], opened: list[Path], how: str
) -> None:
    net.set_guard(Guard(signers={ANN: keys[ANN][1], BOB: keys[BOB][1]}))
    key = None if how == "unsigned" else keys[BOB][0]
    net.optimize("net", 1, spec=ONE, samples=INPUTS, signing_key=key)
    choose(net, _only(net))
    if how == "of another engine":
        _sign_otherwise(net)
    signers = {ANN: keys[ANN][1]} if how != "of another engine" else {ANN: keys[ANN][1], BOB: keys[BOB][1]}
    net.set_guard(Guard(signers=signers, signed_engines=True))

    for attempt in (lambda: net.load_engine("net", 1), lambda: net.deploy_model("net", 1)):
        with pytest.raises(RefusedError, match=r"engine of net:v1 is not opened: this registry takes only signed"):
            attempt()
    assert opened == []


def _sign_otherwise(registry: ModelRegistry) -> None:
    """Have the engine carry a signature that Bob gave to another one; the log says so, as if a builder had lied."""
    from registry.encoding import digest_of, readable_json
    from registry.events import VariantAdded

    (variant,) = registry.get_variants("net", 1)
    other = variant.report.model_copy(update={"size_bytes": 1})
    data = readable_json(variant.model_copy(update={"report": other}))
    registry.store.replace(f"models/net/versions/v1/variants/{variant.key}/metadata.json", data)
    added = VariantAdded(version="1", key=variant.key, digest=digest_of(data))
    registry._append_existing("net", lambda _: added)  # noqa: SLF001 - somebody who may write to the store


# ----------------------------------------------------------------------------------------------------------- endpoints
@pytest.mark.parametrize(
    "spec",
    [INT8.model_copy(update={"engines": (name,)}) for name in ("onnxruntime-int8", "openvino-int8")],
    ids=lambda spec: spec.engines[0],
)
def test_an_engine_that_rounds_is_served_and_held_to_its_own_answers(net: ModelRegistry, spec: OptimizeSpec) -> None:
    net.optimize("net", 1, spec=spec, samples=INPUTS)
    choose(net, _only(net))
    try:
        endpoint = net.deploy_model("net", 1).endpoint
        assert endpoint.url is not None
        with InferenceClient(endpoint.url) as client:
            found = client.infer("net", {"x": INPUTS})["y"]
        assert endpoint.observed is not None
        assert endpoint.observed.engine == spec.engines[0]
        assert endpoint.observed.golden is not None
        assert endpoint.observed.golden.passed
    finally:
        net.stop_endpoint("net")
    expected = small_network.answers(INPUTS)
    assert float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1))) > 0.9
    assert "int8" not in spec.engines[0] or not np.allclose(found, expected, atol=1e-4), "int8 rounds"


def test_an_endpoint_opens_no_engine_whose_key_does_not_match_and_goes_on(
    net: ModelRegistry, foreign: Callable[..., str]
) -> None:
    key = foreign(net, engine="onnxruntime-int8", os="plan9")
    before = net.deploy_model("net", 1).endpoint
    try:
        assert before.desired is not None
        log = net._endpoint_log("net")  # noqa: SLF001 - as a deployer on that other machine would have wanted it
        foreign_one = before.desired.model_copy(update={"variant": key})
        log.append(lambda _: Wanted(desired=foreign_one), actor=ANN)
        with pytest.raises(EndpointError) as refused:
            net.reconcile_endpoint("net")
        here = this_machine().arch
        assert str(refused.value) == (
            f"the engine onnxruntime-int8 of net:v1 does not fit: it was built for plan9 on {here}, this is linux on "
            f"{here}. Run `modelway models deploy net --version v1` to have one chosen that does."
        )
        now = net.get_endpoint("net")
        assert (now.generation, now.desired, now.url) == (before.generation, before.desired, before.url)
        assert now.url is not None
        with InferenceClient(now.url) as client:
            np.testing.assert_allclose(
                client.infer("net", {"x": INPUTS})["y"], small_network.answers(INPUTS), atol=1e-3
            )
    finally:
        net.stop_endpoint("net")


def test_an_engine_that_answers_otherwise_than_when_it_was_judged_does_not_serve(
    net: ModelRegistry, folder: Path
) -> None:
    from registry import artifacts
    from registry.encoding import digest_of, readable_json
    from registry.events import VariantAdded

    net.optimize("net", 1, spec=INT8, samples=INPUTS)
    (variant,) = net.get_variants("net", 1)
    place = f"models/net/versions/v1/variants/{variant.key}"
    lie = np.load(folder / place / "golden.npy") + 1
    np.save(folder / place / "golden.npy", lie)
    golden = artifacts.entry_of("golden.npy", (folder / place / "golden.npy").read_bytes())
    assert variant.manifest is not None
    entries = [golden if entry.path == "golden.npy" else entry for entry in variant.manifest.files]
    data = readable_json(variant.model_copy(update={"manifest": artifacts.manifest_of(entries)}))
    net.store.replace(f"{place}/metadata.json", data)
    added = VariantAdded(version="1", key=variant.key, digest=digest_of(data))
    net._append_existing("net", lambda _: added)  # noqa: SLF001 - as if it had been kept so
    choose(net, variant.key)

    with pytest.raises(EndpointError, match="answers the golden samples differently"):
        net.deploy_model("net", 1)
    assert not net.get_endpoint("net").running
    assert json.loads((folder / place / "metadata.json").read_bytes())["report"]["engine"] == "onnxruntime-int8"
