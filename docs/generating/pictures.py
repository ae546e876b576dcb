"""Take the pictures of the tutorial from a real service: `make pictures` (needs Debian's chromium).

A service is started on an empty data directory, patched as the tutorial does, and its pages are photographed.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from paintbox_client.client import Client
from paintbox_demo.samples import upload_sample
from paintbox_demo.service import connect

FOLDER = Path(__file__).resolve().parents[1] / "pictures"
MAX_BYTES = 60_000
_WIDTH, _HEIGHT = 1100, 720
_SUPPORTED = ("food", "nature", "objects", "travel")


def patch_digits(client: Client) -> tuple[str, str]:
    """Do what the tutorial does; return the ids of the data set and the patch."""
    digits, *supported = (upload_sample(client, name) for name in ("digits", *_SUPPORTED))
    for dataset in (digits, *supported):
        client.wait_for_job(dataset.job.id)
    created = client.create_patch(name="digits v1", tasks=[digits.id], supported=[dataset.id for dataset in supported])
    client.wait_for_job(created.job.id)
    chosen = client.reselect(created.patch.id, alpha=0.5)
    client.activate(chosen.version.id, reason="reads digits")
    client.roll_back("end of the tutorial")
    return digits.id, created.patch.id


def _show_dataset(page: Page, dataset: str) -> None:
    page.goto(f"/ui/datasets/{dataset}")
    page.locator(".gallery img").first.wait_for()


def _show_explorer(page: Page, patch: str) -> None:
    page.goto(f"/ui/patches/{patch}")
    page.get_by_role("heading", name="Alpha explorer").evaluate("heading => heading.scrollIntoView()")
    page.get_by_role("slider", name="Alpha").focus()


def _show_serving(page: Page) -> None:
    page.goto("/ui/serving")


def take(page: Page, name: str, show: Callable[[Page], None]) -> None:
    """Write `NAME.webp`: what a window of 1,100 x 720 pixels shows.

    Raises:
        ValueError: The picture is too large to be stored in the repository.
    """
    show(page)
    page.wait_for_load_state("networkidle")
    buffer = io.BytesIO()
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(buffer, "WEBP", quality=80, method=6)
    if buffer.tell() > MAX_BYTES:
        raise ValueError(f"{name}: {buffer.tell()} bytes, more than {MAX_BYTES}")
    (FOLDER / f"{name}.webp").write_bytes(buffer.getvalue())


def main() -> None:
    """Take all pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no browser: install Debian's package chromium")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, connect(None, None, Path(folder)) as (client, _):
        dataset, patch = patch_digits(client)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(
                base_url=client.url, viewport={"width": _WIDTH, "height": _HEIGHT}, reduced_motion="reduce"
            )
            take(page, "dataset", lambda page: _show_dataset(page, dataset))
            take(page, "explorer", lambda page: _show_explorer(page, patch))
            take(page, "serving", _show_serving)
            browser.close()


if __name__ == "__main__":
    main()
