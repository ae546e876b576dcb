"""From a folder of images to a better model, and from a mistake to the next one, without the command line."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from paint_core.starter import supported_archives
from paintbox_client.client import Client
from tests.builders import digit_members, digit_pngs, write_zip

DIGITS = range(3)
Look = Callable[[str], None]


def write_food(path: Path) -> Path:
    """Images of six kinds of food that the starter knows."""
    with zipfile.ZipFile(supported_archives()["food"]) as archive:
        names = [name for name in archive.namelist() if name.startswith(("val", "test")) and name.endswith(".png")]
        kinds = sorted({name.split("/")[1] for name in names})[:6]
        return write_zip(path, {name: archive.read(name) for name in names if name.split("/")[1] in kinds})


def upload(page: Page, name: str, archive: Path) -> None:
    page.goto("/ui/datasets")
    page.get_by_role("link", name="Upload images").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Archive").set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile("/ui/datasets/ds_"))
    expect(page.get_by_text("ready", exact=True)).to_be_visible()


def start_patch(page: Page, look: Look) -> None:
    page.get_by_role("link", name="Patch the model with it").click()
    expect(page.get_by_role("group", name="What to improve").get_by_label("digits")).to_be_checked()
    page.get_by_role("group", name="What must not get worse").get_by_label("food").check()
    page.get_by_label("Name").fill("digits patch")
    page.get_by_label("Maximum drop").fill("25")
    page.get_by_label("Optimizer steps").fill("25")
    page.get_by_label("Activate it if it is certified").check()
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("25 optimizer steps")).to_be_visible()
    expect(page.locator("pre")).to_contain_text("paintbox patch")
    look("new-patch")
    page.get_by_role("button", name="Start").click()


def watch(page: Page) -> None:
    page.wait_for_url(re.compile("/ui/patches/pt_"))
    expect(page.get_by_text("Watch it learn")).to_be_visible()
    expect(page.get_by_text("Step ")).to_be_visible()
    expect(page.locator("#learning polyline").first).to_have_attribute("points", re.compile(r"\d"))
    expect(page.get_by_role("heading", name="Alpha explorer")).to_be_visible()


def explore(page: Page, look: Look) -> None:
    slider = page.get_by_role("slider", name="Alpha")
    page.get_by_label("Images that change").select_option(label="digits")
    slider.fill("1")
    expect(page.locator(".faces img").first).to_be_visible()
    told = page.locator(".changes")
    expect(told).to_contain_text("answers change")
    at_one = told.inner_text()
    slider.fill("0.2")
    expect(told).not_to_have_text(at_one)
    slider.press("ArrowRight")
    expect(page.locator("output")).to_have_text("0.21")
    look("patch")
    page.get_by_role("button", name="Create a version with this alpha").click()
    page.wait_for_url(re.compile("/ui/versions/3"))
    look("version")


def activate(page: Page, address: str, look: Look) -> None:
    page.get_by_role("textbox", name="Reason").fill("tried at 0.21")
    page.get_by_role("button", name="Activate version 3").click()
    page.wait_for_url(re.compile("/ui/serving"))
    with Client(address) as client:
        assert client.active().version == 3
    expect(page.get_by_role("cell", name="tried at 0.21")).to_be_visible()
    look("serving")
    page.get_by_role("textbox", name="Reason").fill("tried enough")
    page.get_by_role("button", name=re.compile("Roll back to version [12]")).click()
    expect(page.get_by_role("cell", name="tried enough")).to_be_visible()
    with Client(address) as client:
        assert client.active().version < 3


def correct(page: Page, look: Look, folder: Path) -> None:
    (folder / "one.png").write_bytes(digit_pngs(1)[70])
    page.goto("/ui/playground")
    page.get_by_label("Image: choose").set_input_files(folder / "one.png")
    page.get_by_label("Labels").fill("digit zero\ndigit one\ndigit two")
    page.get_by_label("Second version").select_option("1")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#answers section")).to_have_count(2)
    page.locator("#answers section").last.get_by_role("button", name="digit one is right").click()
    expect(page.get_by_text("Noted: it is digit one.")).to_be_visible()
    look("playground")


def learn_from_corrections(page: Page, address: str, look: Look) -> None:
    with Client(address) as client:
        for digit, label in ((0, "digit zero"), (1, "digit one")):
            for image in digit_pngs(digit)[80:100]:
                client.send_feedback(image, label=label, predicted="digit two")
    page.goto("/ui/corrections")
    expect(page.locator("#inbox li")).to_have_count(41)
    first = page.locator("#inbox li").first
    first.get_by_role("button", name="Accept").click()
    expect(page.locator("#inbox li")).to_have_count(40)
    look("corrections")
    page.get_by_label("Name of the data set").fill("mistakes")
    page.get_by_role("button", name="Make a data set and a patch").click()
    page.wait_for_url(re.compile("/ui/patches/new"))
    expect(page.get_by_role("group", name="What to improve").get_by_label("mistakes")).to_be_checked()
    expect(page.get_by_role("group", name="What must not get worse").get_by_label("food")).to_be_checked()


def test_from_a_folder_of_images_to_a_better_model(page: Page, address: str, look: Look, tmp_path: Path) -> None:
    food = write_food(tmp_path / "food.zip")
    digits = write_zip(tmp_path / "digits.zip", digit_members(DIGITS, train=40, val=20, test=20))
    upload(page, "food", food)
    upload(page, "digits", digits)
    page.reload()
    expect(page.locator(".gallery img").first).to_be_visible()
    expect(page.locator(".gallery img").first).to_have_js_property("complete", True)
    assert page.locator(".gallery img").first.evaluate("image => image.naturalWidth") > 0
    look("dataset")
    start_patch(page, look)
    watch(page)
    explore(page, look)
    activate(page, address, look)
    correct(page, look, tmp_path)
    learn_from_corrections(page, address, look)


def test_a_cell_of_the_confusion_matrix_leads_to_its_images_and_to_a_patch(
    page: Page, look: Look, tmp_path: Path
) -> None:
    upload(
        page, "more digits", write_zip(tmp_path / "digits.zip", digit_members(range(3, 6), train=10, val=20, test=20))
    )
    page.goto("/ui/evaluations")
    page.get_by_label("Data set").select_option(label="more digits")
    page.get_by_label("Images").select_option("validation")
    page.get_by_role("button", name="Evaluate").click()
    page.wait_for_url(re.compile("/ui/evaluations/ev_"))
    page.locator(".matrix td:not(.right) a").first.click()
    expect(page.locator(".gallery .lost img").first).to_be_visible()
    look("evaluation")
    page.get_by_role("button", name="Collect them, and patch").click()
    page.wait_for_url(re.compile("/ui/patches/new"))
    expect(page.get_by_role("group", name="What to improve").get_by_label("mistakes of version")).to_be_checked()
