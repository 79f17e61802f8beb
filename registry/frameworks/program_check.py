"""What is allowed in the description of a ``torch.export`` program, before torch turns it into code.

torch builds Python source from the names in it, evaluates its size expressions, and calls whatever function a node
names, so a file can hold any code. Here every word of it has to be one of a short list of forms.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import torch

LARGEST_BYTES = 256 << 20
_NAME = re.compile(r"(?!__)[A-Za-z_]\w*(?:\.(?!__)[\w-]+)*", re.ASCII)
_VERSION = re.compile(r"[\w.+-]{1,64}", re.ASCII)
_SYMBOL = re.compile(r"[a-z]{1,8}\d{1,9}", re.ASCII)
_NUMBER_WORD = re.compile(r"-?Infinity|NaN")
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_OPERATOR_WORDS = {
    "_operator.": "add and_ eq floordiv ge getitem gt le lt mod mul ne neg or_ pos sub truediv",
    "math.": "ceil floor trunc",
    "torch.sym_": "float int ite max min not sqrt sum",
    "torch.ops.higher_order.": "cond while_loop wrap_with_autocast wrap_with_set_grad_enabled",
}
_OPERATORS = frozenset(prefix + name for prefix, names in _OPERATOR_WORDS.items() for name in names.split())
_CLOSED = frozenset({"from_file", "_print"})
"""Operators of aten that do more than to compute: one opens any file."""
_EXPRESSION_WORDS = """
    Add And CeilDiv CeilToInt CleanDiv Equality Eq FloatTrueDiv FloorDiv FloorToInt GreaterThan Identity IntTrueDiv
    Integer LessThan Max Min Mod ModularIndexing Mul Ne Not Or PythonMod Rational RoundToInt StrictGreaterThan
    StrictLessThan ToFloat TruncToFloat TruncToInt Unequality Where
"""
_EXPRESSIONS = frozenset(_EXPRESSION_WORDS.split())
_LONGEST_EXPRESSION = 4000
_TOO_LARGE = 1 << 63
_LARGEST_POWER = 8
_DIGITS = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?", re.ASCII)
_TREES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_DROPPED: dict[str, Any] = {"metadata": {}, "guards_code": []}
"""What is only for people, or is run as source: where a node came from, and checks of inputs as Python text."""
_FREE_TEXT = frozenset({"as_string", "as_strings"})


class ProgramFaultError(ValueError):
    """Says in its message what a program holds that is not allowed."""


def cleaned_program(data: bytes) -> bytes:
    """Return a program's JSON with nothing in it but what torch needs to build it; the same program, the same bytes.

    Raises:
        ProgramFaultError: A word of it is of no allowed form; the message quotes it.
    """
    if len(data) > LARGEST_BYTES:
        raise ProgramFaultError(f"its description has {len(data)} bytes, and more than {LARGEST_BYTES} are not read")
    try:
        return json.dumps(_cleaned(parsed(data), "")).encode()
    except RecursionError:
        raise ProgramFaultError("its description is nested too deeply") from None


def parsed(data: bytes) -> Any:
    """Return what a JSON file holds, no name in it twice.

    Raises:
        ProgramFaultError: It is no such file.
    """
    try:
        return json.loads(data, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ProgramFaultError(f"its description cannot be read: {error}") from None


def _cleaned(value: Any, key: str) -> Any:
    match value:
        case dict():
            return {
                _checked_key(name): _DROPPED[name] if name in _DROPPED else _cleaned(part, name)
                for name, part in value.items()
            }
        case list():
            return [_cleaned(part, key) for part in value]
        case str():
            _check_word(value, key)
            return value
        case None | bool() | int() | float():
            return value
    raise ProgramFaultError(f"it holds a {type(value).__name__}")


def _checked_key(name: str) -> str:
    if name == "as_custom_obj" or not _NAME.fullmatch(name):
        raise ProgramFaultError(f"it holds {name!r}, which is no plain tensor or number")
    return name


def _check_word(word: str, key: str) -> None:
    if key in {"target", "as_operator"}:
        _check_operator(word)
    elif key == "expr_str":
        _check_expression(word)
    elif key in {"in_spec", "out_spec"}:
        _check_tree(word)
    elif key in {"as_float", "as_floats"}:
        _demand(_NUMBER_WORD, word, "number")
    elif key == "torch_version":
        _demand(_VERSION, word, "version")
    elif key in _FREE_TEXT:
        if not word.isprintable():
            raise ProgramFaultError(f"it holds the text {word!r} with a control character in it")
    elif word:
        _demand(_NAME, word, "name")


def _demand(pattern: re.Pattern[str], word: str, what: str) -> None:
    if not pattern.fullmatch(word):
        raise ProgramFaultError(f"{word[:200]!r} is no {what} that a program has")


def _check_operator(word: str) -> None:
    if word in _OPERATORS:
        return
    found = _ATEN.fullmatch(word)
    packet: Any = getattr(torch.ops.aten, found[1], None) if found else None
    target = getattr(packet, found[2], None) if found else None
    if not found or found[1] in _CLOSED or not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001 - operators have no other type
        raise ProgramFaultError(f"it calls {word[:200]!r}, and only torch's own operators on tensors (aten) are called")


def _check_expression(word: str) -> None:
    """Refuse what sympy would do more with than to put a formula together: it evaluates the text as Python."""
    try:
        tree = ast.parse(word, mode="eval").body if len(word) <= _LONGEST_EXPRESSION else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None or not _is_formula(tree):
        raise ProgramFaultError(f"{word[:200]!r} is no formula of sizes")


def _is_formula(node: ast.expr) -> bool:  # noqa: PLR0911 - one return for each form of a formula
    match node:
        case ast.Constant() | ast.UnaryOp():
            return abs(_integer(node)) < _TOO_LARGE
        case ast.Name(id="true" | "false" | "oo" | "int_oo"):
            return True
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)], keywords=options):
            return bool(_SYMBOL.fullmatch(name)) and all(isinstance(option.value, ast.Constant) for option in options)
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as digits), *more]):
            return bool(_DIGITS.fullmatch(digits)) and all(_is_formula(part) for part in more)
        case ast.Call(
            func=ast.Name(id="Pow"), args=[ast.Call(func=ast.Name(id="Symbol")) as base, exponent], keywords=[]
        ):
            # A power of a number is a number of any size; one of a symbol is a formula.
            power = exponent.args[0] if isinstance(exponent, ast.Call) and len(exponent.args) == 1 else exponent
            return _is_formula(base) and _is_formula(exponent) and abs(_integer(power)) <= _LARGEST_POWER
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]):
            return name in _EXPRESSIONS and all(_is_formula(part) for part in parts)
    return False


def _integer(node: ast.expr) -> int:
    """Return the integer that stands there, one too large where none does."""
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as number)):
            return -number
    return _TOO_LARGE


def _check_tree(word: str) -> None:
    """Refuse shapes of inputs and outputs that torch would import a module for."""
    match parsed(word.encode()):
        case [1, dict() as tree]:
            _check_branch(tree)
        case _:
            raise ProgramFaultError(f"{word[:200]!r} is no shape of inputs or outputs")


def _check_branch(tree: Any) -> None:
    match tree:
        case {"type": None, "context": None, "children_spec": []}:
            return
        case {"type": str() as kind, "context": str() as context, "children_spec": list() as parts} if kind in _TREES:
            names = parsed(context.encode())
            if names is None or (isinstance(names, list) and all(isinstance(name, str | int) for name in names)):
                for part in parts:
                    _check_branch(part)
                return
    raise ProgramFaultError(f"{str(tree)[:200]!r} is no tuple, list or dict of inputs or outputs")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ProgramFaultError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
    return found
