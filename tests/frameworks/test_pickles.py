"""Pickles: never without an opt-in, and then only those that name nothing but what is allowed. None of these runs."""

from __future__ import annotations

import bz2
import collections
import copyreg
import datetime as dt
import decimal
import gzip
import importlib
import io
import pickle
import pickletools
import subprocess
import sys
import uuid
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks import ModelFramework, examine, load, save
from registry.frameworks.pickles import check_pickle, read_pickle

CUSTOM = ModelFramework.CUSTOM
joblib: Any = importlib.import_module("joblib")  # has no types
NOTHING: frozenset[str] = frozenset()


class Threshold:
    """A model of the user's own."""

    def __init__(self, at: float) -> None:
        """Keep where."""
        self.at = at

    class Inner:
        """Not at the top of its module."""


NAME = f"{Threshold.__module__}.Threshold"


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def program(*codes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(codes) + b"."


SYSTEM = name("os", "system")
RUN = text("echo evil > evil") + b"\x85"
"""The arguments: a tuple of one command."""

ATTACKS: dict[str, bytes] = {
    "GLOBAL": program(b"cos\nsystem\n", RUN, b"R"),
    "GLOBAL of posix": program(b"cposix\nsystem\n", RUN, b"R"),
    "STACK_GLOBAL": program(SYSTEM, RUN, b"R"),
    "INST": program(b"(", text("echo evil > evil"), b"ios\nsystem\n"),
    "OBJ": program(b"(", SYSTEM, text("echo evil > evil"), b"o"),
    "NEWOBJ": program(SYSTEM, RUN, b"\x81"),
    "NEWOBJ_EX": program(SYSTEM, RUN, b"}", b"\x92"),
    "eval": program(name("builtins", "eval"), text("__import__('os').mkdir('evil')"), b"\x85R"),
    "exec under its old name": b"c__builtin__\nexec\n(S'open(\"evil\", \"w\")'\ntR.",
    "getattr": program(name("builtins", "getattr"), name("os", "path"), text("os"), b"\x86R"),
    "a dotted name": program(name("registry.errors", "annotations.compiler.flag"), b")R"),
    "a dotted name over an allowed one": program(name("collections", "OrderedDict.__reduce__"), b")R"),
    "names through the memo": program(text("os"), b"\x94", text("system"), b"\x9400", b"h\x00h\x01\x93", RUN, b"R"),
    "names through a memo that is used twice": program(
        text("collections"), b"q\x00", text("OrderedDict"), b"q\x01", b"00", text("os"), b"q\x00", b"0",
        text("system"), b"q\x010", b"h\x00h\x01\x93", RUN, b"R",
    ),
    "a name from a call": program(name("builtins", "complex"), b")R", text("system"), b"\x93", RUN, b"R"),
    "a name from bytes": program(b"C\x02os", text("system"), b"\x93"),
    "a name behind what is popped": program(text("os"), text("system"), text("x"), b"0", b"\x93", RUN, b"R"),
    "a name that was doubled": program(text("os"), b"2", b"\x93"),
    "a name behind a mark": program(text("os"), b"(", text("x"), b"0", text("x"), b"1", text("system"), b"\x93"),
    "a call of what is made": program(name("builtins", "set"), b")R", b")R"),
    "a call of what is kept": program(name("builtins", "complex"), b")R\x94", b"0h\x00)R"),
    "EXT1": program(b"\x82\xf0"),
    "EXT2": program(b"\x83\xf0\x00"),
    "EXT4": program(b"\x84\xf0\x00\x00\x00"),
    "a persistent id": b"Pevil\n.",
    "a binary persistent id": program(text("evil"), b"Q"),
    "a buffer from outside": b"\x80\x05\x97.",
    "pickle in a pickle": program(name("pickle", "loads"), b"C\x04abc.", b"\x85R"),
    "_pickle in a pickle": program(name("_pickle", "loads"), b"C\x04abc.", b"\x85R"),
    "joblib in a pickle": program(name("joblib", "load"), text("evil"), b"\x85R"),
    "torch in a pickle": program(name("torch.serialization", "load"), text("evil"), b"\x85R"),
    "copyreg": program(name("copyreg", "_reconstructor"), name("os", "system"), b"NN\x87R"),
    "the extension registry": program(name("copyreg", "add_extension"), text("os"), text("system"), b"K\xf0\x87R"),
    "an importer": program(name("importlib", "import_module"), text("antigravity"), b"\x85R"),
    "a partial": program(name("functools", "partial"), b")R"),
    "an item of operator": program(name("operator", "attrgetter"), text("system"), b"\x85R"),
    "a shell": program(name("subprocess", "Popen"), RUN, b"R"),
    "a file": program(name("builtins", "open"), text("evil"), text("w"), b"\x86R"),
    "a request": program(name("urllib.request", "urlopen"), text("http://127.0.0.1"), b"\x85R"),
    "numpy that runs": program(name("numpy.testing._private.utils", "runstring"), text("1"), b"}\x86R"),
    "numpy that opens": program(name("numpy", "load"), text("evil"), b"\x85R"),
    "BUILD of a class": program(name("collections", "OrderedDict"), b"}", text("__setstate__"), b"Ns", b"b"),
    "APPEND to a class": program(name("builtins", "set"), b"N", b"a"),
    "APPENDS to a class": program(name("builtins", "set"), b"(N", b"e"),
    "SETITEM of a class": program(name("builtins", "set"), b"NN", b"s"),
    "SETITEMS of a class": program(name("builtins", "set"), b"(NN", b"u"),
    "ADDITEMS to a class": program(name("collections", "OrderedDict"), b"(N", b"\x90"),
    "memory for a number": program(b"N", b"r\xff\xff\xff\x7f"),
    "an array without bytes": program(name("numpy", "ndarray"), b"J\x00\x00\x00\x7f\x85", text("f8"), b"\x86R"),
    "an unknown opcode": program(b"N", b"\xff"),
    "two pickles": program(b"N") + program(SYSTEM, RUN, b"R"),
    "something after it": program(b"N") + b"x",
    "no end": b"\x80\x04N",
    "no beginning": b"\x80\x04.",
    "nothing": b"",
    "a mark as a value": program(b"(\x85"),
    "a mark that is kept": program(b"(\x94"),
    "a memo that is not there": program(b"h\x07"),
    "a string beyond the end": b"\x80\x04\x8d" + b"\xff" * 8 + b"x.",
    "compressed with zlib": zlib.compress(program(SYSTEM, RUN, b"R")),
    "compressed with gzip": gzip.compress(program(SYSTEM, RUN, b"R")),
    "compressed with bz2": bz2.compress(program(SYSTEM, RUN, b"R")),
}  # fmt: skip


def _dtype(state: bytes, of: str = "O8") -> bytes:
    """Return a dtype with a state of one's own, and an array whose bytes are then taken for pointers."""
    return program(
        name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), b"K\x00\x85", b"C\x01b", b"\x87R",
        b"(K\x01K\x01\x85", name("numpy", "dtype"), text(of), b"\x89\x88\x87R", state, b"b",
        b"\x89", b"C\x08AAAAAAAA", b"tb",
    )  # fmt: skip


DTYPES: dict[str, bytes] = {
    "pointers": _dtype(b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"),
    "fields": _dtype(b"(K\x03" + text("|") + b"N" + text("a") + b"\x85}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft"),
    "a state that is made": _dtype(b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + b"]t"),
    "no tuple": _dtype(b"N"),
    "a name that is none": _dtype(b"(K\x03t", of="(9999,9999)f8"),
    "a state that is filled in": program(name("numpy", "dtype"), text("O8"), b"\x89\x88\x87R", b"N", b"a"),
    "OBJ": program(b"(", name("numpy", "dtype"), text("O8"), b"o"),
    "INST": program(b"(", text("O8"), b"inumpy\ndtype\n"),
    "NEWOBJ": program(name("numpy", "dtype"), text("O8"), b"\x85\x81"),
}


@pytest.mark.parametrize("data", [pytest.param(data, id=attack) for attack, data in ATTACKS.items()])
def test_what_a_pickle_could_do_is_refused_and_not_done(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pkl").write_bytes(data)
    with pytest.raises(RefusedError, match=r"model\.pkl was not loaded: .* A pickle can run any code"):
        load(tmp_path, framework=CUSTOM, info={}, allow_pickle=NOTHING)
    with pytest.raises(RefusedError):
        check_pickle(data, allow_pickle=frozenset({NAME}))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


@pytest.mark.parametrize("data", [pytest.param(data, id=attack) for attack, data in DTYPES.items()])
def test_an_array_type_that_would_take_bytes_for_pointers_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError, match=r"numpy\.dtype"):
        check_pickle(data)


def test_the_attack_on_array_types_is_real() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import pickle; print(pickle.loads({DTYPES['pointers']!r}))"], check=False
    )
    assert ran.returncode < 0, "numpy refuses it now: the check of its states can go"


def test_the_attack_by_opcode_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for attack in ("GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "names through the memo"):
        pickle.loads(ATTACKS[attack])  # noqa: S301 - that these work proves something of the refusals above
        (tmp_path / "evil").unlink()


def test_an_extension_code_is_refused_whatever_it_stands_for() -> None:
    copyreg.add_extension("collections", "OrderedDict", 0xF0)
    try:
        with pytest.raises(RefusedError, match="its opcode EXT1"):
            check_pickle(pickle.dumps(collections.OrderedDict(a=1), protocol=2))
    finally:
        copyreg.remove_extension("collections", "OrderedDict", 0xF0)


BENIGN: list[Any] = [
    1, -(10**30), 1.5, "word", b"bytes", None, True, [1, [2]], (1, (2, 3, 4, 5)), {"a": {"b": 1}}, {1, 2},
    frozenset({3}), 1j, slice(1, 2), collections.OrderedDict(a=1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.timedelta(3), decimal.Decimal("1.5"),
    uuid.UUID(int=7), np.arange(5.0), np.ones((2, 3), order="F"), np.float32(3), np.array(["a", "bb"]),
    np.array([b"abc"]), np.array([True]), np.arange(3, dtype=">i4"), np.array([{"a": 1}, None], dtype=object),
    {str(i): np.full(3, i) for i in range(300)},
]  # fmt: skip


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "value", [pytest.param(value, id=f"{type(value).__name__}{i}") for i, value in enumerate(BENIGN)]
)
def test_plain_values_and_arrays_come_back_without_further_names(tmp_path: Path, value: Any, protocol: int) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
    found = read_pickle(tmp_path / "model.pkl", allow_pickle=NOTHING)
    assert type(found) is type(value)
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(
            found, value, strict=value.dtype.isnative
        )  # numpy brings others into its own order
    else:
        assert pickle.dumps(found) == pickle.dumps(value)


def test_an_object_is_pickled_only_by_who_allows_its_names_and_loaded_only_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing that a framework here can save"):
        save(Threshold(0.5), tmp_path)
    with pytest.raises(InvalidInputError, match=rf"cannot be registered as a pickle.*{NAME}, which is not allowed"):
        save(Threshold(0.5), tmp_path, allow_pickle=NOTHING)
    assert list(tmp_path.iterdir()) == []
    saved = save(Threshold(0.5), tmp_path, allow_pickle={NAME})
    assert (saved.framework, saved.info) == (CUSTOM, {"pickle": [NAME]})
    with pytest.raises(RefusedError, match=rf"load with allow_pickle={{'{NAME}'}}"):
        load(tmp_path, framework=CUSTOM, info=saved.info)
    with pytest.raises(RefusedError, match=f"it uses {NAME}, which is not allowed"):
        load(tmp_path, framework=CUSTOM, info=saved.info, allow_pickle=NOTHING)
    found = load(tmp_path, framework=CUSTOM, info=saved.info, allow_pickle={NAME})
    assert isinstance(found, Threshold)
    assert found.at == 0.5


def test_what_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be pickled.*Write a Saver"):
        save((i for i in range(1)), tmp_path, allow_pickle=NOTHING)
    assert list(tmp_path.iterdir()) == []


def test_without_the_opt_in_a_pickle_stays_bytes(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(ATTACKS["GLOBAL"])
    assert load(tmp_path, framework=CUSTOM, info={}) == ATTACKS["GLOBAL"]


def test_a_name_inside_a_class_is_allowed_only_as_such() -> None:
    data = pickle.dumps(Threshold.Inner, protocol=4)
    inner = f"{Threshold.__module__}:Threshold.Inner"
    assert check_pickle(data, allow_pickle={inner}) == {inner}
    for other in (NAME, f"{NAME}.Inner"):
        with pytest.raises(RefusedError, match=f"it uses {inner}, which is not allowed"):
            check_pickle(data, allow_pickle={other})


@pytest.mark.parametrize(
    "allowed", ["os.system", {"*"}, {"os.*"}, {""}, {"system"}, {1}, {"os:system"}, {"os..system"}, ["os.system"]]
)
def test_a_list_that_names_nothing_is_refused(allowed: Any) -> None:
    with pytest.raises(InvalidInputError, match="There is no word for all of them"):
        check_pickle(pickle.dumps(1), allow_pickle=allowed)


def test_what_the_caller_allows_runs_and_its_failure_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(program(name("os", "listdir"), text("/no/such/folder"), b"\x85R"))
    with pytest.raises(RefusedError, match=r"reading it failed .FileNotFoundError"):
        read_pickle(tmp_path / "model.pkl", allow_pickle={"os.listdir"})


def test_joblib_files_are_read_where_they_are_pickles_and_refused_where_they_are_more(tmp_path: Path) -> None:
    joblib.dump({"a": 1}, tmp_path / "model.joblib")
    assert load(tmp_path, framework=ModelFramework.SKLEARN, info={}, allow_pickle=NOTHING) == {"a": 1}
    wrapper = "joblib.numpy_pickle.NumpyArrayWrapper"
    for options, why in (({}, "NumpyArrayWrapper"), ({"compress": 3}, "compressed")):
        joblib.dump({"a": np.arange(1000.0)}, tmp_path / "model.joblib", **options)
        with pytest.raises(RefusedError, match=why):
            load(tmp_path, framework=ModelFramework.SKLEARN, info={}, allow_pickle=NOTHING)
        with pytest.raises(RefusedError):
            load(tmp_path, framework=ModelFramework.SKLEARN, info={}, allow_pickle={wrapper})


def test_a_zip_under_a_pickles_name_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("data.pkl", ATTACKS["GLOBAL"])
    (tmp_path / "model.pkl").write_bytes(packed.getvalue())
    with pytest.raises(RefusedError, match="it is compressed or an archive"):
        read_pickle(tmp_path / "model.pkl", allow_pickle=NOTHING)


def test_one_pickle_of_several_is_not_chosen(tmp_path: Path) -> None:
    for file in ("a.pkl", "b.pkl"):
        (tmp_path / file).write_bytes(pickle.dumps(1))
    with pytest.raises(RefusedError, match=r"holds 2 pickles \(a\.pkl, b\.pkl\)"):
        load(tmp_path, framework=CUSTOM, info={}, allow_pickle=NOTHING)


def test_a_pickle_that_could_not_be_loaded_is_told_when_its_path_is_registered(tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(ATTACKS["STACK_GLOBAL"])
    with pytest.raises(RefusedError, match=r"it uses os\.system, which is not allowed"):
        examine(file, allow_pickle=NOTHING)
    with pytest.raises(RefusedError, match=r"it uses os\.system, which is not allowed"):
        examine(tmp_path, allow_pickle=NOTHING)
    assert examine(file).framework is CUSTOM


def test_the_check_knows_every_opcode_that_there_is() -> None:
    known = {code.name for code in pickletools.opcodes}
    refused = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
    from registry.frameworks import pickle_program

    assert known - refused == pickle_program.OPCODES  # a new opcode is for a person to decide on
