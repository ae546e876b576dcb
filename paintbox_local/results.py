"""What a finished patch leaves behind: `report.json`, `report.html` and `model/`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from app.patches.service import get_patch
from app.versions.card import eval_results, model_card
from app.versions.service import describe
from app.web.report_page import write_report
from paint_core.models import write_model
from paintbox_local.installation import Installation
from pipeline.towers import mix_tower
from registry.versions import Versions

REPORT, PAGE, MODEL = "report.json", "report.html", "model"


def write_results(installation: Installation, patch_id: str, output: Path) -> dict[str, Any]:
    """Write the results of a patch and return it as the service would.

    A version with a head term has no model folder: no other package has a place for the term.
    """
    patch = get_patch(installation.database, patch_id)
    done: dict[str, Any] = patch.model_dump(mode="json", exclude_unset=True)
    text = json.dumps(done["report"], indent=2, ensure_ascii=False)
    (output / REPORT).write_text(f"{text}\n", encoding="utf-8")
    (output / PAGE).write_text(write_report(patch), encoding="utf-8")
    assert patch.version_id is not None  # the patch has succeeded
    has_model = _write_model(installation, patch.version_id, output / MODEL)
    return done | {"files": [str(output / name) for name in (REPORT, PAGE, *([MODEL] if has_model else []))]}


def _write_model(installation: Installation, version_id: int, folder: Path) -> bool:
    with installation.database.read() as session:
        row, terms = Versions(session).get(version_id), Versions(session).terms(version_id)
        version = describe(session, row)
    shutil.rmtree(folder, ignore_errors=True)
    if any(term.is_head and term.coefficient for term in terms):
        return False
    write_model(folder, installation.base, mix_tower(installation.base, terms, installation.blobs))
    (folder / "README.md").write_text(model_card(version), encoding="utf-8")
    if version.evaluation is not None:
        (folder / "eval_results.yaml").write_text(eval_results(version), encoding="utf-8")
    return True
