"""The house rules hold in every file of the project, and each check can fail."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.house_rules import find_dangers, find_impurities, find_oversize
from tests.project.paths import PACKAGES, ROOT


def _files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_no_package_unpickles_or_extracts_blindly_or_opens_a_shell() -> None:
    found = [
        f"{path.relative_to(ROOT)} {danger}" for path in _files(*PACKAGES) for danger in find_dangers(_parse(path))
    ]
    assert found == []


def test_the_core_neither_prints_nor_reads_the_environment() -> None:
    found = [
        f"{path.relative_to(ROOT)} {impurity}"
        for path in _files("paint_core")
        for impurity in find_impurities(_parse(path))
    ]
    assert found == []


def test_files_and_functions_stay_readable() -> None:
    migrations = ROOT / "registry" / "migrations" / "versions"  # a migration is one long list, written once
    found = [
        f"{path.relative_to(ROOT)} {problem}"
        for path in _files(*PACKAGES, "tests", "benchmarks", "docs")
        if path.parent != migrations
        for problem in find_oversize(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_test_folder_is_a_package_so_that_file_names_may_repeat() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import pickle",
        "from joblib import load",
        "archive.extractall('here')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
    ],
)
def test_a_planted_danger_is_found(code: str) -> None:
    assert list(find_dangers(ast.parse(code))) != []


@pytest.mark.parametrize(
    "code", ["print('x')", "import os\nos.environ['X']", "from os import environ", "import os\nos.getenv('X')"]
)
def test_a_planted_impurity_is_found(code: str) -> None:
    assert list(find_impurities(ast.parse(code))) != []


def test_a_planted_long_function_and_a_long_file_are_found() -> None:
    body = "    pass\n"
    assert list(find_oversize("def short():\n" + body * 79)) == []
    assert list(find_oversize("def long():\n" + body * 80)) == ["line 1: long has 81 lines, over 80"]
    assert list(find_oversize("pass\n" * 401)) == ["401 lines, over 400"]
