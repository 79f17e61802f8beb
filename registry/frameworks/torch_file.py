"""Reading ``.pt`` files: tensors and plain values only, and no more of them than the file holds bytes for.

Nothing else in modelway calls ``torch.load``. ``weights_only`` is always given: left out, the environment could switch
it off. There is no second try without it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from registry.errors import RefusedError
from registry.frameworks.archive import check_archive

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_tensors(file: Path) -> Any:
    """Return what ``torch.save`` put into ``file``, on the CPU: as a rule a dict of tensors.

    Raises:
        RefusedError: It holds objects other than tensors and plain values, is damaged, compressed or of torch's format
            before 1.6, or its tensors claim more elements than it has bytes for.
        FileNotFoundError: There is no such file.
    """
    check_archive(file)
    try:
        loaded = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise _needs_more(file, error) from error
    except OSError:
        raise
    except Exception as error:
        # A damaged pickle can raise anything: KeyError, EOFError, RuntimeError, ... were seen.
        raise _refused(file, f"torch cannot read it ({type(error).__name__}: {_first_line(error)})") from error
    for tensor in _tensors_in(loaded):
        _check_claim(file, tensor)
    return loaded


def _tensors_in(loaded: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor in nested containers, looking into each once: a small file can refer to one many times."""
    seen: set[int] = set()
    waiting = [loaded]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        # torch restores attributes too, as those of the OrderedDict that state_dict() gives.
        waiting += getattr(value, "__dict__", {}).values()


def _check_claim(file: Path, tensor: torch.Tensor) -> None:
    """Refuse tensors that stand for more than is in the file: 1.5 kB can load as 10^9 elements of stride 0."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise _refused(file, f"it holds a tensor of layout {tensor.layout} on {tensor.device}, not a dense one")
    claimed_bytes = tensor.numel() * tensor.element_size()
    held_bytes = tensor.untyped_storage().nbytes()
    if claimed_bytes > held_bytes:
        shape = tuple(tensor.shape)
        raise _refused(file, f"a tensor of shape {shape} claims {claimed_bytes} bytes, and the file holds {held_bytes}")


def _needs_more(file: Path, error: pickle.UnpicklingError) -> RefusedError:
    # torch's own message advises weights_only=False, which is what this refuses.
    names = sorted(set(_GLOBAL.findall(str(error))))
    what = f"needs {', '.join(names)}" if names else "needs objects other than tensors"
    return _refused(file, f"it {what}, and loading such objects can run any code that is in the file")


def _refused(file: Path, why: str) -> RefusedError:
    return RefusedError(
        f"{file} was not loaded: {why}. Only tensors and plain values are read (weights_only=True). Where you trust "
        "its origin, save the weights alone, torch.save(model.state_dict(), path), and register that."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
