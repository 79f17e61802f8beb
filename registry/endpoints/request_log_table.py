"""The files of a request log: requests written as Parquet, and read back as one table."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from registry.endpoints.answering import Logged
    from registry.endpoints.tensors import Array

SUFFIX = ".parquet"
"""How the name of a complete file ends; others in the folder are being written, or were when a process died."""

_MODEL, _VERSION = b"modelway.model", b"modelway.version"


def check_parquet() -> None:
    """Refuse a request log where it could not be written; nothing is imported.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "monitoring", "a log of requests in Parquet")


def read_requests(folder: Path, *, model: str | None = None, version: str | None = None) -> Any:
    """Return the requests that a log holds, oldest first; files that are being written are not seen.

    Args:
        folder: The log's folder.
        model: Only requests to this model.
        version: Only those that this version answered, as it stands in URLs (``1`` for ``v1``).

    Returns:
        A ``pyarrow.Table``. ``time`` (microseconds, UTC), ``id`` (the client's, null where it sent none), ``model``,
        ``version``, ``role``, ``protocol`` (http or grpc), ``latency_ms`` and ``error`` (null where it was answered);
        ``inputs`` and ``outputs`` are structs by tensor name, each ``shape`` (list of int64) and ``data`` (a flat list
        of the tensor's own type, row-major), null where there was none.

    Raises:
        InvalidInputError: There is no such folder, or a tensor has one type in one file and another in the next.
        MissingExtraError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow as pa

    if not folder.is_dir():
        raise InvalidInputError(f"{folder} holds no log of requests: there is no such folder.")
    try:
        whole = pa.concat_tables([Group("", "").table(), *_tables(folder, model, version)], promote_options="default")
    except pa.ArrowTypeError as error:
        raise InvalidInputError(
            f"the requests in {folder} do not fit into one table, a tensor's type is not the same in all of them: "
            f"{error}. Read one model and version at a time."
        ) from error
    return whole.sort_by("time")


def _tables(folder: Path, model: str | None, version: str | None) -> Iterator[Any]:
    from pyarrow import parquet

    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            about = parquet.read_schema(path).metadata
            if model in {None, about[_MODEL].decode()} and version in {None, about[_VERSION].decode()}:
                yield parquet.read_table(path, partitioning=None)
        except FileNotFoundError:  # the oldest are removed while the log grows
            continue


@dataclass(slots=True)
class Group:
    """Requests that fit into one file: of one version, with each tensor of one type throughout."""

    model: str
    version: str
    requests: list[Logged] = field(default_factory=list)
    types: dict[tuple[str, str], np.dtype[Any]] = field(default_factory=dict)

    def take(self, logged: Logged) -> bool:
        """Add a request and return True, or return False where it does not fit."""
        types = {("input", name): array.dtype for name, array in logged.inputs.items()}
        types |= {("output", name): array.dtype for name, array in logged.outputs.items()}
        if (logged.model, logged.version) != (self.model, self.version):
            return False
        if any(self.types.get(tensor, dtype) != dtype for tensor, dtype in types.items()):
            return False
        self.types |= types
        self.requests.append(logged)
        return True

    def table(self) -> Any:
        """Return the requests as a ``pyarrow.Table``, in the order in which they were taken."""
        import pyarrow as pa

        plain = {
            "time": pa.timestamp("us", "UTC"),
            **dict.fromkeys(("id", "model", "version", "role", "protocol"), pa.string()),
            "latency_ms": pa.float64(),
            "error": pa.string(),
        }
        columns = {name: pa.array([getattr(one, name) for one in self.requests], kind) for name, kind in plain.items()}
        columns["inputs"] = _tensors([one.inputs for one in self.requests])
        columns["outputs"] = _tensors([one.outputs for one in self.requests])
        return pa.table(columns).replace_schema_metadata({_MODEL: self.model, _VERSION: self.version})

    def encoded(self) -> bytes:
        """Return the requests as a Parquet file."""
        import pyarrow as pa
        from pyarrow import parquet

        sink = pa.BufferOutputStream()
        parquet.write_table(self.table(), sink, compression="zstd", use_dictionary=["model", "version", "role"])
        return bytes(sink.getvalue())


def grouped(requests: Iterable[Logged]) -> list[Group]:
    """Return requests in as few groups as they fit into, each in the order in which they came."""
    groups: list[Group] = []
    for logged in requests:
        if not any(group.take(logged) for group in groups):
            groups.append(Group(logged.model, logged.version))
            groups[-1].take(logged)
    return groups


def _tensors(requests: Sequence[Mapping[str, Array]]) -> Any:
    import pyarrow as pa

    names = list(dict.fromkeys(name for tensors in requests for name in tensors))
    if not names:
        return pa.nulls(len(requests))
    columns = [_tensor([tensors.get(name) for tensors in requests]) for name in names]
    return pa.StructArray.from_arrays(columns, names=names, mask=pa.array([not tensors for tensors in requests]))


def _tensor(arrays: Sequence[Array | None]) -> Any:
    import pyarrow as pa

    shapes = pa.array([None if array is None else list(array.shape) for array in arrays], pa.list_(pa.int64()))
    ends = np.cumsum([0, *(0 if array is None else array.size for array in arrays)])
    values = pa.array(np.concatenate([array.ravel() for array in arrays if array is not None]))
    data = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values)
    missing = pa.array([array is None for array in arrays])
    return pa.StructArray.from_arrays([shapes, data], names=["shape", "data"], mask=missing)
