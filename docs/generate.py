"""Write what follows from the code: docs/openapi.json, docs/reference and the types of the asynchronous client.

`make docs` runs it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # for `python docs/generate.py`, which puts only `docs` there

from app.jobs.dispatcher import MemoryDispatcher  # noqa: E402
from app.main import create_app  # noqa: E402
from app.settings import AppSettings  # noqa: E402
from docs.generating.async_stub import build_stub, formatted  # noqa: E402
from docs.generating.client_methods import build_client  # noqa: E402
from docs.generating.commands import build_commands  # noqa: E402
from docs.generating.endpoints import replace_endpoints  # noqa: E402
from docs.generating.metrics import build_metrics  # noqa: E402
from docs.generating.problems import build_problems  # noqa: E402
from docs.generating.settings import build_settings  # noqa: E402


def build_pages() -> dict[str, str]:
    """Return the generated files by their path below `docs`, but for the metrics, which need a running application."""
    openapi = create_app(AppSettings()).openapi()
    return {
        "openapi.json": _dump(openapi),
        "api.md": replace_endpoints((DOCS / "api.md").read_text(encoding="utf-8"), openapi),
        "reference/settings.md": build_settings(),
        "reference/problems.md": build_problems(),
        "reference/cli.md": build_commands(),
        "reference/client.md": build_client(),
    }


def _dump(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


async def _read_metrics(data_dir: Path) -> str:
    """Return the page of the metrics, from an application that runs on an empty data directory."""
    app = create_app(AppSettings.load(data_dir=data_dir, device="cpu"), MemoryDispatcher())
    async with app.router.lifespan_context(app):
        return build_metrics(app.state.services.metrics.registry)


def main() -> None:
    """Write all files."""
    with tempfile.TemporaryDirectory() as folder:
        pages = build_pages() | {"reference/metrics.md": asyncio.run(_read_metrics(Path(folder)))}
    for path, text in pages.items():
        (DOCS / path).write_text(text, encoding="utf-8")
    (DOCS.parent / "paintbox_client" / "async_client.pyi").write_text(formatted(build_stub()), encoding="utf-8")


if __name__ == "__main__":
    main()
