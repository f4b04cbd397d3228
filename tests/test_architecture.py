"""What no linter checks: what an import costs, and how long files and functions grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import geomedsr

PACKAGE = Path(geomedsr.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 70
HEAVY = {"accelerate", "dask", "matplotlib", "monai", "nibabel", "numcodecs", "rasterio", "torch", "zarr"}
NO_NETWORK = HEAVY & {"accelerate", "monai", "torch"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in said.split()}


def test_the_package_imports_nothing_heavy() -> None:
    assert not loaded_by("import geomedsr") & HEAVY


@pytest.mark.parametrize("module", ["grid", "image", "task", "errors", "registry", "io", "io._staging"])
def test_the_foundations_import_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import geomedsr.{module}") & HEAVY


def test_the_formats_know_no_network() -> None:
    assert not loaded_by("import geomedsr.io; geomedsr.io.suffixes()") & NO_NETWORK


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= LONGEST_FILE, f"{path.name} has {lines} lines: look for the missing noun"
    long = {name: length for name, length in functions(ast.parse(text)) if length > LONGEST_FUNCTION}
    assert not long, f"{path.name} has functions that do too much: {long}"


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


RUNS_CODE = {"ConfigParser", "Unpickler", "allow_pickle", "exec", "os.system", "pickle", "torch.load", "unsafe_load"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_what_it_reads(path: Path) -> None:
    found = set(names_in(ast.parse(path.read_text(encoding="utf-8")))) & RUNS_CODE
    assert not found, f"{path.name} has {found}, which may run what a file says"


def names_in(tree: ast.AST) -> Iterator[str]:
    """The names that are imported, called and given by keyword, also with what they are taken from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (part for one in node.names for part in one.name.split("."))
        elif isinstance(node, ast.Attribute):
            yield node.attr
            if isinstance(node.value, ast.Name):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
