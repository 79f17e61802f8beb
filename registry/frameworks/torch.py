"""torch modules: their weights as ``model.pt``, their class and its arguments by name, and the proof that both fit.

A ``torch.export`` program is a file of its own, ``model.pt2``, that needs no class; it is loaded as a module too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from registry.errors import InvalidInputError, NotFoundError, RefusedError
from registry.frameworks import safetensors
from registry.frameworks.files import SAMPLES_NAME, inside
from registry.frameworks.kinds import ModelFramework
from registry.frameworks.samples import checked_samples, write_samples
from registry.frameworks.saved import SavedModel
from registry.frameworks.torch_file import read_tensors
from registry.frameworks.torch_program import FILE_NAME as PROGRAM_NAME
from registry.frameworks.torch_program import read_program, signature_of, write_program

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE_NAME = "model.pt"


def save(model: object, folder: Path, *, samples: NDArray[Any] | None = None) -> SavedModel:
    """Write a module or a mapping of tensors as ``model.pt``, a program as ``model.pt2``; the same in, the same bytes.

    A module's class is kept as ``module:qualname``, with its attribute ``hyperparameters`` (a dict of JSON values, the
    constructor's keyword arguments) if it has one. It is rebuilt from that at once, to prove that it can be.

    Raises:
        InvalidInputError: Nothing of torch's, it could not be rebuilt, or the samples do not go through it.
    """
    if isinstance(model, torch.nn.Module):
        return _save_module(model, folder, samples)
    if isinstance(model, torch.export.ExportedProgram):
        return _save_program(model, folder, samples)
    if not isinstance(model, Mapping):
        raise InvalidInputError(f"a torch module or a mapping of tensors is asked for; found {type(model).__name__}.")
    if samples is not None:
        raise InvalidInputError("samples were given with bare tensors, which cannot be run: give the module itself.")
    torch.save(_owned(dict(model)), folder / FILE_NAME)
    _prove(folder, FILE_NAME, {}, type(model))
    return SavedModel(framework=ModelFramework.PYTORCH)


def load(folder: Path, files: tuple[str, ...], info: Mapping[str, Any]) -> Any:
    """Return the module in evaluation mode, on the CPU; without a class in ``info`` what the one file holds.

    That is the module of a program (``.pt2``), or the tensors of any other file. Beside golden samples there must be
    no second file; where there is, ``folder`` is given.

    Raises:
        RefusedError: The file is not safe to load, the class is no module, or the weights do not fit it.
        NotFoundError: The class cannot be imported here.
    """
    if "class" in info:
        return _rebuild(info, read_tensors(folder / FILE_NAME))
    found = [name for name in files if name != SAMPLES_NAME]
    if len(found) != 1:
        return folder
    file = inside(folder, found[0])
    match file.suffix.lower():
        case ".pt2":
            return read_program(file).module()
        case ".safetensors":
            return safetensors.read_tensors(file, as_torch=True)
    return read_tensors(file)


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, and every submodule back to the mode that it was in (frozen ones stay frozen).

    The module of a program keeps the mode that it was exported in.
    """
    modes = [(part, part.training) for part in module.modules()]
    with contextlib.suppress(NotImplementedError):
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def predictor(module: torch.nn.Module) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return the module as a function of arrays, (n, ...) to (n, ...), in the mode and on the device that it is in.

    The function raises InvalidInputError where the module gives anything but one tensor.
    """
    weights = next(module.parameters(), None)
    device = torch.device("cpu") if weights is None else weights.device

    def predict(inputs: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            found = module(torch.from_numpy(np.array(inputs, order="C")).to(device))
        if not isinstance(found, torch.Tensor):
            raise InvalidInputError(
                f"{type(module).__name__} gives a {type(found).__name__}, and only modules with one tensor out can be "
                "run on samples. Leave samples out."
            )
        outputs: NDArray[Any] = found.cpu().numpy()
        return outputs

    return predict


def run(module: torch.nn.Module, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return all tensors that a module gives for these inputs, in order, from tuples, lists and dicts as well."""
    weights = next(module.parameters(), None)
    device = torch.device("cpu") if weights is None else weights.device
    with evaluating(module), torch.inference_mode():
        found = module(*(torch.from_numpy(np.array(array, order="C")).to(device) for array in inputs))
    return [part.cpu().numpy() for part in _tensors_of(found)]


def _tensors_of(found: Any) -> Iterator[torch.Tensor]:
    match found:
        case torch.Tensor():
            yield found
        case Mapping():
            for part in found.values():
                yield from _tensors_of(part)
        case tuple() | list():
            for part in found:
                yield from _tensors_of(part)
        case _:
            raise InvalidInputError(f"the module gives a {type(found).__name__} among its outputs, and no tensor.")


def _save_module(module: torch.nn.Module, folder: Path, samples: NDArray[Any] | None) -> SavedModel:
    info = {"class": _class_name(type(module)), "arguments": _arguments(module)}
    inputs = None if samples is None else checked_samples(samples)
    torch.save(_owned(module.state_dict()), folder / FILE_NAME)
    rebuilt = _prove(folder, FILE_NAME, info, type(module))
    if inputs is None:
        return SavedModel(framework=ModelFramework.PYTORCH, info=info)
    outputs = _outputs(module, inputs)
    _compare(outputs, _outputs(rebuilt, inputs), type(module))
    signature = write_samples(folder, inputs, outputs)
    return SavedModel(framework=ModelFramework.PYTORCH, info=info, signature=signature)


def _save_program(program: torch.export.ExportedProgram, folder: Path, samples: NDArray[Any] | None) -> SavedModel:
    write_program(program, folder / PROGRAM_NAME)
    rebuilt = _prove(folder, PROGRAM_NAME, {}, type(program))
    if samples is not None:
        inputs = checked_samples(samples)
        outputs = _outputs(program.module(), inputs)
        _compare(outputs, _outputs(rebuilt, inputs), type(program))
        write_samples(folder, inputs, outputs)
    return SavedModel(framework=ModelFramework.PYTORCH, signature=signature_of(program))


def _class_name(kind: type[torch.nn.Module]) -> str:
    name = f"{kind.__module__}:{kind.__qualname__}"
    # Modules in dunder names (__main__, __mp_main__, Prefect's __prefect_loader__) are others in the next process.
    if kind.__module__.startswith("__") or "<locals>" in kind.__qualname__:
        raise _not_rebuilt(kind, f"{name} cannot be imported by another process")
    return name


def _arguments(module: torch.nn.Module) -> dict[str, Any]:
    given = getattr(module, "hyperparameters", {})
    try:
        # Through JSON once: what is proved to rebuild the module is what will be read back.
        arguments = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidInputError(
            f"{type(module).__name__}.hyperparameters must be a dict of JSON values, the keyword arguments of its "
            f"constructor; found {given!r}."
        )
    return arguments


def _owned(state: dict[str, Any]) -> dict[str, Any]:
    """Put every tensor of ``state`` on the CPU, with a storage of its own size.

    A view would drag the whole storage that it looks into along, an expanded one would be refused when read. Tied
    weights stay tied. The dict is the one given: torch keeps versions of the modules in an attribute of it.
    """
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            tensor = value.detach().cpu().contiguous()
            whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            state[name] = tensor if whole else tensor.clone()
    return state


def _prove(folder: Path, name: str, info: Mapping[str, Any], kind: type) -> Any:
    try:
        rebuilt = load(folder, (name,), info)
    except (RefusedError, NotFoundError) as error:
        raise _not_rebuilt(kind, str(error)) from error
    if info and type(rebuilt) is not kind:
        raise _not_rebuilt(kind, f"importing {info['class']} gives another class than the model's")
    return rebuilt


def _not_rebuilt(kind: type, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"a {kind.__name__} cannot be registered, because it could not be built again from its files: {why} "
        "To mend it: define the class at the top of an importable module (not in the script that runs, not in a "
        "function), and give it an attribute `hyperparameters`: the dict of keyword arguments that its constructor was "
        "called with, JSON values all."
    )


def _rebuild(info: Mapping[str, Any], state: Any) -> torch.nn.Module:
    kind, arguments = _import(info["class"]), info.get("arguments", {})
    try:
        # The constructor draws initial weights, and loading must not change what the caller draws next.
        with torch.random.fork_rng(devices=[]):
            module = kind(**arguments)
        module.load_state_dict(state, strict=True)
    except Exception as error:
        # A constructor is the user's own code and may raise anything.
        raise _does_not_fit(info, f"{type(error).__name__}: {error}") from error
    for name, tensor in module.state_dict().items():
        # Copied into what the constructor made: another dtype would have been cast without a word.
        if isinstance(tensor, torch.Tensor) and tensor.dtype != state[name].dtype:
            raise _does_not_fit(info, f"{name} is {state[name].dtype} in the file and {tensor.dtype} in the class")
    return module.eval()


def _import(name: str) -> type[torch.nn.Module]:
    module, _, qualname = str(name).partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotFoundError(
            f"the class {name} of this model cannot be imported here: {error}. Install the package that defines it, or "
            "put its folder on PYTHONPATH."
        ) from error
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise RefusedError(
            f"{name} is no torch.nn.Module, and nothing else is called to load a model. Register it again."
        )
    return found


def _does_not_fit(info: Mapping[str, Any], why: str) -> RefusedError:
    return RefusedError(
        f"{info['class']} cannot be built with the arguments {info.get('arguments', {})} and given the weights of "
        f"{FILE_NAME}: {why}. The class must be as it was when the model was registered."
    )


def _outputs(module: torch.nn.Module, inputs: NDArray[Any]) -> NDArray[Any]:
    try:
        with evaluating(module):
            return predictor(module)(inputs)
    except InvalidInputError:
        raise
    except Exception as error:
        # forward() is the user's own code and may raise anything.
        raise InvalidInputError(
            f"samples of shape {inputs.shape} and dtype {inputs.dtype} do not go through {type(module).__name__}: "
            f"{error}. Give inputs as the module takes them, or leave samples out."
        ) from error


def _compare(original: NDArray[Any], rebuilt: NDArray[Any], kind: type) -> None:
    if original.shape != rebuilt.shape or not np.allclose(original, rebuilt, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise _not_rebuilt(
            kind, "rebuilt it gives other outputs for the samples, so it keeps something beside weights."
        )
