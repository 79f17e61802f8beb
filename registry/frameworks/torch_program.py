"""``torch.export`` programs: ``model.pt2``, with no pickle in it and nothing in its description that is not allowed.

``torch.export.load`` unpickles example inputs, evaluates size expressions as Python, and compiles source from names in
the file. So every program is checked word by word (``program_check``), and what torch gets to read is a copy without
pickles: only the description, cleaned, and raw numbers.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from registry.errors import InvalidInputError, RefusedError
from registry.frameworks.archive import check_archive
from registry.frameworks.program_check import LARGEST_BYTES, ProgramFaultError, cleaned_program, parsed
from registry.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE_NAME = "model.pt2"
_DESCRIPTION = "models/model.json"
_EXAMPLES = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_NUMBERS = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+")
_PLAIN = ("archive_format", "archive_version", "byteorder", ".data/version")
_LEFT_OUT = re.compile(r"\.data/.*|extra/.*|\.format_version|\.storage_alignment")
_PIECE_BYTES = 1 << 20


def write_program(program: ExportedProgram, file: Path) -> None:
    """Write a program without its example inputs, source paths and stack traces; the same program, the same bytes.

    Raises:
        InvalidInputError: It holds what ``read_program`` refuses, such as operators that are not torch's own.
    """
    with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
        whole = Path(scratch, FILE_NAME)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own format
            torch.export.save(program, whole)
        try:
            _write_clean(whole, file)
        except RefusedError as error:
            raise InvalidInputError(f"the program cannot be registered: {error}") from error


def read_program(file: Path) -> ExportedProgram:
    """Return the program in a ``.pt2`` file, whoever wrote it.

    Raises:
        RefusedError: It holds a pickle beside its example inputs, which are left out; a word of its description is of
            no allowed form; a tensor claims more than the file holds; it is damaged, or of another torch's format.
    """
    with tempfile.TemporaryDirectory(prefix="modelway-") as scratch:
        clean = Path(scratch, FILE_NAME)
        _write_clean(file, clean)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about torch's own format
                program = torch.export.load(clean)
        except Exception as error:
            # Whatever does not fit in a description ends deep inside torch, and in any error.
            raise _refused(file, f"torch cannot build it ({type(error).__name__}: {_first_line(error)})") from error
    for name, value in [*program.state_dict.items(), *program.constants.items()]:
        if isinstance(value, torch.Tensor) and _bytes_of(value) > value.untyped_storage().nbytes():
            raise _refused(file, f"the tensor {name} of shape {tuple(value.shape)} claims more than the file holds")
    return program


def signature_of(program: ExportedProgram) -> Signature:
    """Return what a program takes and gives, tensors only, by its own names; -1 where a size is free."""
    found = {node.name: node.meta.get("val") for node in program.graph.nodes}
    graph = program.graph_signature
    outputs = [str(name) for name in graph.user_outputs]
    named = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    return Signature(
        inputs=tuple(_specs({str(name): found.get(str(name)) for name in graph.user_inputs})),
        outputs=tuple(_specs({given: found.get(name) for given, name in zip(named, outputs, strict=True)})),
    )


def _specs(tensors: Mapping[str, Any]) -> Iterator[TensorSpec]:
    for name, value in tensors.items():
        if isinstance(value, torch.Tensor):
            shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
            yield TensorSpec(name=name, dtype=str(value.dtype).removeprefix("torch."), shape=shape)


def _write_clean(file: Path, to: Path) -> None:
    members = {member.filename: member for member in check_archive(file)}
    top = next((name.removesuffix(_DESCRIPTION) for name in members if name.endswith(f"/{_DESCRIPTION}")), None)
    if top is None or top.count("/") != 1:
        raise _refused(file, f"it has no {_DESCRIPTION}, which torch.export.save writes")
    inner = {name.removeprefix(top): member for name, member in members.items() if name.startswith(top)}
    strange = [name for name in inner if not _is_known(name)] + [name for name in members if not name.startswith(top)]
    if strange:
        raise _refused(file, f"it holds {strange[0]!r}, which is compiled code, a pickle, or nothing of torch's")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(to, "w") as target:
        for name in sorted(inner):
            if name in {_DESCRIPTION, *_CONFIGS}:
                target.writestr(_entry(name), _clean(file, name, source, inner))
            elif name in _PLAIN or _NUMBERS.fullmatch(name):
                _copy(source, inner[name], target, _entry(name))
        target.writestr(_entry(_EXAMPLES), b"")


def _clean(file: Path, name: str, source: zipfile.ZipFile, inner: Mapping[str, zipfile.ZipInfo]) -> bytes:
    try:
        data = _small(source, inner[name])
        if name == _DESCRIPTION:
            return cleaned_program(data)
        config = parsed(data)
        _check_payloads(config, Path(name).parent.as_posix(), inner)
    except ProgramFaultError as fault:
        raise _refused(file, str(fault)) from None
    except zipfile.BadZipFile as error:
        raise _refused(file, f"{name} is damaged: {error}") from None
    return json.dumps(config).encode()


def _small(source: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > LARGEST_BYTES:
        raise ProgramFaultError(
            f"{member.filename} has {member.file_size} bytes, and more than {LARGEST_BYTES} are not read"
        )
    return source.read(member)


def _check_payloads(config: Any, folder: str, inner: Mapping[str, zipfile.ZipInfo]) -> None:
    """Refuse pickled tensors, and those whose bytes are not in the archive: torch makes zeros of any size for them."""
    match config:
        case {"config": dict() as entries} if len(config) == 1:
            pass
        case _:
            raise ProgramFaultError("its list of tensors is not what torch.export.save writes")
    for name, entry in entries.items():
        match entry:
            case {"path_name": str() as path, "use_pickle": False, "tensor_meta": {"sizes": list() as sizes}}:
                lengths: list[Any] = [size.get("as_int") for size in sizes if isinstance(size, dict)]
            case _:
                raise ProgramFaultError(f"its tensor {name[:200]!r} is pickled, or no plain tensor")
        member = inner.get(f"{folder}/{path}")
        if member is None or not _NUMBERS.fullmatch(f"{folder}/{path}"):
            raise ProgramFaultError(f"the bytes of its tensor {name[:200]!r} are not in it")
        if len(lengths) != len(sizes) or not all(type(length) is int and length >= 0 for length in lengths):
            raise ProgramFaultError(f"its tensor {name[:200]!r} has no fixed shape")
        if member.file_size < math.prod(lengths):  # an element has a byte at least
            raise ProgramFaultError(
                f"its tensor {name[:200]!r} claims {math.prod(lengths)} elements, and the file holds less"
            )


def _is_known(name: str) -> bool:
    return (
        name in {_DESCRIPTION, _EXAMPLES, *_CONFIGS, *_PLAIN}
        or bool(_NUMBERS.fullmatch(name))
        or bool(_LEFT_OUT.fullmatch(name))
    )


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"model/{name}")  # dated 1980: equal programs give equal bytes


def _copy(source: zipfile.ZipFile, member: zipfile.ZipInfo, target: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    entry.file_size = member.file_size
    try:
        with source.open(member) as reader, target.open(entry, "w") as writer:
            while piece := reader.read(_PIECE_BYTES):
                writer.write(piece)
    except zipfile.BadZipFile as error:
        raise _refused(Path(source.filename or FILE_NAME), f"{member.filename} is damaged: {error}") from None


def _bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _refused(file: Path, why: str) -> RefusedError:
    return RefusedError(
        f"{file} was not loaded: {why}. Programs are read that torch.export.save wrote with this torch "
        f"({torch.__version__}), of torch's own operators alone; export the model again, or register it as ONNX."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
