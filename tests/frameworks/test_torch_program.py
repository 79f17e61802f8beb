"""``torch.export`` programs go into files and come back as modules; a file that would run code does not."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks import ModelFramework, load, read_samples, save
from registry.signature import Signature, TensorSpec

TORCH = ModelFramework.PYTORCH
DESCRIPTION = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
Change: TypeAlias = Callable[[Any], None]


class Linear(torch.nn.Module):
    """Has a parameter, a buffer and a constant."""

    def __init__(self) -> None:
        """Build them."""
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.register_buffer("offset", torch.ones(2))
        self.constant = torch.arange(3.0)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(rows + self.constant) + self.offset
        return scores


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    torch.manual_seed(3)
    return torch.export.export(Linear(), (torch.randn(4, 3),), dynamic_shapes=({0: torch.export.Dim("batch", max=64)},))


@pytest.fixture(scope="module")
def original(program: torch.export.ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file as torch itself writes it, with stack traces and pickled example inputs."""
    file = tmp_path_factory.mktemp("original") / "model.pt2"
    torch.export.save(program, file)
    return file


def loaded(folder: Path) -> Any:
    return load(folder, framework=TORCH, info={})


def changed(original: Path, folder: Path, member: str, change: Change) -> Path:
    """Write the file again with one of its JSON members changed."""
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(folder / "model.pt2", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == f"model/{member}":
                content = json.loads(data)
                change(content)
                data = json.dumps(content).encode()
            target.writestr(name, data)
    return folder


def added(original: Path, folder: Path, name: str, data: bytes) -> Path:
    """Write the file again with a member more, or with another content."""
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(folder / "model.pt2", "w") as target:
        for known in source.namelist():
            if known != name:
                target.writestr(known, source.read(known))
        target.writestr(name, data)
    return folder


def test_a_program_comes_back_as_a_module_that_needs_no_class(
    tmp_path: Path, program: torch.export.ExportedProgram, samples: NDArray[Any]
) -> None:
    saved = save(program, tmp_path, samples=samples)
    assert saved.framework is TORCH
    assert saved.signature == Signature(
        inputs=(TensorSpec(name="rows", dtype="float32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="output", dtype="float32", shape=(-1, 2)),),
    )
    module = load(tmp_path, framework=saved.framework, info=saved.info)
    rows = torch.from_numpy(samples[:5])
    assert isinstance(module, torch.nn.Module)
    assert torch.equal(module(rows), program.module()(rows))
    kept = read_samples(tmp_path)
    assert kept is not None
    assert np.allclose(module(torch.from_numpy(kept[0])).detach().numpy(), kept[1])


def test_a_program_with_branches_several_inputs_and_a_dict_out_comes_back(tmp_path: Path, networks: ModuleType) -> None:
    free = torch.export.Dim.DYNAMIC
    rows, more = torch.randn(4, 3), torch.randn(5)
    program = torch.export.export(networks.Two(), (rows, more), dynamic_shapes=({0: free}, {0: free}))
    saved = save(program, tmp_path)
    assert saved.signature is not None
    assert [one.shape for one in saved.signature.inputs] == [(-1, 3), (-1,)]
    assert [(one.name, one.shape) for one in saved.signature.outputs] == [("output_0", (-1, 6)), ("output_1", (-1, 3))]
    module = loaded(tmp_path)
    for sign in (1, -1):
        found, wanted = module(rows[:3], more.abs() * sign), networks.Two()(rows[:3], more.abs() * sign)
        assert torch.equal(found["sum"], wanted["sum"])
        assert torch.equal(found["chosen"][0], wanted["chosen"][0])


def test_what_is_saved_has_no_pickle_no_inputs_and_no_paths_and_is_the_same_each_time(
    tmp_path: Path, program: torch.export.ExportedProgram, original: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save(program, tmp_path / name)
    one, two = ((tmp_path / name / "model.pt2").read_bytes() for name in ("one", "two"))
    assert one == two
    assert Path(__file__).name.encode() in original.read_bytes()
    assert Path(__file__).name.encode() not in one
    with zipfile.ZipFile(tmp_path / "one" / "model.pt2") as archive:
        assert archive.read("model/data/sample_inputs/model.pt") == b""


def test_a_file_that_torch_wrote_is_read_without_its_pickled_inputs(tmp_path: Path, original: Path) -> None:
    evil = (
        b"\x80\x02cos\nmkdir\n" + b"X" + len(str(tmp_path / "m")).to_bytes(4, "little") + str(tmp_path / "m").encode()
    )
    evil += b"\x85R."
    folder = added(original, tmp_path, "model/data/sample_inputs/model.pt", evil)
    module = loaded(folder)
    assert module(torch.ones(2, 3)).shape == (2, 2)
    assert not (tmp_path / "m").exists()
    pickle.loads(evil)  # noqa: S301 - that it works proves something of the line before
    assert (tmp_path / "m").exists()


def _node(target: str) -> Change:
    return lambda model: model["graph_module"]["graph"]["nodes"][0].update(target=target)


def _input_name(name: str) -> Change:
    def change(model: Any) -> None:
        text = json.dumps(model["graph_module"]).replace('"name": "rows"', json.dumps({"name": name})[1:-1])
        model["graph_module"] = json.loads(text)

    return change


def _expression(text: str) -> Change:
    def change(model: Any) -> None:
        sizes = model["graph_module"]["graph"]["tensor_values"]["rows"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = text

    return change


def _tree(tree: Any) -> Change:
    def change(model: Any) -> None:
        model["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, tree])

    return change


EVIL = "__import__('os').mkdir('evil')"
ENUM = json.dumps([{"__enum__": True, "fqn": "antigravity:X", "name": "x"}])
BRANCH: dict[str, Any] = {"type": "builtins.list", "context": "null", "children_spec": []}
FACTORY = {"default_factory_module": "os", "default_factory_name": "system", "dict_context": []}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(_node("torch.hub.load"), "it calls 'torch.hub.load'", id="any function of torch"),
        pytest.param(_node("torch.os.system"), "it calls 'torch.os.system'", id="any module that torch imports"),
        pytest.param(_node("torch.ops.aten.from_file.default"), "it calls", id="an operator that opens files"),
        pytest.param(_node("torch.ops.aten.__class__.mro"), "it calls", id="no operator"),
        pytest.param(_node("torch.ops.load_library"), "it calls", id="a library"),
        pytest.param(_node("_operator.methodcaller"), "it calls", id="any method"),
        pytest.param(_node("_operator.pow"), "it calls", id="numbers without end"),
        pytest.param(_node("#evil:op"), "it calls", id="an extension"),
        pytest.param(_input_name(f"x={EVIL}"), "is no name", id="code as the name of an input"),
        pytest.param(_input_name(f"x):\n    {EVIL}\n#"), "is no name", id="code after the name of an input"),
        pytest.param(_input_name("__class__"), "is no name", id="a name with meaning"),
        pytest.param(_expression(EVIL), "is no formula", id="code as a size"),
        pytest.param(_expression(f"Symbol({EVIL!r})"), "is no formula", id="code as the name of a size"),
        pytest.param(_expression("Symbol('s0').__class__"), "is no formula", id="an attribute of a size"),
        pytest.param(_expression("Lambda(Symbol('s0'), 1)"), "is no formula", id="a function of sympy"),
        pytest.param(_expression("Pow(Integer(9), Pow(Integer(9), Integer(99)))"), "is no formula", id="no end"),
        pytest.param(_expression("Integer(9)**9**99"), "is no formula", id="a size that is computed"),
        pytest.param(_expression("Add(" * 900), "is no formula", id="a broken size"),
        pytest.param(_tree({**BRANCH, "context": ENUM}), "is no tuple", id="an enum"),
        pytest.param(
            _tree({**BRANCH, "type": "collections.defaultdict", "context": FACTORY}), "is no tuple", id="a factory"
        ),
        pytest.param(lambda model: model["graph_module"].update(as_custom_obj={}), "no plain tensor", id="an object"),
        pytest.param(lambda model: model.update({EVIL: 1}), "no plain tensor", id="code as a key"),
    ],
)  # fmt: skip
def test_a_description_that_is_more_than_a_computation_is_refused(
    tmp_path: Path, original: Path, change: Change, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedError, match=why):
        loaded(changed(original, tmp_path, DESCRIPTION, change))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_guards_and_notes_are_source_and_are_left_out(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def change(model: Any) -> None:
        model["guards_code"] = [EVIL]
        for node in model["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {"stack_trace": f'File "x", line 1, in y\n    z\n{EVIL}', "source_fn_stack": f"x,{EVIL}"}

    module = loaded(changed(original, tmp_path, DESCRIPTION, change))
    assert module(torch.ones(2, 3)).shape == (2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def _weight(**changes: Any) -> Change:
    def change(config: Any) -> None:
        entry = config["config"]["layer.weight"]
        entry.update({key: value for key, value in changes.items() if key in entry})
        entry["tensor_meta"].update({key: value for key, value in changes.items() if key in entry["tensor_meta"]})

    return change


def _sizes(*sizes: int) -> list[dict[str, int]]:
    return [{"as_int": size} for size in sizes]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(_weight(use_pickle=True), "is pickled", id="a pickle"),
        pytest.param(_weight(path_name="../models/model.json"), "are not in it", id="another member"),
        pytest.param(_weight(path_name="weight_99"), "are not in it", id="a missing member"),
        pytest.param(_weight(sizes=_sizes(10**12, 1)), "claims 1000000000000 elements", id="a numel bomb"),
        pytest.param(_weight(sizes=_sizes(4, 6), strides=_sizes(0, 0)), "claims more than", id="strides of 0"),
        pytest.param(_weight(sizes=_sizes(-1)), "has no fixed shape", id="a negative size"),
        pytest.param(_weight(sizes=[{"as_expr": {"expr_str": EVIL}}]), "has no fixed shape", id="code as a size"),
        pytest.param(_weight(storage_offset={"as_int": 10**9}), "torch cannot build it", id="beyond its bytes"),
        pytest.param(lambda config: config.update(config=[]), "is not what torch", id="no list of tensors"),
    ],
)  # fmt: skip
def test_weights_that_are_not_in_the_file_as_numbers_are_refused(
    tmp_path: Path, original: Path, change: Change, why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        loaded(changed(original, tmp_path, WEIGHTS, change))


@pytest.mark.parametrize(
    "name",
    [
        "model/data/constants/custom_obj_0", "model/data/constants/opaque_obj_0", "model/data/weights/model.pt",
        "model/data/constants/model.pt", "model/data/aotinductor/model/x.so", "model/models/other.json",
        "other/models/model.json",
    ],
)  # fmt: skip
def test_compiled_code_pickles_and_strange_members_are_refused(tmp_path: Path, original: Path, name: str) -> None:
    with pytest.raises(RefusedError, match="which is compiled code, a pickle, or nothing of torch's"):
        loaded(added(original, tmp_path, name, b"content"))


def test_a_constant_that_is_an_object_is_refused(tmp_path: Path, original: Path) -> None:
    def change(config: Any) -> None:
        config["config"]["constant"]["path_name"] = "opaque_obj_0"

    with pytest.raises(RefusedError, match="are not in it"):
        loaded(changed(original, tmp_path, CONSTANTS, change))


def test_names_that_come_twice_in_a_description_are_refused(tmp_path: Path, original: Path) -> None:
    with zipfile.ZipFile(original) as archive:
        text = archive.read(f"model/{DESCRIPTION}")
    with pytest.raises(RefusedError, match="it names 'guards_code' twice"):
        loaded(added(original, tmp_path, f"model/{DESCRIPTION}", text[:-1] + b', "guards_code": ["1"]}'))


def test_an_archive_of_weights_under_a_programs_name_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "model.pt2")
    with pytest.raises(RefusedError, match=r"it has no models/model\.json"):
        loaded(tmp_path)


def test_a_program_with_an_operator_that_is_not_torchs_own_cannot_be_registered(tmp_path: Path) -> None:
    @torch.library.custom_op("modelway_tests::twice", mutates_args=())
    def twice(rows: torch.Tensor) -> torch.Tensor:
        return rows * 2

    @twice.register_fake
    def _(rows: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(rows)

    class Twice(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            doubled: torch.Tensor = twice(rows)
            return doubled

    program = torch.export.export(Twice(), (torch.ones(2, 3),))
    with pytest.raises(InvalidInputError, match=r"cannot be registered.*modelway_tests\.twice"):
        save(program, tmp_path)


def test_wrong_samples_are_refused(tmp_path: Path, program: torch.export.ExportedProgram) -> None:
    with pytest.raises(InvalidInputError, match="do not go through"):
        save(program, tmp_path, samples=np.ones((4, 9), np.float32))
