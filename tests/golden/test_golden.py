"""Golden registries: what a release has written, every later one reads, goes on from, and leaves as it is."""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry import ModelRegistry, errors
from registry.endpoints.desired import Desired, EndpointMachine, Stopped, Wanted
from registry.log import EventLog

HERE = Path(__file__).parent
GOLDEN = sorted(path.parent for path in HERE.glob("format-*/*/expected.json"))
REFUSED = sorted(path.parent for path in HERE.glob("format-*/refused/*/expected.json"))
WITH_CHECKPOINTS = [golden for golden in GOLDEN if any(golden.rglob("checkpoints"))]
ADA, GRACE = "ada@example.com", "grace@example.com"
MAKE = runpy.run_path(str(HERE / "make.py"))


def _name(golden: Path) -> str:
    return f"{golden.parent.name}/{golden.name}"


def _copy(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden / "registry", tmp_path / "registry"))


def _expected(golden: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((golden / "expected.json").read_bytes())
    return expected


def _said(folder: Path) -> Any:
    return MAKE["say"](ModelRegistry(folder, actor=ADA))


def _content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _check_agrees(expected: Any, found: Any, at: str = "") -> None:
    """Hold ``found`` against what was expected; members that a later release has added are no difference."""
    if isinstance(expected, dict) and isinstance(found, dict):
        assert expected.keys() <= found.keys(), at
        for name, value in expected.items():
            _check_agrees(value, found[name], f"{at}.{name}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(expected) == len(found), at
        for number, value in enumerate(expected):
            _check_agrees(value, found[number], f"{at}[{number}]")
    else:
        assert expected == found, at


def _common(one: Any, other: Any) -> tuple[Any, Any]:
    """Return both without the members that only one of them has: what was written down before a release added some."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = {name: _common(one[name], other[name]) for name in one.keys() & other.keys()}
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        both = [_common(*pair) for pair in zip(one, other, strict=True)]
        return [pair[0] for pair in both], [pair[1] for pair in both]
    return one, other


def _second_reader(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the other reader, without site-packages and so surely without modelway."""
    program = [sys.executable, "-I", "-S", str(HERE / "reader.py"), str(folder)]
    return subprocess.run(program, capture_output=True, text=True, check=False, encoding="utf-8")


def _as_versions(name: str, model: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the other reader has found of a model's versions in the words of the registry's records."""
    hidden = {"label", "path", "status", "key", "registered_as", "choice", "held_production"}
    return [
        {
            **{word: value for word, value in version.items() if word not in hidden},
            "name": name,
            "version": version["label"],
            "aliases": sorted(alias for alias, target in model["state"]["aliases"].items() if target == key),
            "variants": list(version["variants"]),
            "as_of": model["last"],
        }
        for key, version in model["registered"].items()
    ]


def _both(one: Any, other: Any) -> tuple[Any, Any]:
    return one, other


def _check_second_reader_agrees(folder: Path, said: dict[str, Any], *, then: bool = False) -> None:
    """Hold what the second reader finds against what was said; ``then``: by a release that may have said less."""
    read = _second_reader(folder)
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout)
    _check_agrees(*(_common if then else _both)(found["root"]["guard"], said["guard"]))
    assert (found["id"], sorted(found["models"])) == (said["id"], said["models"])
    for name, model in found["models"].items():
        _check_agrees(*(_common if then else _both)(_as_versions(name, model), said["versions"][name]), name)
        holder = model["state"]["production"]
        label = None if holder is None else model["registered"][holder]["label"]
        assert label == said["production"].get(name)
        if "runs" in said or not then:
            _check_agrees([*model["state"]["runs"].values()], said["runs"][name], f"{name}.runs")
    assert sorted(found["endpoints"]) == [one["name"] for one in said["endpoints"]]
    for endpoint in said["endpoints"]:
        seen = found["endpoints"][endpoint["name"]]
        for part in ("generation", "desired", "observed"):
            _check_agrees(*(_common if then else _both)(seen[part], endpoint[part]), f"{endpoint['name']}.{part}")


def test_there_are_golden_registries() -> None:
    assert {golden.name for golden in GOLDEN} >= set(MAKE["SCENES"])
    assert len(REFUSED) >= 14
    assert WITH_CHECKPOINTS


@pytest.mark.parametrize("golden", GOLDEN, ids=_name)
def test_a_golden_registry_says_what_it_said_when_it_was_made(golden: Path, tmp_path: Path) -> None:
    folder = _copy(golden, tmp_path)
    before = _content(folder)

    _check_agrees(_expected(golden), _said(folder))

    assert _content(folder) == before, "looking has changed something"


@pytest.mark.parametrize("golden", GOLDEN, ids=_name)
def test_a_reader_that_knows_only_the_page_finds_the_same(golden: Path) -> None:
    _check_second_reader_agrees(golden / "registry", _expected(golden), then=True)


@pytest.mark.parametrize("scene", MAKE["SCENES"])
def test_a_reader_that_knows_only_the_page_reads_what_this_release_writes(scene: str, tmp_path: Path) -> None:
    MAKE["make"](scene, tmp_path)

    _check_second_reader_agrees(tmp_path / scene / "registry", _expected(tmp_path / scene))


def test_this_release_writes_records_as_canonical_json(tmp_path: Path) -> None:
    MAKE["make"]("basic", tmp_path)
    records = [path.read_bytes() for path in tmp_path.rglob("log/*.json")]

    assert len(records) > 20
    for record in records:
        plain = json.dumps(json.loads(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert record == plain.encode()


@pytest.mark.parametrize("content", [None, b"", b'{"checkpoint":16', b'{"checkpoint":16,"machine":"model/1"}'])
@pytest.mark.parametrize("golden", WITH_CHECKPOINTS, ids=_name)
def test_checkpoints_and_hints_that_are_gone_or_damaged_change_nothing(
    golden: Path, content: bytes | None, tmp_path: Path
) -> None:
    folder = _copy(golden, tmp_path)
    for path in [*folder.rglob("checkpoints/*.json"), *folder.rglob("head.json")]:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)

    _check_agrees(_expected(golden), _said(folder))


@pytest.mark.parametrize("golden", WITH_CHECKPOINTS, ids=_name)
def test_a_checkpoint_with_a_changed_byte_is_not_used(golden: Path, tmp_path: Path) -> None:
    folder = _copy(golden, tmp_path)
    for path in folder.rglob("checkpoints/*.json"):
        path.write_bytes(path.read_bytes().replace(ADA.encode(), b"eve@example.com").replace(b"true", b"null"))

    _check_agrees(_expected(golden), _said(folder))


@pytest.mark.parametrize("golden", GOLDEN, ids=_name)
def test_work_goes_on_and_what_was_recorded_stays_as_it_is(golden: Path, tmp_path: Path) -> None:
    folder = _copy(golden, tmp_path)
    before = {key: data for key, data in _content(folder).items() if _is_for_ever(key)}
    models = ModelRegistry(folder, actor=ADA)

    for name in models.list_models():
        for stage in ("validation", "staging", "production"):
            new = models.register(name, b"new", metrics={"accuracy": 0.99, "mae": 1.0})
            for step in ("validation", "staging", "production"):
                moved = models.promote(name, new.version, step, approved_by=GRACE)
                if step == stage:
                    break
            assert moved.stage.value == stage
        assert models.load_artifact(name, new.version) == b"new"

    after = _content(folder)
    assert {key: after.get(key) for key in before} == before
    assert len(after) > len(before)
    said = _said(folder)
    for name, versions in _expected(golden)["versions"].items():
        assert [one["version"] for one in versions] == [one["version"] for one in said["versions"][name]][
            : len(versions)
        ]
    _check_second_reader_agrees(folder, said)


def _is_for_ever(key: str) -> bool:
    return not key.endswith(("/status.json", "head.json")) and "checkpoints/" not in key


@pytest.mark.parametrize(
    ("name", "key", "label"),
    [
        ("digits", "reserved", "v2"),
        ("digits", "uploaded", "v3"),
        ("digits", "described", "v4"),
        ("faces", "named", "v1"),
        ("houses", "reserved", "v1"),
    ],
)
def test_a_registration_that_died_is_finished_by_its_key(name: str, key: str, label: str, tmp_path: Path) -> None:
    folder = _copy(HERE / "format-1" / "crashed-registrations", tmp_path)
    before = {key: data for key, data in _content(folder).items() if _is_for_ever(key)}
    models = ModelRegistry(folder, actor=ADA)

    finished = models.register(name, key.encode(), idempotency_key=f"{name}-{key}")

    assert finished.version == label
    assert models.load_artifact(name, label) == key.encode()
    assert {key: data for key, data in _content(folder).items() if key in before} == before
    _check_second_reader_agrees(folder, _said(folder))


def test_members_of_a_later_release_are_kept_through_checkpoints(tmp_path: Path) -> None:
    golden = HERE / "format-1" / "unknown-fields"
    folder = _copy(golden, tmp_path)
    for number in range(20):
        ModelRegistry(folder, actor=ADA).annotate("digits", 1, tags={"number": str(number)})
    assert any(folder.rglob("checkpoints/*.json"))

    (version,) = _said(folder)["versions"]["digits"]

    (then,) = _expected(golden)["versions"]["digits"]
    for part in ("described", "artifact"):
        assert version[part]["from_a_later_release"] == then[part]["from_a_later_release"] != {}
    _check_agrees(then["approvals"], version["approvals"])
    _check_second_reader_agrees(folder, _said(folder))


def test_settings_of_a_later_release_are_kept_through_checkpoints(tmp_path: Path) -> None:
    golden = HERE / "format-1.3" / "unknown-settings"
    folder = _copy(golden, tmp_path)
    log = EventLog(ModelRegistry(folder).store, "endpoints/main/", EndpointMachine())
    (then,) = _expected(golden)["endpoints"]
    again = Desired.model_validate_json(json.dumps(then["desired"]))
    for _ in range(14):
        log.append(lambda known: Wanted(desired=again, previous=known.state.generation), actor=ADA)
    assert [path.name for path in folder.rglob("checkpoints/*.json")] == ["000000000016.json"]

    (now,) = _said(folder)["endpoints"]

    assert now["generation"] == 19
    _check_agrees(*_common(then["desired"], now["desired"]))
    assert now["desired"]["settings"]["from_a_later_release"]["deep"] == [1, 2.5, "ü", None]
    assert now["observed"]["desired"]["canary"]["from_a_later_release"] != {}
    _check_second_reader_agrees(folder, _said(folder))


def test_checkpoints_of_an_earlier_machine_are_folded_anew_and_replaced(tmp_path: Path) -> None:
    folder = _copy(HERE / "format-1" / "variants-and-endpoints", tmp_path)
    checkpoint = folder / "endpoints" / "main" / "checkpoints" / "000000000016.json"
    before = checkpoint.read_bytes()
    assert b'"machine":"endpoint/1"' in before
    log = EventLog(ModelRegistry(folder).store, "endpoints/main/", EndpointMachine())

    state = log.read().state

    assert (state.generation, state.served, state.desired and state.desired.follows) == (18, 0, None)
    assert checkpoint.read_bytes() == before, "looking has changed something"
    for _ in range(14):
        log.append(lambda known: Stopped() if known.number % 2 else Wanted(desired=_desired()), actor=ADA)
    assert b'"machine":"endpoint/2"' in (checkpoint.parent / "000000000032.json").read_bytes()
    _check_second_reader_agrees(folder, _said(folder))


def _desired() -> Desired:
    return Desired(model="digits", version="v1", metadata_digest="sha256:" + "0" * 64)


@pytest.mark.parametrize("golden", REFUSED, ids=lambda golden: golden.name)
def test_what_must_be_refused_is_refused_by_both_readers(golden: Path, tmp_path: Path) -> None:
    folder = _copy(HERE / "format-1" / "worked-example", tmp_path)
    shutil.copytree(golden / "registry", folder, dirs_exist_ok=True)
    before, expected = _content(folder), _expected(golden)
    verb, *arguments = expected["call"]

    with pytest.raises(getattr(errors, expected["error"])) as caught:
        getattr(ModelRegistry(folder, actor=ADA), verb)(*arguments)

    assert expected["message"] in str(caught.value)
    assert _content(folder) == before, "something was written all the same"
    read = _second_reader(folder)
    assert (read.returncode, read.stdout) == (1, "")


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("1.2/long-logs-with-checkpoints", "models/digits/checkpoints/*32.json", b'"production":', b'"production" :'),
        ("1.3/rolled-out-endpoints", "endpoints/main/checkpoints/*16.json", b'"served":9', b'"served":8'),
        ("1.3/rolled-out-endpoints", "endpoints/vertex/log/*2.json", b"127.0.0.1", b"127.0.0.2"),
        ("1.3/rolled-out-endpoints", "endpoints/triton/observed.json", b'"generation": 3', b'"generation": 30'),
        ("1.2/judged-engines", "models/digits/versions/v1/variants/judged-*/judgement.json", b"int8", b"fp16"),
        ("1.1/long-logs-with-checkpoints", "models/digits/log/*20.json", b'"canary"', b'"Canary"'),
        ("1/variants-and-endpoints", "models/digits/versions/v1/variants/*/model.onnx", b"engine", b"Engine"),
        ("1/variants-and-endpoints", "models/digits/versions/v1/variants/*/metadata.json", b"measured", b"built"),
        ("1/guarded-with-approvals", "log/*2.json", b"*@example.com", b"*@example.org"),
    ],
)
def test_the_second_reader_would_see_a_changed_byte(
    name: str, file: str, old: bytes, new: bytes, tmp_path: Path
) -> None:
    folder = _copy(HERE / f"format-{name}", tmp_path)
    for path in [*folder.glob(file)]:
        path.write_bytes(path.read_bytes().replace(old, new))

    assert _second_reader(folder).returncode == 1


def test_the_second_reader_would_see_a_checkpoint_that_lies(tmp_path: Path) -> None:
    folder = _copy(HERE / "format-1.2" / "long-logs-with-checkpoints", tmp_path)
    path = folder / "models" / "digits" / "checkpoints" / "000000000048.json"
    head, _, state = path.read_bytes().partition(b',"state":')
    lie = state.removesuffix(b"}").replace(b'"stage":"archived"', b'"stage":"staging"')
    header = {**json.loads(head + b"}"), "sha256": f"sha256:{hashlib.sha256(lie).hexdigest()}"}
    path.write_bytes(json.dumps(header, separators=(",", ":")).encode()[:-1] + b',"state":' + lie + b"}")
    staging = ModelRegistry(folder).get_by_stage("staging")
    assert staging, "a reader that begins at the checkpoint believes it"

    assert "another state" in _second_reader(folder).stderr


def test_the_second_reader_would_see_a_checkpoint_of_an_endpoint_that_lies(tmp_path: Path) -> None:
    folder = _copy(HERE / "format-1.3" / "rolled-out-endpoints", tmp_path)
    path = folder / "endpoints" / "main" / "checkpoints" / "000000000016.json"
    head, _, state = path.read_bytes().partition(b',"state":')
    lie = state.removesuffix(b"}").replace(b'"served":9', b'"served":16')
    header = {**json.loads(head + b"}"), "sha256": f"sha256:{hashlib.sha256(lie).hexdigest()}"}
    path.write_bytes(json.dumps(header, separators=(",", ":")).encode()[:-1] + b',"state":' + lie + b"}")

    assert "another state" in _second_reader(folder).stderr
