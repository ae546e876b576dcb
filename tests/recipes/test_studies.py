"""Studies: what a page keeps and what the program writes into it, and how tasks are cut for them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paint_core.data import LabelledImages, Task
from paint_core.models import BaseModel, load_base
from recipes.starter.lettering import UNSEEN_FONTS, on_notes
from recipes.studies import __main__ as program
from recipes.studies.pages import BEGIN, END, Results, Table, spread, write_page
from recipes.studies.runs import Study
from recipes.studies.scale import Rung
from recipes.studies.tasks import Tasks, draw_shots, of_classes, without_validation
from recipes.studies.typographic import _attacked


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def task() -> Task:
    classnames = ("cat", "dog", "fox", "owl")
    generator = torch.Generator().manual_seed(0)

    def part(each: int) -> LabelledImages:
        labels = torch.arange(4).repeat_interleave(each)
        images = torch.randint(0, 256, (len(labels), 64, 64, 3), dtype=torch.uint8, generator=generator)
        return LabelledImages(images, labels, classnames)

    return Task("animals", torch.eye(4), part(9), part(3), part(5))


def test_a_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    first = Results([Table(["a", "b"], [["1", "2"]], "Numbers.")])
    page = write_page(tmp_path, "numbers", "Which numbers?", "`command`", first)
    written = page.read_text(encoding="utf-8")
    assert written.startswith("# Which numbers?\n")
    assert "Numbers.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |" in written
    page.write_text(written.replace(BEGIN, f"By hand.\n\n{BEGIN}").replace(END, f"{END}\n\nThe end."), encoding="utf-8")
    write_page(tmp_path, "numbers", "Another title", "`command`", Results([Table(["a", "b"], [["3", "4"]])]))
    again = page.read_text(encoding="utf-8")
    assert "By hand." in again
    assert again.endswith("The end.\n")
    assert "| 3 | 4 |" in again
    assert "| 1 | 2 |" not in again


def test_a_mean_never_stands_without_its_range_or_the_number_of_its_seeds() -> None:
    assert spread([1.0, 3.0, 2.0]) == "2.0 [1.0, 3.0]"
    assert spread([2.0], 2) == "2.00 (1 seed)"


def test_what_is_compared_over_sizes_is_the_mean_over_tasks_of_each_seed() -> None:
    rung = Rung(3_435_960, {"cats": [{"alpha": 0.2}, {"alpha": 0.4}], "dogs": [{"alpha": 0.6}, {"alpha": 0.9}]})
    assert rung.title == "3.4 M"
    assert rung.means("alpha") == pytest.approx([0.4, 0.65])


def test_shots_are_so_many_images_of_each_class_and_depend_on_the_seed(task: Task) -> None:
    few = draw_shots(task, 2, seed=0)
    assert few.train is not None
    assert few.train.labels.bincount().tolist() == [2, 2, 2, 2]
    same, other = draw_shots(task, 2, seed=0).train, draw_shots(task, 2, seed=1).train
    assert same is not None
    assert other is not None
    assert torch.equal(few.train.images, same.images)
    assert not torch.equal(few.train.images, other.images)
    assert few.test is task.test


def test_a_task_without_validation_images_of_its_own_gives_one_a_class_of_those_that_it_trains_on(task: Task) -> None:
    few = draw_shots(task, 3, seed=0)
    assert few.train is not None
    alone = without_validation(few)
    assert alone.train is not None
    assert alone.train.labels.bincount().tolist() == [2, 2, 2, 2]
    assert alone.validation.labels.tolist() == [0, 1, 2, 3]
    together = torch.cat([alone.train.images, alone.validation.images]).flatten(1)
    assert {tuple(each[:50].tolist()) for each in together} == {
        tuple(each[:50].tolist()) for each in few.train.images.flatten(1)
    }


def test_the_halves_of_a_task_share_no_class_and_number_theirs_anew(task: Task) -> None:
    first, second = of_classes(task, [0, 3], "first"), of_classes(task, [1, 2], "second")
    assert first.test.classnames == ("cat", "owl")
    assert torch.equal(first.head, task.head[[0, 3]])
    assert first.test.labels.tolist() == [0] * 5 + [1] * 5
    assert torch.equal(second.test.images, task.test.images[5:15])
    assert first.train is not None
    assert len(first.train) == 18


def test_an_attack_changes_pictures_and_never_draws_the_right_name(task: Task) -> None:
    attacked = _attacked(task, 0, UNSEEN_FONTS, "attacked")
    assert torch.equal(attacked.test.labels, task.test.labels)
    changed = (attacked.test.images != task.test.images).any(dim=3)
    assert bool(changed.flatten(1).any(dim=1).all())
    blank = _attacked(task, 0, UNSEEN_FONTS, "blank", partial(on_notes, blank=True))
    hidden = (blank.test.images != task.test.images).any(dim=3)
    assert not bool((changed & ~hidden).any()), "a blank note hides what a note with a name hides"
    assert 0.05 < float(hidden.float().mean()) < 0.8
    plain = torch.stack([image[mask].float().std(dim=0) for image, mask in zip(blank.test.images, hidden, strict=True)])
    assert float(plain.max()) < 1e-3
    assert attacked.test.images.dtype == torch.uint8
    written = _attacked(task, 0, UNSEEN_FONTS, "what is written", written=True)
    assert torch.equal(written.test.images, attacked.test.images)
    assert not bool((written.test.labels == task.test.labels).any())


def test_class_folders_are_a_task_whose_validation_images_are_set_aside(base: BaseModel, tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 3)):
        for value in ("0", "7"):
            folder = tmp_path / "data" / "mnist" / split / value
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = source.integers(0, 256, (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{value}-{number}.png")
    tasks = Tasks(tmp_path / "work", tmp_path / "data")
    assert tasks.known(["digits", "mnist", "gtsrb"]) == ["digits", "mnist"]
    task = tasks.patching(base, "mnist")
    assert task.test.classnames == ("digit zero", "digit seven")
    assert task.train is not None
    assert (len(task.train), len(task.validation), len(task.test)) == (36, 4, 6)
    assert torch.equal(tasks.patching(base, "mnist").train.images, task.train.images)  # type: ignore[union-attr]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    given = ["studies", "--quick", "--work", str(tmp_path / "work"), "--pages", str(tmp_path / "pages")]
    monkeypatch.setattr("sys.argv", given)
    return given


def test_a_quick_study_writes_its_page_and_trains_nothing_twice(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments.append("transfer")
    assert program.main() == 0
    printed = capsys.readouterr().out
    assert "training digits" in printed
    assert "| digits |" in printed
    page = tmp_path / "pages" / "transfer.md"
    assert "| digits |" in page.read_text(encoding="utf-8")
    assert program.main() == 0
    assert "training digits" not in capsys.readouterr().out


def test_a_data_set_that_is_patched_is_not_held_as_supported(task: Task, base: BaseModel, tmp_path: Path) -> None:
    class Given(Tasks):
        def supported(self, base: BaseModel) -> dict[str, Task]:
            return {name: replace(task, name=name) for name in ("animals", "plants")}

    study = Study(base, Given(tmp_path, None), tmp_path, seeds=1, quick=False)
    assert list(study.held([])) == ["animals", "plants"]
    assert list(study.held([task])) == ["plants"]
    assert list(study.held([replace(task, name="animals, one half")])) == ["plants"]
