"""Every page in a browser: narrow, dark, by keyboard and without scripts."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.patched import Patched, add_patch
from tests.app.world import World, serve

PATHS = (
    *("/ui/", "/ui/datasets", "/ui/datasets/new", "/ui/patches", "/ui/patches/new", "/ui/versions"),
    *("/ui/versions/1", "/ui/versions/compare", "/ui/versions/compare?before=1&after=1", "/ui/versions/compose"),
    *("/ui/evaluations", "/ui/playground", "/ui/corrections", "/ui/serving", "/ui/jobs", "/ui/system", "/ui/keys"),
    *("/ui/help", "/ui/help/web"),
)


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    """Without a worker: the things on the pages are made up."""
    with serve(world) as url:
        yield url


@pytest.fixture(scope="module")
def patch(world: World) -> Patched:
    return add_patch(world)


@pytest.mark.parametrize("path", PATHS)
def test_a_page_has_no_fault_that_axe_finds_and_fits_a_narrow_screen(
    page: Page, patch: Patched, look: Callable[[str], None], path: str
) -> None:
    page.goto(path)
    look("page" + re.sub("[^a-z0-9]+", "-", path.removeprefix("/ui")))
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.emulate_media(color_scheme="dark")
    look("dark" + re.sub("[^a-z0-9]+", "-", path.removeprefix("/ui")))


@pytest.mark.parametrize("path", PATHS)
def test_a_page_can_be_read_without_scripts(browser: Browser, address: str, patch: Patched, path: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    context.close()


def test_the_keyboard_reaches_the_content_first_and_then_everything(page: Page, patch: Patched) -> None:
    page.goto("/ui/versions")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.goto("/ui/versions")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    links = page.evaluate("[...document.querySelectorAll('a, button, input, select')].map(each => each.outerHTML)")
    assert [each for each in links if each not in reached] == []


def test_a_list_shows_what_others_do_without_a_reload(page: Page, world: World, patch: Patched) -> None:
    page.goto("/ui/")
    world.services.follower.follow()
    answer = page.request.put("/v1/aliases/canary", data={"version": patch.version, "reason": "by somebody else"})
    assert answer.ok, answer.text()
    expect(page.locator("#served")).to_contain_text("canary")
    expect(page.locator("#events")).to_contain_text("by somebody else")
