"""The layers of docs/architecture.md hold, and the check that says so can fail."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.project import import_rules
from tests.project.paths import PACKAGES, ROOT


def _find_violations(root: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, import_rules.__file__, str(root)], capture_output=True, text=True, check=True
    )
    violations: list[str] = json.loads(done.stdout)
    return violations


def _copy_packages(target: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("*.zip", "*.safetensors"))
        (target / package / "__init__.py").touch()


def _write(root: Path, name: str, text: str) -> None:
    """Write a module and an `__init__` into each package above it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for folder in path.relative_to(root).parents[:-1]:
        (root / folder / "__init__.py").touch()


def test_every_package_has_a_rule_and_is_there() -> None:
    assert set(import_rules.RULES) == set(PACKAGES)
    assert [package for package in PACKAGES if not (ROOT / package / "__init__.py").exists()] == []


def test_no_package_imports_what_its_layer_forbids_and_none_in_a_circle() -> None:
    assert _find_violations(ROOT) == []


def test_a_planted_circle_is_found_also_if_it_is_for_type_checking_only(tmp_path: Path) -> None:
    _write(tmp_path, "paint_core/models/left.py", "from paint_core.models.right import Right\n")
    _write(
        tmp_path,
        "paint_core/models/right.py",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from paint_core.models.left import Left\n",
    )
    (circle,) = _find_violations(tmp_path)
    assert sorted(set(circle.removeprefix("a circle: ").split(" is imported by "))) == [
        "paint_core.models.left",
        "paint_core.models.right",
    ]


def test_a_planted_import_of_a_higher_room_is_found(tmp_path: Path) -> None:
    _write(tmp_path, "paint_core/models/base.py", "def train():\n    from paint_core.training.tower import Tower\n")
    _write(tmp_path, "paint_core/training/tower.py", "from paint_core import errors\n")
    _write(tmp_path, "paint_core/errors.py", "")
    assert _find_violations(tmp_path) == [
        "paint_core.models.base:2 imports paint_core.training.tower, which is in a higher room"
    ]


def test_a_planted_import_of_a_resource_by_what_lies_below_all_of_them_is_found(tmp_path: Path) -> None:
    _write(tmp_path, "app/http/planted.py", "from app.access import callers\n")
    _write(tmp_path, "app/access/callers.py", "from app.main import create_app\n")
    _write(tmp_path, "app/main.py", "")
    assert sorted(_find_violations(tmp_path)) == [
        "app.access.callers:1 imports app.main, which is in a higher room",
        "app.http.planted:1 imports app.access.callers, which is in a higher room",
    ]


def test_a_planted_circle_of_rooms_is_found_where_no_modules_form_one(tmp_path: Path) -> None:
    _write(tmp_path, "paint_core/images/first.py", "from paint_core.models import second\n")
    _write(tmp_path, "paint_core/models/third.py", "from paint_core.images import first\n")
    _write(tmp_path, "paint_core/models/second.py", "")
    assert _find_violations(tmp_path) == [
        "paint_core.images.first:1 imports paint_core.models.second, which is in a higher room"
    ]
    _write(tmp_path, "app/serving/first.py", "from app.models import second\n")
    _write(tmp_path, "app/models/third.py", "from app.serving import first\n")
    _write(tmp_path, "app/models/second.py", "")
    assert "app.serving.first:1 imports app.models.second, which is in a higher room" in _find_violations(tmp_path)


def test_a_room_below_the_package_that_imports_the_package_itself_is_found(tmp_path: Path) -> None:
    _write(tmp_path, "paint_core/models/base.py", "import paint_core\n")
    assert _find_violations(tmp_path) == ["paint_core.models.base:1 imports paint_core, which is in a higher room"]


def test_a_file_that_lies_loose_in_a_package_of_rooms_is_found(tmp_path: Path) -> None:
    _write(tmp_path, "paint_core/loose.py", "")
    assert _find_violations(tmp_path) == ["paint_core.loose is not in the list of rooms"]


def test_every_listed_room_is_there() -> None:
    missing = [
        f"{package}/{room}"
        for package, rooms in import_rules.ROOMS.items()
        for room in rooms
        if not (ROOT / package / room / "__init__.py").exists() and not (ROOT / package / f"{room}.py").exists()
    ]
    assert missing == []


def test_planted_imports_are_all_found(tmp_path: Path) -> None:
    _copy_packages(tmp_path)
    before = _find_violations(tmp_path)
    planted = {
        "contract/planted.py": "import sqlalchemy\nfrom registry import tables\n",
        "registry/planted.py": "import torch\n",
        "pipeline/planted.py": "import worker\nimport fastapi\n",
        "app/web/planted.py": "import worker\n",
        "worker/planted.py": "from app.web import planted\n",
        "paint_core/models/planted.py": "def read():\n    from sqlalchemy.orm import Session\n\n    return Session\n",
        "paintbox_client/planted.py": "import click\nimport httpx2\nimport json\n",
        "paintbox_launcher/planted.py": "import app.settings\nimport app.web.planted\n",
        "paintbox_demo/planted.py": "import paintbox_client\nimport paint_core.models.planted\n",
    }
    for name, text in planted.items():
        (tmp_path / name).write_text(text)

    assert sorted(set(_find_violations(tmp_path)) - set(before)) == [
        "app.web.planted:1 imports worker",
        "contract.planted:1 imports sqlalchemy",
        "contract.planted:2 imports registry.tables",
        "paint_core.models.planted:2 imports sqlalchemy",
        "paintbox_client.planted:1 imports click",
        "paintbox_demo.planted:2 imports paint_core.models.planted",
        "paintbox_launcher.planted:2 imports app.web.planted",
        "pipeline.planted:1 imports worker",
        "pipeline.planted:2 imports fastapi",
        "registry.planted:1 imports torch",
        "worker.planted:1 imports app.web.planted",
    ]
