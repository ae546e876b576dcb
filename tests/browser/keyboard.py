"""A person who has no mouse."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

MOST_STEPS = 400
_HAS_FOCUS = "element => element === document.activeElement"


@dataclass(frozen=True)
class Keyboard:
    """Uses a page by keys alone: Tab to a control, then the keys that it takes."""

    page: Page

    def reach(self, control: Locator) -> Locator:
        """Press Tab until the control has the focus."""
        expect(control).to_be_enabled()
        for _ in range(MOST_STEPS):
            if control.evaluate(_HAS_FOCUS):
                return control
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard does not reach {control}")

    def press(self, control: Locator, key: str = "Enter") -> None:
        """Press a button or follow a link."""
        self.reach(control)
        self.page.keyboard.press(key)

    def tick(self, box: Locator) -> None:
        """Tick a check box."""
        if not box.is_checked():
            self.press(box, "Space")
        expect(box).to_be_checked()

    def write(self, field: Locator, text: str) -> None:
        """Replace what is in a field."""
        self.reach(field)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def choose(self, choice: Locator, option: str) -> None:
        """Choose an option by typing what it begins with."""
        self.reach(choice)
        self.page.keyboard.type(option)
        label = choice.evaluate("element => element.selectedOptions[0].label")
        assert label.startswith(option), f"{label} is chosen, not {option}"

    def give(self, field: Locator, file: Path) -> None:
        """Choose a file."""
        with self.page.expect_file_chooser() as chooser:
            self.press(field)
        chooser.value.set_files(file)
