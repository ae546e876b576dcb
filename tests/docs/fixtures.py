"""What the pages of the documentation presume: a folder of images, and things that the service has already."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from paint_core.starter import anchors_archive, supported_archives
from paintbox_client.client import Client
from tests.builders import WORDS, digit_members, digit_pngs, write_zip

SCREWS = {"hex screw": 1, "wood screw": 2, "washer": 0}
"""Classes of the photographs, and the digits that stand for them."""


def write_folder(folder: Path) -> None:
    """Write the files that pages name into a new folder."""
    folder.mkdir()
    for name, digit in SCREWS.items():
        place = folder / "photos" / name
        place.mkdir(parents=True)
        for index, image in enumerate(digit_pngs(digit)[:20]):
            (place / f"{index:04}.png").write_bytes(image)
    for name, digit in {"part.jpg": 1, "a.jpg": 1, "b.jpg": 2, "cat.jpg": 3}.items():  # formats are found by content
        (folder / name).write_bytes(digit_pngs(digit)[50])
    write_zip(folder / "unsorted.zip", {f"{index}.png": image for index, image in enumerate(digit_pngs(4)[:6])})
    (folder / "labels.txt").write_text("hex screw\nwood screw\n")
    (folder / "all.txt").write_text("\n".join([*sample_classes("food"), *WORDS[:3]]))
    (folder / "imagenet.txt").write_text("tench\ngoldfish\n")
    _write_export(folder / "export")


def _write_export(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    rows = ["image,choice"]
    for index in range(20):
        label = list(SCREWS)[index % 2]
        shutil.copy(folder.parent / "photos" / label / f"{index // 2:04}.png", folder / "images" / f"{index:04}.png")
        rows.append(f"images/{index:04}.png,{label}")
    (folder / "project.csv").write_text("\n".join(rows))


def sample_classes(name: str) -> list[str]:
    """The first classes of a bundled supported task."""
    with zipfile.ZipFile(supported_archives()[name]) as archive:
        return sorted({member.split("/")[1] for member in archive.namelist() if member.endswith((".png", ".jpg"))})[:4]


class Presumed:
    """Creates what a page presumes, each once.

    Args:
        client: Of the service.
        folder: Holds the files of `write_folder`.
    """

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder

    def sample(self, name: str) -> str:
        """A few classes of a bundled data set; its id."""
        if name == "digits":
            return self.digits()
        kinds = sample_classes(name)
        with zipfile.ZipFile(supported_archives()[name]) as archive:
            found = [
                each for each in archive.namelist() if each.endswith((".png", ".jpg")) and each.split("/")[1] in kinds
            ]
            members = {each: archive.read(each) for each in found}
        return self._upload(write_zip(self._folder.parent / f"{name}.zip", members), name)

    def digits(self, name: str = "digits", **num_by_split: int) -> str:
        """A data set of three digits; its id."""
        members = digit_members(range(3), **(num_by_split or {"train": 12, "val": 6, "test": 6}))
        return self._upload(write_zip(self._folder.parent / f"{name}.zip", members), name)

    def pool(self) -> None:
        """A few pictures of the bundled pool."""
        with zipfile.ZipFile(anchors_archive()) as archive:
            members = {each: archive.read(each) for each in archive.namelist()[::100]}
        path = write_zip(self._folder.parent / "anchors.zip", members)
        self._client.wait_for_job(self._client.upload_dataset(path, "anchors", unlabelled=True).job.id)

    def screws(self) -> str:
        """The photographs; its id."""
        return self._upload(self._folder / "photos", "screws")

    def patch(self, name: str, tasks: list[str], supported: list[str]) -> int:
        """An instant patch; its version."""
        request = {"name": name, "method": "instant", "tasks": tasks, "supported": supported}
        created = self._client.create_patch(**request)
        self._client.wait_for_job(created.job.id)
        version = self._client.patch(created.patch.id).version_id
        assert version is not None
        return version

    def _upload(self, path: Path, name: str) -> str:
        dataset = self._client.upload_dataset(path, name)
        self._client.wait_for_job(dataset.job.id)
        return str(dataset.id)


def _with_screws_and_food(presumed: Presumed) -> None:
    presumed.screws()
    presumed.sample("food")


def _two_patches(presumed: Presumed) -> None:
    food = presumed.sample("food")
    presumed.patch("digits v1", [presumed.digits()], [food])
    presumed.patch("digits now", [presumed.digits("few digits", train=3, val=3, test=3)], [food])
    presumed.digits("more-digits", train=4, val=4, test=4)


def _with_food(presumed: Presumed) -> None:
    presumed.sample("food")


def _with_corrections(presumed: Presumed) -> None:
    presumed.digits("corrections-of-may")


def _collected(presumed: Presumed) -> None:
    presumed.digits()
    presumed.screws()


def _with_samples(presumed: Presumed) -> None:
    for name in ("digits", *supported_archives()):
        presumed.sample(name)
    presumed.pool()


Prepare = Callable[[Presumed], object]
PREPARE: dict[str, Prepare] = {
    "README.md": _with_samples,
    "docs/classify.md": _with_screws_and_food,
    "docs/client.md": _with_food,
    "docs/datasets.md": _collected,
    "docs/evaluations.md": _two_patches,
    "docs/explanation/privacy.md": _with_corrections,
    "docs/how-to/your-folder.md": _with_samples,
    "docs/tutorial.md": _with_samples,
    "docs/how-to/custom-vision.md": _with_screws_and_food,
    "docs/patching.md": _two_patches,
}
"""What the service has before the blocks of a page run."""
