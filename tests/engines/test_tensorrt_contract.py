"""Every name of TensorRT's that our code uses is looked up in the real bindings of several releases.

The bindings' wheels hold no libraries, which only machines with a GPU get: three stand in that are there to be linked
and are never called.
"""

from __future__ import annotations

import ast
import inspect
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, get_args

import pytest

from registry.engines import tensorrt, tensorrt_build, tensorrt_run
from registry.engines.key import HardwareCompatibility
from registry.engines.tensorrt import RTX_TARGETS, Precision, TensorRtOptions

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

CLASSES = {
    "builder": "Builder",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "shapes": "IOptimizationProfile",
    "cache": "ITimingCache",
    "error": "ParserError",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
}
"""What our variables hold; ``trt`` is the module itself."""

GCC, NM = shutil.which("gcc") or "", shutil.which("nm") or ""

ONLY_RTX = {"trt.ComputeCapability", "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
"""Used where the package is TensorRT-RTX, and there alone."""

GONE_IN_11 = {"trt.BuilderFlag.FP16", "trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH"}
"""Not used: they show that a name that is missing is found to be."""

LOOK_UP = """
import ctypes, json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
for library in sys.argv[3:]:
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
sys.path.insert(0, sys.argv[1])
import importlib
trt = importlib.import_module(sys.argv[2])
def there(name):
    found = trt
    for part in name.removeprefix("trt.").split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
print(json.dumps([trt.__version__, [name for name in json.load(sys.stdin) if not there(name)]]))
"""


def _names_in(module: ModuleType) -> set[str]:
    """Return every name of TensorRT's in a module: ``trt.A.B``, and ``Class.member`` for the objects in CLASSES."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        root, *members = _path(node)
        if root == "self" and members:
            root, *members = members
        root = root.lstrip("_")
        if root == "trt" and members:
            found.add(".".join(["trt", *members]))
        elif root in CLASSES and members:
            found.add(f"{CLASSES[root]}.{members[0]}")
    return found


def _path(node: ast.AST) -> list[str]:
    """Return the names in ``a.b.c``, from the left; for anything else a single empty one."""
    if isinstance(node, ast.Name):
        return [node.id]
    return [*_path(node.value), node.attr] if isinstance(node, ast.Attribute) else [""]


def _names() -> set[str]:
    found = set().union(*map(_names_in, (tensorrt, tensorrt_build, tensorrt_run)))
    flags = {flag for precision in get_args(Precision) for flag in TensorRtOptions(precision=precision).flags}
    return found | {f"trt.BuilderFlag.{flag}" for flag in flags}


def _missing(folder: Path, package: str, names: set[str], libraries: list[Path]) -> tuple[str, set[str]]:
    command = [sys.executable, "-I", "-c", LOOK_UP, str(folder), package, *map(str, libraries)]
    done = subprocess.run(
        command, input=json.dumps(sorted(names)), check=True, capture_output=True, text=True, timeout=120
    )
    version, missing = json.loads(done.stdout)
    return version, set(missing)


def test_the_names_that_we_use_are_found_in_our_code() -> None:
    names = _names()
    assert {"trt.Builder", "trt.MemoryPoolType.WORKSPACE", "trt.BuilderFlag.TF32", "trt.Runtime", "trt.nptype"} <= names
    assert {"IBuilderConfig.set_timing_cache", "IExecutionContext.execute_async_v3", "ParserError.node_name"} <= names
    used = {name.split(".")[0] for name in names} - {"trt"}
    assert used == set(CLASSES.values())
    assert names >= ONLY_RTX


def test_tensorrt_rtx_has_every_name_that_we_use(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the wheel exists for Linux x86-64 and Windows only")
    targets = {f"trt.ComputeCapability.SM{target.replace('.', '')}" for target in RTX_TARGETS}
    version, missing = _missing(tmp_path, "tensorrt_rtx", _names() | targets, [])
    assert (version.split(".")[0], missing) == ("1", set())


@pytest.mark.heavy
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stand-ins are linked for Linux")
@pytest.mark.skipif(not GCC or not NM, reason="there is no gcc to link stand-ins with")
@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("tensorrt-cu13-bindings", "11.4.0.106"),
        ("tensorrt-cu13-bindings", "11.0.0.114"),
        ("tensorrt-cu13-bindings", "10.16.1.11"),
        ("tensorrt-cu12-bindings", "10.0.1"),
    ],
)
def test_the_full_tensorrt_has_every_name_that_we_use(tmp_path: Path, package: str, version: str) -> None:
    folder = _bindings(tmp_path, package, version)
    levels = {f"trt.HardwareCompatibilityLevel.{level}" for level in get_args(HardwareCompatibility)}
    stand_ins = _stand_ins(folder, version.split(".", maxsplit=1)[0])
    found, missing = _missing(folder, "tensorrt_bindings", _names() | levels | GONE_IN_11, stand_ins)
    # The first release of 10 lacks a level that the builder looks for before it uses it.
    later = {"trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"} if version == "10.0.1" else set()
    assert found.startswith(version)
    assert missing - ONLY_RTX == later | (GONE_IN_11 if version.startswith("11.") else set())


def _bindings(folder: Path, package: str, version: str) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run([*pip, f"{package}=={version}"], check=False, capture_output=True, text=True, timeout=200)
    if done.returncode != 0:
        pytest.skip(f"{package} {version} could not be downloaded for this Python: {done.stderr.strip()[-200:]}")
    wheel = next(folder.glob("*.whl"))
    shutil.unpack_archive(wheel, folder / "unpacked", "zip")
    return folder / "unpacked"


def _stand_ins(folder: Path, major: str) -> list[Path]:
    """Link three libraries that hold, as functions that do nothing, all that the bindings want and nobody else has."""
    bindings = folder / "tensorrt_bindings" / "tensorrt.so"
    listed = subprocess.run([NM, "-D", "--undefined-only", bindings], check=True, capture_output=True, text=True)
    wanted = [line.split()[-1] for line in listed.stdout.splitlines() if line.split()[0] == "U" and "@" not in line]
    own = [name for name in wanted if not name.startswith(("Py", "_Py", "dl"))]
    source = folder / "nothing.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in own), encoding="utf-8")
    libraries = [folder / f"lib{name}.so.{major}" for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")]
    for library in libraries:
        link = [GCC, "-shared", "-fPIC", "-o", str(library), f"-Wl,-soname,{library.name}", str(source)]
        subprocess.run(link, check=True, capture_output=True)
    return libraries
