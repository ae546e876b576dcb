"""How soon the pages of the web interface can be used in a browser on loopback, and the bytes of the first one.

A real server with 10,000 jobs and 1,000 versions, and Chromium. The time is from the request to `domInteractive`, with
an empty cache (the first load of a new context) and with a full one.

    python benchmarks/pages.py [--quick] [--json FILE]
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from _report import Figure, parser, report
from lists import NUM_JOBS, NUM_VERSIONS, fill, serve
from playwright.sync_api import Browser, sync_playwright

from app.runtime.logs import set_up_logging

PATHS = ("/ui/", "/ui/datasets", "/ui/patches", "/ui/versions", "/ui/playground")
MOST_MILLISECONDS, MOST_BYTES = 300.0, 100_000
_TIME = "performance.getEntriesByType('navigation')[0].domInteractive"
_BYTES = (
    "performance.getEntriesByType('navigation')[0].transferSize + "
    "performance.getEntriesByType('resource').reduce((sum, each) => sum + each.transferSize, 0)"
)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    set_up_logging("WARNING")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no browser: install Debian's package chromium")
    rounds = 3 if options.quick else 15
    figures = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(Path(folder)) as (url, database),
        sync_playwright() as playwright,
    ):
        fill(database, NUM_JOBS, NUM_VERSIONS)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in PATHS:
            loads = [load(browser, url + path) for _ in range(rounds)]
            cold, warm, size = (statistics.median(column) for column in zip(*loads, strict=True))
            name = path.removeprefix("/ui/") or "home"
            figures.append(Figure(f"{name}_interactive_ms", cold, "ms", MOST_MILLISECONDS, at_most=True))
            figures.append(Figure(f"{name}_interactive_cached_ms", warm, "ms", MOST_MILLISECONDS, at_most=True))
            if path == PATHS[0]:
                figures.append(Figure("home_bytes", size, "B", MOST_BYTES, at_most=True))
        browser.close()
    report(figures, options.json)


def load(browser: Browser, url: str) -> tuple[float, float, float]:
    """Return the milliseconds until a page can be used, without and with a cache, and the bytes of the first load."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    cold, size = float(page.evaluate(_TIME)), float(page.evaluate(_BYTES))
    page.goto(url)
    warm = float(page.evaluate(_TIME))
    context.close()
    return cold, warm, size


if __name__ == "__main__":
    main()
