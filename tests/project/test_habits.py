"""The Makefile, the CI command and the pinned versions stay what CONTRIBUTING.md says."""

import os
import re
import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.paths import PACKAGES, ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")


def _requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def _pins() -> dict[str, str]:
    lines = [line for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    return {canonicalize_name(name): version for name, version in pins.items()}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_alone_lists_the_targets_that_the_documents_name() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = set(re.findall(r"^  make (\w+) ", shown, flags=re.MULTILINE))
    assert listed >= {"setup", "demo", "up", "check", "test", "bench", "docs", "constraints", "clean"}


def test_ci_runs_exactly_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert os.access(script, os.X_OK)
    assert commands[0] == "set -eu"
    assert commands[-1] == "make check test"


def test_make_check_looks_at_every_package() -> None:
    assert tuple(PYPROJECT["tool"]["mypy"]["packages"]) == PACKAGES


def _hashed(lock: str) -> dict[str, str]:
    """Versions by name of what a lock file holds with a hash or more."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([\w.\[\]-]+)==(\S+).*--hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE)
    return {canonicalize_name(name.partition("[")[0]): version for name, version in found}


def test_the_lock_of_the_set_up_holds_every_pin_with_hashes() -> None:
    assert _pins().items() <= _hashed("requirements-dev.lock").items()
    assert "--require-hashes --no-deps -r requirements-dev.lock" in MAKEFILE


def test_the_lock_of_the_image_holds_what_it_needs_at_the_pinned_versions() -> None:
    locked, extras = _hashed("requirements.lock"), PYPROJECT["project"]["optional-dependencies"]
    needed = [*PYPROJECT["project"]["dependencies"], *extras["postgres"], *extras["s3"]]
    assert {canonicalize_name(Requirement(line).name) for line in needed} <= set(locked)
    assert locked.items() <= _hashed("requirements-dev.lock").items()


def test_no_set_up_file_names_an_index_or_an_address() -> None:
    files = ("Dockerfile", "requirements.lock", "requirements-dev.lock")
    for text in (MAKEFILE, CONSTRAINTS, *((ROOT / name).read_text(encoding="utf-8") for name in files)):
        assert re.findall(r"\w+://\S+|--(?:extra-)?index-url|--find-links", text) == []


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    pins = _pins()
    wrong = [
        str(requirement)
        for requirement in _requirements()
        if canonicalize_name(requirement.name) not in pins
        or not requirement.specifier.contains(pins[canonicalize_name(requirement.name)])
    ]
    assert wrong == []
