"""A browser, an installation with a worker, and a page that fails the test if anything is wrong in the console."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from tests.app.world import World, open_world, serve
from tests.project.paths import ROOT
from tests.support.forking import Forks
from tests.support.working import working

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = ROOT / ".screenshots"
TIMEOUT_MILLISECONDS = 150_000
_CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
expect.set_options(timeout=TIMEOUT_MILLISECONDS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no browser: install Debian's package chromium"))


class Look(Protocol):
    """Looks at the page as it is now."""

    def __call__(self, name: str, *, dark: bool = False) -> None:
        """Keep a screenshot under a name, and check the page."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("browser"), alias_interval_seconds=0.5) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(world: World, forks: Forks) -> Iterator[str]:
    with serve(world) as url, working(world, forks):
        yield url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page whose console must stay empty, and which loads nothing from elsewhere."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT_MILLISECONDS)
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("response", lambda answer: _check_status(answer, problems))
    opened.on("request", lambda request: _check_origin(request.url, address, problems))
    yield opened
    context.close()
    assert problems == []


def _check_status(answer: Response, problems: list[str]) -> None:
    if answer.status >= 400:
        problems.append(f"{answer.request.method} {answer.url}: {answer.status}")


def _check_origin(url: str, address: str, problems: list[str]) -> None:
    if not url.startswith((address, "blob:", "data:")):
        problems.append(f"request to {url}")


@pytest.fixture
def look(page: Page) -> Look:
    """Keeps a screenshot under a name, and checks that the page fits a narrow screen and has no fault for axe.

    In the dark only contrasts are looked at: nothing else can differ.
    """

    def check(name: str, *, dark: bool = False) -> None:
        if dark:
            page.emulate_media(color_scheme="dark")
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        if not dark:
            page.set_viewport_size({"width": 320, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, name
            page.set_viewport_size({"width": 1280, "height": 900})
        violations = Axe().run(page, options=_CONTRAST if dark else {}).response["violations"]
        assert [(each["id"], each["nodes"][0]["target"]) for each in violations] == [], name

    return check
