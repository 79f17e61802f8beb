"""What a pickle would do, found by following its opcodes without running any.

The stack here holds no objects, only what is known of them: constants, allowed names, and values that are neither.
Whatever cannot be known that way is refused: a name that is put together while the program runs, a call of something
that is no allowed name, an opcode that is not on the list.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from registry.errors import RefusedError

ALWAYS_ALLOWED = frozenset(
    {
        # Values, and nothing that calls, imports, opens or allocates by a number that it is given.
        "builtins.complex", "builtins.frozenset", "builtins.set", "builtins.slice",
        "collections.OrderedDict",
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone",
        "decimal.Decimal", "uuid.UUID",
        # Arrays and their scalars, under both names of numpy's inner module.
        "numpy.dtype", "numpy.ndarray",
        "numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar",
        "numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer",
    }
)  # fmt: skip
"""Global names that every pickle may use once pickles are allowed at all."""

_WORDS = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT
    SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL INST OBJ NEWOBJ NEWOBJ_EX REDUCE BUILD
"""
OPCODES = frozenset(_WORDS.split())
"""Not among them: PERSID and BINPERSID, EXT1 to EXT4, NEXT_BUFFER and READONLY_BUFFER, and what is yet to come."""
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"})
_STRINGS = frozenset(
    {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_PUTS, _GETS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"}), frozenset({"GET", "BINGET", "LONG_BINGET"})
_CALLED_AT = {"REDUCE": -2, "NEWOBJ": -2, "NEWOBJ_EX": -3}
_FILLED_AT = {"APPEND": -2, "SETITEM": -3, "BUILD": -2}
_FILLED_FROM_MARK = frozenset({"APPENDS", "SETITEMS", "ADDITEMS"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DTYPE = re.compile(r"[biufcOSUV]\d{1,9}")


@dataclass(frozen=True)
class Constant:
    """A value that stands in the pickle as it is."""

    value: Any


@dataclass(frozen=True)
class Global:
    """An allowed name, not yet called."""

    name: str


@dataclass(frozen=True)
class Made:
    """What calling an allowed name gave."""

    name: str
    arguments: object


_MARK, _VALUE = object(), object()


@dataclass
class PickleProgram:
    """A pickle on its way; ``names`` are the global names that it has used so far, all of them allowed."""

    origin: str
    allowed: frozenset[str]
    names: set[str] = field(default_factory=set)
    stack: list[object] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    steps: int = 0

    def step(self, code: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one opcode.

        Raises:
            RefusedError: It does, or could do, what is not allowed.
            ValueError, IndexError, KeyError: No pickle has such an opcode at this place.
        """
        self.steps += 1
        name = code.name
        if name not in OPCODES:
            raise refused(self.origin, f"its opcode {name} is not one that models need")
        if name in _CONSTANTS or name in _NUMBERS or name in _STRINGS or name.endswith(("BINBYTES", "BINBYTES8")):
            self.stack.append(Constant(_CONSTANTS.get(name, argument)))
        elif name in _PUTS or name == "MEMOIZE":
            self._put(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name == "DUP":
            self.stack.append(self._top(-1))
        elif name in {"GLOBAL", "INST"}:
            self._global(name, *argument.split(" ", 1))
        elif name == "STACK_GLOBAL":
            attribute, module = self._pop(), self._pop()
            self._global(name, *(part.value if isinstance(part, Constant) else part for part in (module, attribute)))
        elif name in _TUPLES or name == "TUPLE":
            self._tuple(self._pop_to_mark() if name == "TUPLE" else [self._pop() for _ in range(_TUPLES[name])][::-1])
        else:
            self._other(code)

    def _other(self, code: pickletools.OpcodeInfo) -> None:
        name, made = code.name, _VALUE
        if name == "POP" and self.stack[-1] is _MARK:
            self.stack.pop()
            return
        if name in _CALLED_AT:
            target = self._callable(self._top(_CALLED_AT[name]), name)
            made = Made(target, self._top(-1))
            if target == "numpy.dtype":
                _check_dtype(self.origin, made.arguments)
        elif name == "OBJ":
            self._callable((self._since_mark() or [_VALUE])[0], name)
        elif name in _FILLED_AT:
            made = self._filled(self._top(_FILLED_AT[name]), name)
        before = [item for item in code.stack_before if item is not pickletools.stackslice]
        if pickletools.markobject in before:
            self._pop_to_mark()
            before = before[: before.index(pickletools.markobject)]
            if name in _FILLED_FROM_MARK:
                made = self._filled(self._top(-1), name)
        for _ in before:
            self._pop()
        self.stack += [_MARK if item is pickletools.markobject else made for item in code.stack_after]

    def _global(self, code: str, module: object, attribute: object = None) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise refused(self.origin, "it puts a name together while it runs")
        found = global_name(module, attribute)
        if found not in ALWAYS_ALLOWED | self.allowed:
            raise not_allowed(self.origin, found)
        self.names.add(found)
        if code == "INST":
            self._pop_to_mark()
            self._callable(Global(found), code)
        self.stack.append(Made(found, _VALUE) if code == "INST" else Global(found))

    def _callable(self, target: object, code: str) -> str:
        if not isinstance(target, Global):
            raise refused(self.origin, f"it calls ({code}) something that is made while it runs")
        # numpy.ndarray is only ever named: called, it gives memory that nobody wrote, as much as is asked for.
        if target.name == "numpy.ndarray" or (target.name == "numpy.dtype" and code != "REDUCE"):
            raise refused(self.origin, f"it makes a {target.name} in a way that numpy does not")
        return target.name

    def _filled(self, target: object, code: str) -> object:
        """Check what is changed by APPEND, SETITEM, BUILD and their kin: methods of it are called; return it."""
        if isinstance(target, Global):
            raise refused(self.origin, f"it changes ({code}) {target.name} itself")
        if isinstance(target, Made) and target.name == "numpy.dtype":
            _check_dtype_state(self.origin, target, self._top(-1) if code == "BUILD" else None)
        return target

    def _tuple(self, items: list[object]) -> None:
        known = all(isinstance(item, Constant) for item in items)
        self.stack.append(
            Constant(tuple(item.value for item in items if isinstance(item, Constant))) if known else _VALUE
        )

    def _put(self, index: int) -> None:
        # The reader makes room for the largest index at once: 6 bytes would take gigabytes.
        if not 0 <= index <= self.steps:
            raise refused(self.origin, f"it keeps something under the number {index} after {self.steps} steps")
        self.memo[index] = self._top(-1)

    def _top(self, index: int) -> object:
        if _MARK in self.stack[index:]:
            raise ValueError("a mark is taken for a value")
        return self.stack[index]

    def _pop(self) -> object:
        found = self._top(-1)
        self.stack.pop()
        return found

    def _since_mark(self) -> list[object]:
        last = max(index for index, item in enumerate(self.stack) if item is _MARK)
        return self.stack[last + 1 :]

    def _pop_to_mark(self) -> list[object]:
        found = []
        while (item := self.stack.pop()) is not _MARK:
            found.append(item)
        return found[::-1]


def global_name(module: str, attribute: str) -> str:
    """Return how a global is written in a list of allowed ones: ``module.name``, or ``module:Outer.Inner``."""
    return f"{module}:{attribute}" if "." in attribute else f"{module}.{attribute}"


def refused(origin: str, why: str) -> RefusedError:
    """Return the refusal of a pickle."""
    return RefusedError(
        f"{origin} was not loaded: {why}. A pickle can run any code; safetensors, ONNX and skops cannot: save the "
        "model as one of them where you can."
    )


def not_allowed(origin: str, name: str) -> RefusedError:
    """Return the refusal of a pickle that uses a name which nobody allowed."""
    mend = f"Where you trust who wrote it, allow it by name: allow_pickle={{{name!r}}}"
    return refused(origin, f"it uses {name}, which is not allowed. {mend}")


def _check_dtype(origin: str, arguments: object) -> None:
    match arguments:
        case Constant((str() as name, bool(), bool())) if _DTYPE.fullmatch(name):
            return
    raise refused(origin, "it makes a numpy.dtype that is no plain number, string, object or block of bytes")


def _check_dtype_state(origin: str, dtype: Made, state: object) -> None:
    """Refuse a state that numpy would not write: with other flags, raw bytes are taken for pointers to objects."""
    import numpy as np

    given = state.value if isinstance(state, Constant) else None
    name = dtype.arguments.value[0] if isinstance(dtype.arguments, Constant) else ""
    order: Literal["<", ">", "|"] = "|"
    if isinstance(given, tuple) and len(given) > 1 and given[1] in {"<", ">"}:
        order = given[1]
    try:
        usual: Any = np.dtype(name).newbyteorder(order).__reduce__()[2:][0]
    except TypeError as error:
        raise refused(origin, f"it makes a numpy.dtype {name!r}, which numpy does not know") from error
    if given != usual or [type(part) for part in given] != [type(part) for part in usual]:
        raise refused(origin, f"it gives the numpy.dtype {name!r} the state {given!r}, and numpy writes {usual!r}")
