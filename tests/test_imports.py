"""The house rules of imports, read from the source: floors, no cycles, one try-import, each module alone.

Oracle: the floors of the architecture, written down below.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastbpe"
# A room imports from lower floors, or from its own where no cycle arises.  "" is the package itself: public names.
FLOORS = (
    {"errors"},
    {"pattern", "core", "files", "release", "crew"},
    {"spec"},
    {"normalize", "formats", "encodings", "streaming", "arrow", "batch", "counts", "counts_file", "ids", "checkpoint"},
    {"tokenizer", "spill", "sources"},
    {"counting", "text"},
    {"merging"},
    {"training", "superbpe"},
    {"", "dataset", "compat", "explain"},
    {"engines", "cli"},
    {"__main__"},
)
LEAVES = {"compat", "engines", "cli"}
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
# Scripts that are run, not imported.
SCRIPTS = {"fastbpe.__main__"}


def room(module: str) -> str:
    return [*module.split("."), ""][1]


def targets(node: ast.AST, importer: str) -> set[str]:
    """The fastbpe modules an import statement names."""
    if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"{importer}: relative import"
        module = node.module or ""
        names = {f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module for alias in node.names}
        # `from fastbpe import name` reads the package itself, unless the name is a module.
    else:
        return set()
    return {name for name in names if name.split(".")[0] == "fastbpe"}


def imports(module: str) -> set[str]:
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    return set().union(*(targets(node, module) for node in ast.walk(tree))) - {module}


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    wrong = [name for name in imports(module) if FLOOR[room(name)] > FLOOR[room(module)]]
    assert not wrong, f"{module} imports {wrong} from above"
    into_leaf = [name for name in imports(module) if room(name) in LEAVES and room(name) != room(module)]
    assert not into_leaf or module == "fastbpe.__main__", f"{module} imports the leaf {into_leaf}"


def test_no_cycle():
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {error.args[1]}")


def test_only_core_tries_imports():
    found = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Try) and any(isinstance(inner, ast.Import | ast.ImportFrom) for inner in node.body):
                found.append(module)
    assert set(found) <= {"fastbpe.core"}


ALONE = """
import importlib, os, sys, traceback
import fastbpe
for module in sys.argv[1:]:
    if os.fork() == 0:
        try:
            importlib.import_module(module)
        except BaseException:
            print(module, traceback.format_exc(), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_module_imports_alone():
    """Each in a process of its own, forked from one that has the package itself, which any import loads first."""
    modules = sorted(set(MODULES) - SCRIPTS)
    done = subprocess.run([sys.executable, "-c", ALONE, *modules], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("", "")
