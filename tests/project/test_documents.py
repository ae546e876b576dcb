"""The documents point at things that exist and name every setting."""

import json
import re

import pytest

from tests.project.paths import ROOT
from tests.project.variables import settings_variables

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
OPENAPI = ROOT / "docs" / "openapi.json"
CLIENT_VARIABLES = {"PAINTBOX_URL", "PAINTBOX_TIMEOUT_SECONDS", "PAINTBOX_PATIENCE_SECONDS"}


def test_every_link_to_a_file_leads_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.skipif(not (ROOT / "app" / "settings.py").exists(), reason="app/settings.py is not there yet")
def test_the_operations_page_names_every_setting_and_no_other() -> None:
    named = set(re.findall(r"`(PAINTBOX_[A-Z_]+)`", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")))
    assert named - CLIENT_VARIABLES == settings_variables()


@pytest.mark.skipif(not OPENAPI.exists(), reason="docs/openapi.json is not written yet: make docs")
def test_the_written_api_description_is_what_the_code_says() -> None:
    from app.main import create_app
    from app.settings import AppSettings

    assert json.loads(OPENAPI.read_text(encoding="utf-8")) == create_app(AppSettings()).openapi()
