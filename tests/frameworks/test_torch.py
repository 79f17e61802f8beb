"""torch modules go into files and come back, and nothing else comes out of a file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from registry.errors import ArtifactNotFoundError, InvalidInputError, NotFoundError, RefusedError
from registry.frameworks import ModelFramework, SavedModel, load, read_samples, save
from registry.signature import Signature, TensorSpec

TORCH = ModelFramework.PYTORCH


def scorer(networks: ModuleType, classes: int = 2, seed: int = 5) -> Any:
    torch.manual_seed(seed)
    return networks.Scorer(classes)


def folder(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_module_comes_back_with_its_class_its_arguments_and_its_weights(
    tmp_path: Path, networks: ModuleType, samples: NDArray[Any]
) -> None:
    network = scorer(networks, classes=4)
    saved = save(network, tmp_path)
    assert saved == SavedModel(framework=TORCH, info={"class": "networks:Scorer", "arguments": {"classes": 4}})
    loaded = load(tmp_path, framework=TORCH, info=saved.info)
    assert type(loaded) is networks.Scorer
    assert not loaded.training
    rows = torch.from_numpy(samples)
    assert torch.equal(loaded(rows), network.eval()(rows))


def test_the_same_weights_give_the_same_bytes(tmp_path: Path, networks: ModuleType, samples: NDArray[Any]) -> None:
    for name in ("one", "two"):
        save(scorer(networks), folder(tmp_path, name), samples=samples)
    save(scorer(networks, seed=6), folder(tmp_path, "other"), samples=samples)
    for file in ("model.pt", "samples.npz"):
        one, two, other = ((tmp_path / name / file).read_bytes() for name in ("one", "two", "other"))
        assert one == two
        assert one != other


def test_saving_and_loading_change_neither_the_module_nor_what_is_drawn_next(
    tmp_path: Path, networks: ModuleType, samples: NDArray[Any]
) -> None:
    network = scorer(networks).train()
    network.layers[1].eval()
    before = torch.random.get_rng_state()
    saved = save(network, tmp_path, samples=samples)
    load(tmp_path, framework=TORCH, info=saved.info)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.training
    assert not network.layers[1].training


def test_at_most_64_samples_are_kept_with_the_modules_own_outputs_and_they_reproduce(
    tmp_path: Path, networks: ModuleType, samples: NDArray[Any]
) -> None:
    saved = save(scorer(networks), tmp_path, samples=samples)
    kept = read_samples(tmp_path)
    assert kept is not None
    inputs, outputs = kept
    assert np.array_equal(inputs, samples[:64])
    loaded = load(tmp_path, framework=TORCH, info=saved.info)
    with torch.inference_mode():
        assert np.array_equal(loaded(torch.from_numpy(inputs)).numpy(), outputs)
    assert saved.signature == Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=(-1, 3)),),
        outputs=(TensorSpec(name="output", dtype="float32", shape=(-1, 2)),),
    )


def test_without_samples_there_are_none(tmp_path: Path, networks: ModuleType) -> None:
    assert save(scorer(networks), tmp_path).signature is None
    assert read_samples(tmp_path) is None


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path: Path, networks: ModuleType) -> None:
    saved = save(networks.Tied(), tmp_path)
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        assert sum("/data/" in name for name in archive.namelist()) == 1
    loaded = load(tmp_path, framework=TORCH, info=saved.info)
    assert loaded.first.weight is loaded.second.weight


def test_bare_tensors_come_back_as_a_dict_without_what_they_were_cut_from(tmp_path: Path) -> None:
    whole = torch.arange(100_000.0)
    save({"part": whole[:3], "wide": torch.ones(1).expand(5)}, tmp_path)
    assert (tmp_path / "model.pt").stat().st_size < 4000
    loaded = load(tmp_path, framework=TORCH, info={})
    assert loaded["part"].tolist() == [0, 1, 2]
    assert loaded["wide"].tolist() == [1] * 5


def test_a_class_inside_a_function_is_refused_with_the_mend(tmp_path: Path) -> None:
    class Local(torch.nn.Linear):
        pass

    with pytest.raises(InvalidInputError, match=r"(?s)Local.*another process.*importable module") as refusal:
        save(Local(2, 2), tmp_path)
    assert "hyperparameters" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_the_running_script_is_refused(
    tmp_path: Path, networks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks.Scorer, "__module__", "__main__")
    with pytest.raises(InvalidInputError, match="__main__:Scorer cannot be imported by another process"):
        save(scorer(networks), tmp_path)


def test_a_class_that_only_shares_its_name_with_what_is_imported_is_refused(
    tmp_path: Path, networks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = scorer(networks)
    monkeypatch.setattr(networks, "Scorer", type("Scorer", (networks.Scorer,), {"__module__": "networks"}))
    with pytest.raises(InvalidInputError, match="gives another class"):
        save(network, tmp_path)


def test_a_constructor_whose_arguments_are_not_kept_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"(?s)in_features.*give it an attribute `hyperparameters`"):
        save(torch.nn.Linear(3, 2), tmp_path)


def test_hyperparameters_that_json_cannot_hold_are_refused(tmp_path: Path, networks: ModuleType) -> None:
    network = scorer(networks)
    for wrong in ({"classes": float("nan")}, {"classes": {1, 2}}, ["classes"]):
        network.hyperparameters = wrong
        with pytest.raises(InvalidInputError, match=r"Scorer\.hyperparameters must be a dict of JSON values"):
            save(network, tmp_path)


def test_hyperparameters_that_build_another_module_are_refused(tmp_path: Path, networks: ModuleType) -> None:
    network = scorer(networks, classes=4)
    network.hyperparameters = {"classes": 2}
    with pytest.raises(InvalidInputError, match="size mismatch"):
        save(network, tmp_path)


def test_weights_of_another_dtype_than_the_class_makes_are_refused(tmp_path: Path, networks: ModuleType) -> None:
    with pytest.raises(InvalidInputError, match=r"float16 in the file and torch\.float32 in the class"):
        save(scorer(networks).half(), tmp_path)


def test_a_module_that_answers_otherwise_when_rebuilt_is_refused(
    tmp_path: Path, networks: ModuleType, samples: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInputError, match="gives other outputs"):
        save(networks.Forgetful(factor=3.0), tmp_path, samples=samples)


@pytest.mark.parametrize("shape", [(0, 3), (4, 7), ()])
def test_samples_that_do_not_fit_are_refused(tmp_path: Path, networks: ModuleType, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="samples"):
        save(scorer(networks), tmp_path, samples=np.zeros(shape, np.float32))


def test_samples_of_a_module_with_two_outputs_are_refused(
    tmp_path: Path, networks: ModuleType, samples: NDArray[Any]
) -> None:
    with pytest.raises(InvalidInputError, match=r"Pair gives a tuple.*Leave samples out"):
        save(networks.Pair(), tmp_path, samples=samples)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        """Say which."""
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker, place = tmp_path / "marker", folder(tmp_path, "model")
    torch.save({"weights": torch.ones(2), "evil": Payload(marker)}, place / "model.pt")
    for info in ({}, {"class": "networks:Scorer", "arguments": {}}):
        with pytest.raises(RefusedError, match=r"any code.*state_dict") as refusal:
            load(place, framework=TORCH, info=info)
        assert "posix.mkdir" in str(refusal.value)
        assert "weights_only=False" not in str(refusal.value)
    assert not marker.exists()
    assert torch.load(place / "model.pt", weights_only=False)["evil"] is None
    assert marker.exists(), "the payload works, so its absence above proves something"


def test_weights_only_does_not_rest_on_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, place = tmp_path / "marker", folder(tmp_path, "model")
    torch.save(Payload(marker), place / "model.pt")
    with pytest.raises(RefusedError):
        load(place, framework=TORCH, info={})
    assert not marker.exists()


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(RefusedError, match=r"it needs torch\.nn\.modules\.linear\.Linear.*save the weights alone"):
        load(tmp_path, framework=TORCH, info={})


def _empty(rows: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.empty((2, 0)), torch.empty(0), (rows, rows), check_invariants=True)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param({"a": torch.zeros(1).expand(10**9)}, id="stride 0"),
        pytest.param({"a": [({"b": torch.zeros(4).as_strided((1000, 1000), (0, 0))},)]}, id="nested"),
        pytest.param({"a": torch.empty(10**9, device="meta")}, id="no bytes at all"),
        pytest.param({"a": _empty(10**6)}, id="sparse"),
    ],
)
def test_tensors_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path, bomb: dict[str, Any]) -> None:
    torch.save(bomb, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size < 3000
    with pytest.raises(RefusedError, match=r"claims \d+ bytes, and the file holds|not a dense one"):
        load(tmp_path, framework=TORCH, info={})


def test_a_compressed_archive_is_refused_before_it_inflates(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "big.pt")
    with (
        zipfile.ZipFile(tmp_path / "big.pt") as big,
        zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in big.namelist():
            small.writestr(name, big.read(name))
    (tmp_path / "big.pt").unlink()
    with pytest.raises(RefusedError, match="would inflate to 168 bytes from"):
        load(tmp_path, framework=TORCH, info={})


@pytest.mark.parametrize("data", [b"", b"hello world", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(data)
    with pytest.raises(RefusedError, match=r"model\.pt was not loaded: it is no archive"):
        load(tmp_path, framework=TORCH, info={})


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02nonsense")
        archive.writestr("model/version", b"3\n")
    with pytest.raises(RefusedError, match="was not loaded"):
        load(tmp_path, framework=TORCH, info={})


def test_a_recorded_class_that_is_no_module_is_not_called(tmp_path: Path, networks: ModuleType) -> None:
    save({"a": torch.ones(1)}, tmp_path)
    marker = tmp_path / "marker"
    for name, arguments in (("os:mkdir", {"path": str(marker)}), ("networks:NOT_A_MODULE", {})):
        with pytest.raises(RefusedError, match=r"is no torch\.nn\.Module"):
            load(tmp_path, framework=TORCH, info={"class": name, "arguments": arguments})
    assert networks.NOT_A_MODULE is dict
    assert not marker.exists()


@pytest.mark.parametrize("name", ["no_such_module_here:Net", "networks:Missing", "networks", ":Net"])
def test_a_class_that_cannot_be_imported_is_told_with_the_mend(tmp_path: Path, networks: ModuleType, name: str) -> None:
    saved = save(scorer(networks), tmp_path)
    with pytest.raises(NotFoundError, match=r"cannot be imported here.*PYTHONPATH"):
        load(tmp_path, framework=TORCH, info={**saved.info, "class": name})


def test_weights_that_no_longer_fit_the_class_are_refused(tmp_path: Path, networks: ModuleType) -> None:
    saved = save(scorer(networks), tmp_path)
    with pytest.raises(RefusedError, match=r"size mismatch.*as it was when the model was registered"):
        load(tmp_path, framework=TORCH, info={**saved.info, "arguments": {"classes": 9}})


def test_a_file_registered_by_its_path_loads_as_the_tensors_in_it(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state": {"w": torch.ones(2)}}, tmp_path / "checkpoint.pth")
    loaded = load(tmp_path, framework=TORCH, info={})
    assert loaded["epoch"] == 3
    assert loaded["state"]["w"].tolist() == [1, 1]


def test_a_folder_of_several_checkpoints_is_given_as_it_is(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save({"w": torch.ones(2)}, tmp_path / name)
    assert load(tmp_path, framework=TORCH, info={}) == tmp_path


def test_an_empty_folder_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match="holds no files"):
        load(tmp_path, framework=TORCH, info={})
