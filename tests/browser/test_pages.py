"""Every page in a browser: narrow, dark, by keyboard and without scripts."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from registry.jobs import Jobs
from tests.app.galleries import give_images
from tests.app.patched import SPLITS, Patched, add_patch
from tests.app.test_leaving import wait_for
from tests.app.world import World, add_ready_dataset, serve
from tests.browser.conftest import Look
from tests.builders import digit_pngs

PATHS = (
    *("/ui/", "/ui/datasets", "/ui/datasets/new", "/ui/patches", "/ui/patches/new", "/ui/versions"),
    *("/ui/versions/1", "/ui/versions/compare", "/ui/versions/compare?before=1&after=1", "/ui/versions/compose"),
    *("/ui/evaluations", "/ui/playground", "/ui/corrections", "/ui/serving", "/ui/jobs", "/ui/system", "/ui/keys"),
    *("/ui/help", "/ui/help/web", "/ui/help/tutorial", "/ui/help/reference/problems", "/ui/bases"),
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
    page: Page, patch: Patched, look: Look, path: str
) -> None:
    page.goto(path)
    look("page" + re.sub("[^a-z0-9]+", "-", path.removeprefix("/ui")))
    look("dark" + re.sub("[^a-z0-9]+", "-", path.removeprefix("/ui")), dark=True)


def test_every_page_can_be_read_without_scripts(browser: Browser, address: str, patch: Patched) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    for path in PATHS:
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


def test_the_page_of_a_shadow_version_says_how_often_it_agrees(page: Page, world: World, patch: Patched) -> None:
    assert world.client.put("/v1/aliases/shadow", json={"version": patch.version}).is_success
    world.services.follower.follow()
    fields = {"candidate_labels": ["cat", "dog"]}

    def is_compared() -> bool:  # a busy process drops images of the shadow
        assert world.client.post("/v1/classify", data=fields, files={"images": digit_pngs(0)[0]}).is_success
        return world.client.get("/v1/system").json()["comparison"] is not None

    wait_for(is_compared)
    page.goto(f"/ui/versions/{patch.version}")
    expect(page.get_by_text("In shadow, it agrees with version 1 on")).to_be_visible()


def test_classes_are_renamed_in_a_data_set_of_the_same_images(page: Page, world: World) -> None:
    dataset = add_ready_dataset(world.services, ["cat", "dog"], splits=SPLITS)
    give_images(world.services, dataset)
    page.goto(f"/ui/datasets/{dataset}")
    page.get_by_text("Rename classes").click()
    page.get_by_label("Name of the new data set").fill("house cats")
    page.get_by_label("cat", exact=True).fill("house cat")
    page.get_by_role("button", name="Make the data set").click()
    page.wait_for_url(lambda url: "/ui/datasets/ds_" in url and not url.endswith(dataset))
    expect(page.get_by_role("heading", level=1)).to_have_text("house cats")
    for name in ("house cat", "dog"):
        expect(page.get_by_role("rowheader", name=name, exact=True)).to_be_visible()


def test_a_patch_shows_its_loss_and_each_alpha_as_they_come(page: Page, world: World) -> None:
    task = add_ready_dataset(world.services, ["cat", "dog"], splits=SPLITS)
    started = world.client.post("/v1/patches", json={"name": "a patch", "tasks": [task]}).json()
    with world.services.database.write() as session:
        lease = Jobs(session).lease(started["job"]["id"], "a test", 600)
    assert lease is not None

    def note(message: str, **data: Any) -> None:
        with world.services.database.write() as session:
            Jobs(session).note(lease, message, data=data)

    page.goto(f"/ui/patches/{started['patch']['id']}")
    line = page.locator("#learning polyline").first
    for step, loss in ((1, 2.0), (2, 1.0)):
        note("fine-tuning", step=step, loss=loss, learning_rate=0.1, images_per_second=100.0, anchor_loss=0.5)
    expect(page.get_by_text("Step 2: loss 1.00, anchor loss 0.500, 100 images/s.")).to_be_visible()
    expect(line).to_have_attribute("points", re.compile(r"^[\d.]+,10.0 [\d.]+,100.0$"))
    for alpha in (0.0, 0.5):
        note("alpha evaluated", alpha=alpha, profile="flat", accuracies={task: alpha})
    expect(page.locator(".dots circle")).to_have_count(2)
    expect(page.locator(".alphas tr").last).to_have_text("0.5050.0 %")
    with world.services.database.write() as session:
        Jobs(session).fail(lease, "failed", "It was only a test.")
    expect(page.get_by_text("It was only a test.")).to_be_visible()
