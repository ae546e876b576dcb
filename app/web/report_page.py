"""The report of a patch as one HTML file that needs nothing else, to be kept, sent or printed."""

from __future__ import annotations

import base64
import hashlib
import json

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from app.access.policies import needs
from app.http.dependencies import DatabaseDep
from app.http.problems import problem_responses
from app.patches.endpoints import PatchId
from app.patches.schemas import Patch
from app.patches.service import get_patch
from app.web.charts import curve_of, draw_patch
from app.web.site import fill_template
from contract.access import Scope
from contract.report import PatchReport
from contract.scores import AlphaPoint
from registry.errors import ConflictError

router = APIRouter(prefix="/v1/patches", tags=["patches"])

MOST_CLASSES, MOST_POINTS = 40, 21
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.6rem 0}th,td{text-align:left;padding:.25rem .9rem .25rem 0;vertical-align:top}
th,td{border-bottom:1px solid #c9d1d9;overflow-wrap:anywhere}small{color:#55606b}
pre{overflow-wrap:anywhere;white-space:pre-wrap}
.warning{border-left:4px solid #7a4a00;padding:0 .6rem}.chart{width:100%;max-width:46rem;border:1px solid #c9d1d9}
.chart text{font-size:12px;fill:#55606b}.chart .grid{stroke:#c9d1d9}.chart .line{stroke-width:2}
.chart .patching{stroke-width:3}.chart .supported{stroke-dasharray:6 4}.chart .chosen{stroke:#1b1f24;stroke-width:2}
.chart .cursor{display:none}.line-0{stroke:#14568a}.line-1{stroke:#b3541e}.line-2{stroke:#2c7a3f}.line-3{stroke:#7b3fa0}
.line-4{stroke:#9a6b00}.line-5{stroke:#a0205b}.line-6{stroke:#3d6b70}.line-7{stroke:#5b5b5b}
@media print{body{margin:0;max-width:none}}
""".strip()
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@router.get(
    "/{patch_id}/report.html",
    response_class=HTMLResponse,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **problem_responses(404, 409)},
    dependencies=[needs(Scope.READ)],
)
def get_report_page(database: DatabaseDep, patch_id: PatchId) -> Response:
    """Return the report of a finished patch as one HTML file, with its curve as a picture; it loads nothing."""
    patch = get_patch(database, patch_id)
    if patch.report is None:
        raise ConflictError(
            f"Patch {patch_id} has no report yet: its job is {patch.job.status}.", f"See job {patch.job_id}."
        )
    return HTMLResponse(write_report(patch), headers=_HEADERS)


def write_report(patch: Patch) -> str:
    """Return the HTML of a finished patch's report."""
    assert patch.report is not None
    return fill_template(
        "report.html",
        patch=patch,
        report=patch.report,
        curve=draw_patch(patch.report),
        points=_thin(patch.report),
        style=_STYLE,
        request=json.dumps(patch.request, indent=2, ensure_ascii=False),
        most_classes=MOST_CLASSES,
    )


def _thin(report: PatchReport) -> list[AlphaPoint]:
    """Return about twenty points of the curve, the chosen one among them."""
    curve = curve_of(report)
    step = max(1, (len(curve) - 1) // (MOST_POINTS - 1))
    return [point for place, point in enumerate(curve) if place % step == 0 or point.alpha == report.alpha]
