"""The generated pages are what the code says: run `make docs` after a change of a setting, command, error or metric."""

import re
from pathlib import Path

import pytest

from app.settings import AppSettings
from docs.generate import DOCS, build_pages
from docs.generating.metrics import build_metrics
from docs.generating.problems import find_problems
from tests.app.world import open_world
from tests.project.paths import ROOT
from tests.project.variables import settings_variables
from worker.settings import WorkerSettings

CHECKED = re.compile(r'check_problem\(\s*[^,]+?(?:\([^)]*\))?,\s*(\d{3}),\s*"([a-z_]+)"')


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return build_pages()


def test_the_generated_pages_are_up_to_date(pages: dict[str, str]) -> None:
    assert [path for path, text in pages.items() if (DOCS / path).read_text(encoding="utf-8") != text] == []


def test_the_page_of_metrics_is_up_to_date(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        assert (DOCS / "reference/metrics.md").read_text(encoding="utf-8") == build_metrics(
            world.services.metrics.registry
        )


def test_every_setting_is_named_and_explained(pages: dict[str, str]) -> None:
    page = pages["reference/settings.md"]
    assert settings_variables() - set(re.findall(r"`(PAINTBOX_[A-Z_]+)`", page)) == set()
    fields = {**AppSettings.model_fields, **WorkerSettings.model_fields}
    assert [name for name, field in fields.items() if not field.description] == []


def test_every_problem_that_a_test_has_seen_is_listed_with_its_status() -> None:
    problems = find_problems()
    seen = {
        (code, int(status))
        for path in (ROOT / "tests" / "app").rglob("*.py")
        for status, code in CHECKED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(seen) > 60
    assert [each for each in sorted(seen) if each[0] not in problems or each[1] not in problems[each[0]].statuses] == []
    assert [code for code, problem in problems.items() if not problem.meaning and not problem.messages] == []
