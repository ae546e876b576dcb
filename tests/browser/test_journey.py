"""From a folder of images to a better model, and from a mistake to the next one, without the command line."""

import re
import zipfile
from pathlib import Path

from playwright.sync_api import Page, expect

from paint_core.starter import supported_archives
from paintbox_client.client import Client
from tests.browser.conftest import Look
from tests.browser.keyboard import Keyboard
from tests.builders import digit_members, digit_pngs, write_zip

DIGITS = range(3)


def write_food(path: Path) -> Path:
    """Images of six kinds of food that the starter knows."""
    with zipfile.ZipFile(supported_archives()["food"]) as archive:
        names = [name for name in archive.namelist() if name.startswith(("val", "test")) and name.endswith(".png")]
        kinds = sorted({name.split("/")[1] for name in names})[:6]
        return write_zip(path, {name: archive.read(name) for name in names if name.split("/")[1] in kinds})


def upload(page: Page, name: str, archive: Path) -> None:
    keyboard = Keyboard(page)
    page.goto("/ui/datasets")
    keyboard.press(page.get_by_role("link", name="Upload images"))
    keyboard.write(page.get_by_label("Name"), name)
    keyboard.give(page.get_by_label("Archive"), archive)
    keyboard.press(page.get_by_role("button", name="Upload"))
    page.wait_for_url(re.compile("/ui/datasets/ds_"))
    expect(page.get_by_text("ready", exact=True)).to_be_visible()


def look_at_the_data(page: Page, look: Look) -> None:
    page.reload()
    for image in (page.locator(".gallery img").first, page.locator(".pairs img").last):
        expect(image).to_be_visible()
        expect(image).to_have_js_property("complete", True)
        assert image.evaluate("image => image.naturalWidth") > 0
    expect(page.locator(".pairs img")).to_have_count(2)
    look("dataset")


def start_patch(page: Page, look: Look) -> None:
    keyboard = Keyboard(page)
    keyboard.press(page.get_by_role("link", name="Patch the model with it"))
    expect(page.get_by_role("group", name="What to improve").get_by_label("digits")).to_be_checked()
    keyboard.write(page.get_by_label("Name"), "digits patch")
    keyboard.tick(page.get_by_role("group", name="What must not get worse").get_by_label("food"))
    keyboard.write(page.get_by_label("Maximum drop"), "25")
    keyboard.choose(page.get_by_label("Anchors"), "none")
    keyboard.write(page.get_by_label("Optimizer steps"), "25")
    keyboard.press(page.get_by_text("Further options"))
    keyboard.write(page.get_by_label("a patch request"), '{"finetune": {"seed": 3}}')
    keyboard.tick(page.get_by_label("Activate it if it is certified"))
    keyboard.press(page.get_by_role("button", name="Check"))
    expect(page.get_by_text("25 optimizer steps")).to_be_visible()
    for each in ("paintbox patch", "--set finetune.seed=3", "--iterations 25", "--name 'digits patch'"):
        expect(page.locator("pre.command")).to_contain_text(each)
    expect(page.locator("pre.curl")).to_contain_text('"finetune":{"seed":3,"iterations":25}')
    look("new-patch")
    keyboard.press(page.get_by_role("button", name="Start"))


def watch(page: Page) -> None:
    page.wait_for_url(re.compile("/ui/patches/pt_"))
    expect(page.get_by_text("Watch it learn")).to_be_visible()
    expect(page.get_by_text("Step ")).to_be_visible()
    expect(page.locator("#learning polyline").first).to_have_attribute("points", re.compile(r"\d"))
    expect(page.get_by_role("heading", name="Alpha explorer")).to_be_visible()


def explore(page: Page, look: Look) -> None:
    keyboard = Keyboard(page)
    slider = page.get_by_role("slider", name="Alpha")
    keyboard.press(slider, "End")
    keyboard.choose(page.get_by_label("Images that change"), "digits")
    expect(page.locator(".faces img").first).to_be_visible()
    told = page.locator(".changes")
    expect(told).to_contain_text("answers change")
    at_one = told.inner_text()
    page.keyboard.press("Shift+Tab")
    keyboard.reach(slider)
    keyboard.press(slider, "Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(told).not_to_have_text(at_one)
    alpha = float(page.locator("output").inner_text())
    page.keyboard.press("ArrowRight")
    expect(page.locator("output")).to_have_text(f"{alpha + 0.01:.2f}")
    look("patch")
    keyboard.press(page.get_by_role("button", name="Create a version with this alpha"))
    page.wait_for_url(re.compile("/ui/versions/3"))
    expect(page.get_by_role("img", name="Which versions version 3 was made from")).to_be_visible()
    look("version")


def activate(page: Page, address: str, look: Look) -> None:
    keyboard = Keyboard(page)
    keyboard.write(page.get_by_role("textbox", name="Reason"), "tried by hand")
    keyboard.press(page.get_by_role("button", name="Activate version 3"))
    page.wait_for_url(re.compile("/ui/serving"))
    with Client(address) as client:
        assert client.active().version == 3
    expect(page.get_by_role("cell", name="tried by hand")).to_be_visible()
    look("serving")
    keyboard.write(page.get_by_role("textbox", name="Reason"), "tried enough")
    keyboard.press(page.get_by_role("button", name=re.compile("Roll back to version [12]")))
    expect(page.get_by_role("cell", name="tried enough")).to_be_visible()
    with Client(address) as client:
        assert client.active().version < 3
    page.goto("/ui/versions")
    expect(page.get_by_role("img", name="Accuracies of 2 data sets over versions 1 to 2")).to_be_visible()
    look("versions")


def correct(page: Page, look: Look, folder: Path) -> None:
    (folder / "one.png").write_bytes(digit_pngs(1)[70])
    keyboard = Keyboard(page)
    page.goto("/ui/playground")
    keyboard.give(page.get_by_label("Image: choose"), folder / "one.png")
    keyboard.press(page.get_by_role("button", name="Remove a dog"))
    for label in ("digit zero", "digit one", "digit two"):
        keyboard.write(page.get_by_role("textbox", name="Labels"), label)
        page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Labels").get_by_role("listitem")).to_have_count(4)
    for number, version in ((2, "1 "), (3, "3 ")):
        keyboard.press(page.get_by_role("button", name="Compare with another version"))
        keyboard.choose(page.get_by_role("combobox", name=f"Version {number}"), version)
    keyboard.press(page.get_by_role("button", name="Classify"))
    expect(page.locator("#answers section")).to_have_count(3)
    keyboard.press(page.locator("#answers section").last.get_by_role("button", name="digit one is right"))
    expect(page.get_by_text("Noted: it is digit one.")).to_be_visible()
    look("playground")


def learn_from_corrections(page: Page, address: str, look: Look) -> None:
    with Client(address) as client:
        for digit, label in ((0, "digit zero"), (1, "digit one")):
            for image in digit_pngs(digit)[80:100]:
                client.send_feedback(image, label=label, predicted="digit two")
    keyboard = Keyboard(page)
    page.goto("/ui/corrections")
    expect(page.locator("#inbox li")).to_have_count(41)
    keyboard.write(page.locator("#inbox li").first.get_by_label("Right label"), "digit one")
    page.keyboard.press("Enter")
    expect(page.locator("#inbox li")).to_have_count(40)
    look("corrections")
    keyboard.write(page.get_by_label("Name of the data set"), "mistakes")
    keyboard.press(page.get_by_role("button", name="Make a data set and a patch"))
    page.wait_for_url(re.compile("/ui/patches/new"))
    expect(page.get_by_label("Name")).to_have_value("mistakes: patch")
    expect(page.get_by_role("group", name="What to improve").get_by_label("mistakes")).to_be_checked()
    expect(page.get_by_role("group", name="What must not get worse").get_by_label("food")).to_be_checked()


def test_from_a_folder_of_images_to_a_better_model_without_a_mouse(
    page: Page, address: str, look: Look, tmp_path: Path
) -> None:
    food = write_food(tmp_path / "food.zip")
    members = digit_members(DIGITS, train=40, val=20, test=20)
    leaked = {"test/one/leaked.png": members["train/one/000.png"]}
    upload(page, "food", food)
    upload(page, "digits", write_zip(tmp_path / "digits.zip", members | leaked))
    look_at_the_data(page, look)
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
