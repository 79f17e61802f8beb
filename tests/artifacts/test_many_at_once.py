"""Files that go at once where that pays off: all of them or the first error, one progress, bounded memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from registry import InMemoryModelStore, ModelRegistry, ModelStore
from registry.artifacts import Source, fetch, upload
from registry.errors import IntegrityError, StoreForbiddenError
from registry.progress import Advance, listen

AT_ONCE = 4


class Meeting(InMemoryModelStore):
    """A store whose transfers each wait until as many as pay off are under way: with fewer nothing would ever end."""

    parallel = AT_ONCE

    def __init__(self) -> None:
        """Begin with nothing under way."""
        super().__init__()
        self.meeting = threading.Barrier(AT_ONCE, timeout=20)
        self.under_way: set[str] = set()
        self.most = 0

    def _meet(self, key: str) -> None:
        self.under_way.add(key)
        self.meeting.wait()
        threading.Event().wait(0.02)  # one too many would come in meanwhile
        self.most = max(self.most, len(self.under_way))
        self.meeting.wait()
        self.under_way.discard(key)

    @override
    def upload(self, key: str, chunks: Iterator[bytes]) -> None:
        self._meet(key)
        super().upload(key, chunks)

    @override
    def chunks(self, key: str) -> Iterator[bytes]:
        self._meet(key)
        yield from super().chunks(key)


class Bar:
    """A listener that would count wrong if two threads told it of progress at one time."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.total = self.done = 0

    def begin(self, _title: str, total: int, _unit: str) -> tuple[Advance, Callable[[], None]]:
        """Begin to count."""
        self.total = total

        def advance(amount: int) -> None:
            before = self.done
            threading.Event().wait(0.0001)
            self.done = before + amount

        return advance, lambda: None


def _sources(count: int) -> list[Source]:
    return [Source(f"part-{number}", 3000, lambda: iter([b"x" * 1000] * 3)) for number in range(count)]


def test_as_many_files_go_at_once_as_the_store_says_and_no_more(tmp_path: Path) -> None:
    store, bar = Meeting(), Bar()

    with listen(bar):
        manifest = upload(store, "to", _sources(3 * AT_ONCE), title="uploading")
    assert [entry.path for entry in manifest.files] == sorted(f"part-{number}" for number in range(3 * AT_ONCE))
    assert (store.most, bar.done, bar.total) == (AT_ONCE, 36_000, 36_000)

    bar, store.most = Bar(), 0
    with listen(bar):
        fetch(store, "to", manifest, tmp_path / "to", title="downloading")
    assert (store.most, bar.done, bar.total) == (AT_ONCE, 36_000, 36_000)
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == {
        f"part-{number}": b"x" * 3000 for number in range(3 * AT_ONCE)
    }


def test_of_large_files_no_more_than_four_go_at_once() -> None:
    store = Meeting()
    store.parallel = 8

    upload(store, "to", [Source(f"part-{number}", 9 << 20, lambda: iter([b"x"])) for number in range(8)], title="")

    assert store.most == AT_ONCE


def test_on_a_store_where_it_does_not_pay_off_one_file_goes_after_the_other(store: ModelStore) -> None:
    threads: list[threading.Thread] = []

    def pieces() -> Iterator[bytes]:
        threads.append(threading.current_thread())
        yield b"x"

    upload(store, "to", [Source(f"part-{number}", 1, pieces) for number in range(5)], title="")

    assert threads == [threading.current_thread()] * 5


def test_the_first_error_stops_what_is_on_its_way_and_what_has_not_begun_and_is_the_one_raised() -> None:
    store, refused = InMemoryModelStore(), threading.Event()
    store.parallel = AT_ONCE
    pulled: dict[str, int] = {}

    def endless(name: str) -> Iterator[bytes]:
        refused.wait(20)
        for number in range(1_000_000):
            pulled[name] = number
            yield b"x"

    def forbidden() -> Iterator[bytes]:
        yield b"x"
        refused.set()
        raise StoreForbiddenError("this one may not be written")

    sources = [Source(name, 1, lambda name=name: endless(name)) for name in "abc"]  # type: ignore[misc]
    sources += [Source("forbidden", 1, forbidden)]
    sources += [Source(f"later-{number}", 1, lambda: endless("later")) for number in range(50)]

    with pytest.raises(StoreForbiddenError, match="this one may not be written"):
        upload(store, "to", sources, title="")
    assert store.list("") == []
    assert "later" not in pulled
    assert all(number < 999_999 for number in pulled.values())


def test_of_files_fetched_at_once_the_damaged_one_is_named_and_not_left(tmp_path: Path) -> None:
    store = InMemoryModelStore()
    store.parallel = AT_ONCE
    manifest = upload(store, "from", _sources(12), title="")
    store.replace("from/part-7", b"x" * 2999 + b"y")

    with pytest.raises(IntegrityError, match="from/part-7"):
        fetch(store, "from", manifest, tmp_path / "to", title="")
    left = {path.name for path in (tmp_path / "to").iterdir()}
    assert "part-7" not in left
    assert all(name.startswith("part-") for name in left), "no temporary files"


def test_a_folder_registered_over_many_transfers_comes_back_whole(folder: Path, tmp_path: Path) -> None:
    store = InMemoryModelStore()
    store.parallel = 8
    models = ModelRegistry(store=store, actor="ada@example.com")

    models.register("digits", folder)

    back = models.download("digits", 1, tmp_path / "back")
    assert {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()} == {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


LARGE_FILES = """
import resource, sys
from pathlib import Path
from registry import FileModelStore, ModelRegistry

class Several(FileModelStore):
    parallel = 4

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

top = Path(sys.argv[1])
(top / "trained").mkdir()
models = ModelRegistry(store=Several(top / "registry"), actor="ada@example.com")
models.register("small", b"x" * 3_000_000)
models.download("small", 1, top / "small")
base = peak_mb()
for number in range(4):
    with (top / "trained" / f"{number}.bin").open("wb") as file:
        file.truncate(160 << 20)
models.register("large", top / "trained")
models.download("large", 1, top / "back")
models.load("large")
print(peak_mb() - base)
"""


@pytest.mark.heavy
def test_memory_does_not_grow_with_the_size_of_the_files_also_of_several_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE_FILES, str(tmp_path)], capture_output=True, text=True, check=False, timeout=250
    )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60, "MB over the base, for four files of 160 MB at once"
