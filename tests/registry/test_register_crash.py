"""A registration that dies anywhere is never half seen, and the same key brings it to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from registry import ModelRegistry, ModelStore
from registry.errors import ArtifactNotFoundError, ModelNotFoundError, StoreUnreachableError, VersionExistsError

NewStore: TypeAlias = Callable[[str], ModelStore]
Hook: TypeAlias = Callable[[int, str, bytes], None]

KEY = "run-7"


class PowerCutError(BaseException):
    """What ends a process without asking anybody."""


class Watched(ModelStore):
    """A store that tells of every write to another, before and after; either may end it."""

    def __init__(self, inner: ModelStore, *, before: Hook | None = None, after: Hook | None = None) -> None:
        """Take the store that is written to, and what to call around each write, with its number."""
        self.inner, self.url = inner, inner.url
        self._before, self._after = before, after
        self.writes = 0

    def _write(self, key: str, data: bytes, write: Callable[[], None]) -> None:
        self.writes += 1
        number = self.writes
        if self._before:
            self._before(number, key, data)
        write()
        if self._after:
            self._after(number, key, data)

    def create(self, key: str, data: bytes) -> None:
        self._write(key, data, lambda: self.inner.create(key, data))

    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        data = b"".join(chunks)
        self._write(key, data, lambda: self.inner.upload(key, iter([data])))

    def replace(self, key: str, data: bytes) -> None:
        self._write(key, data, lambda: self.inner.replace(key, data))

    def delete(self, key: str) -> None:
        self._write(key, b"", lambda: self.inner.delete(key))

    def read(self, key: str) -> bytes:
        return self.inner.read(key)

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.inner.read_many(keys)

    def list(self, prefix: str) -> list[str]:
        return self.inner.list(prefix)

    def chunks(self, key: str) -> Iterator[bytes]:
        return self.inner.chunks(key)


def _dies_at(number: int) -> Hook:
    def hook(write: int, _key: str, _data: bytes) -> None:
        if write >= number:
            raise PowerCutError

    return hook


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """Return a folder of two files."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"weights")
    (folder / "b.bin").write_bytes(b"more weights")
    return folder


@pytest.fixture(params=["bytes", "folder", "metadata only"])
def given(request: pytest.FixtureRequest, artifact: Path) -> dict[str, Any]:
    """Return what to register, in several forms."""
    forms: dict[str, dict[str, Any]] = {
        "bytes": {"artifact": b"weights"},
        "folder": {"artifact": artifact},
        "metadata only": {},
    }
    return {**forms[request.param], "metrics": {"accuracy": 0.9}}


def _dying(inner: ModelStore, when: str, number: int) -> Watched:
    hook = _dies_at(number)
    return Watched(inner, before=hook) if when == "before" else Watched(inner, after=hook)


def _writes_of_a_registration(given: dict[str, Any]) -> int:
    watched = Watched(ModelRegistry(store=None).store)
    ModelRegistry(store=watched).register("digits", **given)
    return watched.writes


def _seen(models: ModelRegistry) -> list[str]:
    """Return the versions that readers see, all of whose bytes are there and verified."""
    try:
        versions = models.list_versions("digits")
    except ModelNotFoundError:
        for blind in (lambda: models.get_version("digits", 1), lambda: models.load("digits")):
            with pytest.raises(ModelNotFoundError):
                blind()
        assert models.get_by_stage("development") == []
        assert models.list_models(stage="development") == []
        return []
    for version in versions:
        assert models.get_sidecar("digits", version.version).described == version.described
        try:
            assert models.load("digits", version.version)
        except ArtifactNotFoundError:
            assert version.artifact is None
    return [version.version for version in versions]


@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_it_dies_the_same_key_ends_with_one_version(
    new_store: NewStore, given: dict[str, Any], when: str
) -> None:
    for number in range(1, _writes_of_a_registration(given) + 1):
        inner = new_store(f"run-{number}")
        dying = ModelRegistry(store=_dying(inner, when, number))
        with pytest.raises(PowerCutError):
            dying.register("digits", idempotency_key=KEY, **given)

        models = ModelRegistry(store=inner)
        assert _seen(models) in ([], ["v1"])
        assert models.register("digits", idempotency_key=KEY, **given).version == "v1"
        assert _seen(models) == ["v1"], f"after dying {when} write {number}"
        assert models.register("digits", idempotency_key=KEY, **given).version == "v1"
        assert models.list_models() == ["digits"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_wherever_it_dies_without_a_key_the_half_version_is_never_listed(
    new_store: NewStore, given: dict[str, Any], when: str
) -> None:
    for number in range(1, _writes_of_a_registration(given) + 1):
        inner = new_store(f"run-{number}")
        dying = ModelRegistry(store=_dying(inner, when, number))
        with pytest.raises(PowerCutError):
            dying.register("digits", **given)

        models = ModelRegistry(store=inner)
        seen = _seen(models)
        new = models.register("digits", **given).version
        assert _seen(models) == [*seen, new]
        assert models.get_model_metadata("digits").version == new


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("explicit", [None, 3])
def test_wherever_it_dies_a_retry_with_other_bytes_stores_those(
    new_store: NewStore, when: str, explicit: int | None
) -> None:
    first: dict[str, Any] = {"artifact": b"first", "version": explicit, "idempotency_key": KEY}
    for number in range(1, _writes_of_a_registration({"artifact": b"first"}) + 1):
        inner = new_store(f"run-{number}")
        dying = ModelRegistry(store=_dying(inner, when, number))
        with pytest.raises(PowerCutError):
            dying.register("digits", **first)

        models = ModelRegistry(store=inner)
        done = _seen(models)
        version = models.register("digits", **{**first, "artifact": b"second"})

        assert _seen(models) == [version.version]
        assert models.load_artifact("digits", version.version) == (b"first" if done else b"second")
        assert version.version == "v3" if explicit else version.version in {"v1", "v2"}


def test_what_the_sidecar_says_is_what_the_log_says_after_a_retry_with_other_words(store: ModelStore) -> None:
    dying = ModelRegistry(store=Watched(store, after=_dies_when("metadata.json")))
    with pytest.raises(PowerCutError):
        dying.register("digits", b"weights", metrics={"accuracy": 0.1}, idempotency_key=KEY)

    models = ModelRegistry(store=store)
    version = models.register("digits", b"weights", metrics={"accuracy": 0.2}, idempotency_key=KEY)

    assert version.described == models.get_sidecar("digits", 1).described


def test_a_storage_that_fails_in_between_is_told_and_the_same_key_goes_on(store: ModelStore) -> None:
    def failing(_number: int, key: str, _data: bytes) -> None:
        if key.endswith("metadata.json"):
            raise StoreUnreachableError(f"{key}: no answer")

    with pytest.raises(StoreUnreachableError, match=r"metadata.json: no answer"):
        ModelRegistry(store=Watched(store, before=failing)).register("digits", b"weights", idempotency_key=KEY)

    models = ModelRegistry(store=store)
    assert _seen(models) == []
    assert models.register("digits", b"weights", idempotency_key=KEY).version == "v1"
    assert _seen(models) == ["v1"]


def test_a_label_that_somebody_is_registering_is_not_given_to_another(store: ModelStore) -> None:
    with pytest.raises(PowerCutError):
        ModelRegistry(store=Watched(store, before=_dies_when("artifact.bin"))).register("digits", b"a", version=1)

    models = ModelRegistry(store=store)
    with pytest.raises(VersionExistsError, match="digits:v1 is being registered by somebody else already"):
        models.register("digits", b"b", version=1)
    assert models.register("digits", b"c").version == "v2"
    assert _seen(models) == ["v2"]


@pytest.mark.parametrize("explicit", [None, 3])
def test_one_that_was_given_up_while_it_uploaded_does_not_take_the_label_of_its_successor(
    store: ModelStore, explicit: int | None
) -> None:
    second = ModelRegistry(store=store)

    def overtaken(_number: int, key: str, _data: bytes) -> None:
        if key.endswith("metadata.json"):
            second.register("digits", b"second", version=explicit, idempotency_key=KEY)

    first = ModelRegistry(store=Watched(store, before=overtaken))
    with pytest.raises(VersionExistsError, match="was given up or taken while it was uploading; register it again"):
        first.register("digits", b"first", version=explicit, idempotency_key=KEY)

    (version,) = second.list_versions("digits")
    assert _seen(second) == [version.version]
    assert second.load_artifact("digits", version.version) == b"second"


def test_one_that_was_given_up_does_not_commit_in_the_place_of_one_that_uploads_under_its_label(
    store: ModelStore,
) -> None:
    uploaded, go_on = threading.Event(), threading.Event()

    def wait_for_the_second(_number: int, key: str, _data: bytes) -> None:
        if key.endswith("metadata.json"):
            uploaded.set()
            go_on.wait(10)

    def let_the_first_go_on(_number: int, key: str, _data: bytes) -> None:
        if key.endswith("metadata.json"):
            go_on.set()
            wait([registering], 10)

    first = ModelRegistry(store=Watched(store, before=wait_for_the_second))
    with ThreadPoolExecutor(1) as pool:
        registering = pool.submit(first.register, "digits", b"first", version=3, idempotency_key=KEY)
        assert uploaded.wait(10)
        second = ModelRegistry(store=Watched(store, before=let_the_first_go_on))
        second.register("digits", b"second", version=3, idempotency_key=KEY)

    assert isinstance(registering.exception(), VersionExistsError)
    assert _seen(second) == ["v3"]
    assert second.load_artifact("digits", 3) == b"second"


def test_one_that_has_finished_meanwhile_is_not_given_up(store: ModelStore) -> None:
    uploaded, go_on = threading.Event(), threading.Event()

    def wait_for_the_second(_number: int, key: str, _data: bytes) -> None:
        if key.endswith("metadata.json"):
            uploaded.set()
            go_on.wait(10)

    def let_the_first_finish(_number: int, _key: str, data: bytes) -> None:
        if b'"abandoned"' in data and not go_on.is_set():
            go_on.set()
            thread.join(10)

    first = ModelRegistry(store=Watched(store, before=wait_for_the_second))
    thread = threading.Thread(target=lambda: first.register("digits", b"first", idempotency_key=KEY))
    thread.start()
    assert uploaded.wait(10)
    second = ModelRegistry(store=Watched(store, before=let_the_first_finish))
    version = second.register("digits", b"second", idempotency_key=KEY)

    assert (version.version, second.load_artifact("digits", 1)) == ("v1", b"first")
    assert _seen(second) == ["v1"]


def test_a_model_whose_first_registration_died_is_not_offered_in_its_own_place(store: ModelStore) -> None:
    dying = ModelRegistry(store=Watched(store, before=_dies_when("models/digits/log/000000000002.json")))
    with pytest.raises(PowerCutError):
        dying.register("digits", b"bytes")
    models = ModelRegistry(store=store)
    assert models.list_models() == ["digits"], "its name was taken before it died"

    with pytest.raises(ModelNotFoundError, match="no model 'digits'") as refusal:
        models.get_model("digits")

    assert "Did you mean" not in str(refusal.value)


def _dies_when(name: str) -> Hook:
    def hook(_number: int, key: str, _data: bytes) -> None:
        if key.endswith(name):
            raise PowerCutError

    return hook
