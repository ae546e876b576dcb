"""How folders are read: the layouts that people upload, and the ones that must not be guessed at."""

import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import ArchiveRefusedError
from registry.intake.choices import Choices
from registry.intake.names import EXTENSIONS, SPLITS
from registry.intake.plan import Plan
from registry.intake.reading import look, read_upload

Pack = Callable[..., Path]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return lambda *names: write_archive(tmp_path / "archive.zip", names)


def write_archive(path: Path, names: tuple[str, ...]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("/") else b"not looked at")
    return path


def found(plan: Plan) -> list[tuple[str, str | None, str]]:
    return [(image.name, image.split, image.label) for image in plan.images]


def splits(plan: Plan) -> set[str | None]:
    return {image.split for image in plan.images}


def rejected(plan: Plan) -> dict[str, str]:
    return {entry["file"]: entry["reason"] for entry in plan.rejected}


def inspect_archive(path: Path) -> Plan:
    """The plan, which for this layout is made of names alone; the look that the API takes sees the same classes."""
    with TemporaryDirectory() as scratch:
        plan = read_upload(path, Path(scratch))
        if plan.layout == "imagefolder" and not any(entry["file"].endswith("csv") for entry in plan.rejected):
            assert look(path) == plan.classes
        return plan


def refusal(path: Path) -> ArchiveRefusedError:
    with pytest.raises(ArchiveRefusedError) as refused:
        inspect_archive(path)
    return refused.value


def test_class_folders_alone_tell_no_split(pack: Pack) -> None:
    plan = inspect_archive(pack("dog/b.jpg", "cat/1.png", "cat/0.png"))
    assert found(plan) == [("cat/0.png", None, "cat"), ("cat/1.png", None, "cat"), ("dog/b.jpg", None, "dog")]
    assert plan.classes == ("cat", "dog")
    assert plan.rejected == ()


def test_split_folders_hold_class_folders(pack: Pack) -> None:
    plan = inspect_archive(pack("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg"))
    assert found(plan) == [
        ("test/cat/2.jpg", "test", "cat"),
        ("train/cat/1.jpg", "train", "cat"),
        ("train/dog/1.jpg", "train", "dog"),
    ]
    assert plan.classes == ("cat", "dog")


@pytest.mark.parametrize(("spelling", "split"), SPLITS.items())
@pytest.mark.parametrize("case", [str, str.upper, str.title])
def test_a_split_is_known_by_every_usual_name(
    pack: Pack, spelling: str, split: str, case: Callable[[str], str]
) -> None:
    assert splits(inspect_archive(pack(f"{case(spelling)}/cat/1.jpg", "val/cat/2.jpg"))) == {split, "validation"}


@pytest.mark.parametrize("name", ["train", "Train", "VAL"])
def test_one_split_folder_alone_is_a_split(pack: Pack, name: str) -> None:
    plan = inspect_archive(pack(f"{name}/cat/1.jpg", f"{name}/dog/1.jpg"))
    assert splits(plan) == {SPLITS[name.lower()]}
    assert plan.classes == ("cat", "dog")


def test_a_single_root_folder_is_looked_through(pack: Pack) -> None:
    assert inspect_archive(pack("pets/cat/1.jpg", "pets/dog/1.jpg")).classes == ("cat", "dog")


def test_a_single_root_folder_may_hold_splits(pack: Pack) -> None:
    plan = inspect_archive(pack("pets/", "pets/train/", "pets/train/cat/1.jpg", "pets/val/cat/1.jpg"))
    assert found(plan) == [
        ("pets/train/cat/1.jpg", "train", "cat"),
        ("pets/val/cat/1.jpg", "validation", "cat"),
    ]


@pytest.mark.parametrize("stray", ["README.md", "pets/README.md", "pets/labels.csv", "notes/about.txt"])
def test_a_file_that_is_no_image_does_not_hide_the_root_folder(pack: Pack, stray: str) -> None:
    plan = inspect_archive(pack(stray, "pets/cat/1.jpg", "pets/dog/1.jpg"))
    assert plan.classes == ("cat", "dog")
    assert set(rejected(plan)) == {stray}


@pytest.mark.parametrize("stray", ["README.md", "train/labels.csv", "docs/about.txt"])
def test_a_file_that_is_no_image_does_not_hide_the_splits(pack: Pack, stray: str) -> None:
    plan = inspect_archive(pack(stray, "train/cat/1.jpg", "test/dog/2.jpg"))
    assert (splits(plan), plan.classes) == ({"train", "test"}, ("cat", "dog"))
    assert set(rejected(plan)) == {stray}


def test_a_class_whose_name_begins_like_a_split_is_a_class(pack: Pack) -> None:
    plan = inspect_archive(pack("train station/1.jpg", "test tube/1.jpg"))
    assert (splits(plan), plan.classes) == ({None}, ("test tube", "train station"))


def test_a_class_called_train_beside_others_is_a_class(pack: Pack) -> None:
    plan = inspect_archive(pack("train/1.jpg", "bus/1.jpg", "car/1.jpg"))
    assert (splits(plan), plan.classes) == ({None}, ("bus", "car", "train"))
    assert [each["code"] for each in plan.notes.warnings] == ["class_named_like_a_split"]


@pytest.mark.parametrize(
    "names",
    [
        ("train/1.jpg", "bus/1.jpg", "test/1.jpg"),
        ("train/steam/1.jpg", "bus/1.jpg"),
        ("train/steam/1.jpg", "bus/red/1.jpg"),
        ("train/steam/1.jpg", "zoo/old/1.jpg"),
        ("cars_train/a/1.jpg", "cars_test/a/1.jpg", "extra/a/1.jpg"),
    ],
)
def test_folders_of_which_some_are_named_like_splits_are_refused_until_the_user_says(
    pack: Pack, names: tuple[str, ...]
) -> None:
    path = pack(*names)
    refused = refusal(path)
    assert refused.code == "ambiguous_layout"
    assert "split_of" in refused.advice
    with TemporaryDirectory() as scratch:
        plan = read_upload(path, Path(scratch), Choices(split_of=(), class_level=1))
    assert (splits(plan), plan.classes) == ({None}, tuple(sorted({name.split("/")[0] for name in names})))


def test_a_class_called_train_inside_a_split_is_a_class(pack: Pack) -> None:
    plan = inspect_archive(pack("train/train/1.jpg", "test/train/1.jpg", "train/bus/1.jpg"))
    assert (splits(plan), plan.classes) == ({"train", "test"}, ("bus", "train"))


def test_images_at_conflicting_depths_are_refused_until_the_user_names_the_level(pack: Pack) -> None:
    path = pack("cat/2024/may/1.jpg", "dog/1.jpg", "dog/old/2.jpg")
    assert refusal(path).code == "ambiguous_layout"
    with TemporaryDirectory() as scratch:
        plan = read_upload(path, Path(scratch), Choices(class_level=1))
    assert [folder for _, _, folder in found(plan)] == ["cat", "dog", "dog"]


def test_an_image_at_another_depth_is_rejected_and_decides_nothing(pack: Pack) -> None:
    plan = inspect_archive(pack(*(f"{name}/{n}.jpg" for name in ("cat", "dog") for n in range(3)), "dog/old/9.jpg"))
    assert plan.classes == ("cat", "dog")
    assert list(rejected(plan)) == ["dog/old/9.jpg"]


def test_what_operating_systems_leave_behind_is_not_there(pack: Pack) -> None:
    plan = inspect_archive(
        pack(
            "__MACOSX/",
            "__MACOSX/cat/._1.jpg",
            ".DS_Store",
            "cat/.DS_Store",
            "cat/._1.jpg",
            "cat/1.jpg",
            ".git/x/1.jpg",
            "dog/1.jpg",
        )
    )
    assert (plan.classes, plan.rejected) == (("cat", "dog"), ())


def test_leftovers_do_not_hide_a_single_root_folder(pack: Pack) -> None:
    names = ("__MACOSX/pets/cat/._1.jpg", ".DS_Store", "pets/.DS_Store", "pets/cat/1.jpg", "pets/dog/1.jpg")
    assert inspect_archive(pack(*names)).classes == ("cat", "dog")


def test_names_that_start_with_a_dot_folder_are_read(pack: Pack) -> None:
    assert inspect_archive(pack("./", "./cat/", "./cat/1.jpg", "./dog/1.jpg")).classes == ("cat", "dog")


@pytest.mark.parametrize(
    "names",
    [
        ("cat/1.jpg", "dog/"),
        ("cat/1.jpg", "dog/notes.txt"),
        ("train/cat/1.jpg", "train/dog/"),
        ("train/cat/1.jpg", "test/dog/readme.md"),
        ("pets/cat/1.jpg", "pets/dog/"),
    ],
)
def test_a_class_without_an_image_is_refused_by_name(pack: Pack, names: tuple[str, ...]) -> None:
    refused = refusal(pack(*names))
    assert refused.code == "empty_class"
    assert "'dog'" in refused.detail
    assert refused.advice


def test_a_class_that_is_missing_from_one_split_is_not_empty(pack: Pack) -> None:
    plan = inspect_archive(pack("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg", "test/dog/"))
    assert plan.classes == ("cat", "dog")


def test_a_folder_entry_of_a_split_is_no_class(pack: Pack) -> None:
    assert inspect_archive(pack("train/", "train/cat/", "train/cat/1.jpg")).classes == ("cat",)


def test_many_empty_classes_are_counted_not_listed(pack: Pack) -> None:
    refused = refusal(pack("cat/1.jpg", *(f"class {number}/" for number in range(30))))
    assert "30 class folder(s)" in refused.detail
    assert refused.detail.endswith("and 25 more.")


@pytest.mark.parametrize("names", [(), ("1.jpg", "2.jpg"), ("cat/notes.txt",), ("cat/", "dog/"), (".cat/1.jpg",)])
def test_an_archive_without_an_image_in_a_class_folder_is_refused(pack: Pack, names: tuple[str, ...]) -> None:
    assert refusal(pack(*names)).code == "no_images"


def test_files_that_cannot_be_used_are_listed_with_the_reason(pack: Pack) -> None:
    plan = inspect_archive(pack("cover.jpg", "cat/1.jpg", "cat/2.svg", "cat/1.jpg.exe", "cat/noextension", "dog/1.jpg"))
    assert rejected(plan) == {
        "cover.jpg": "not in a class folder",
        "cat/2.svg": "unsupported file type",
        "cat/1.jpg.exe": "unsupported file type",
        "cat/noextension": "unsupported file type",
    }
    assert plan.classes == ("cat", "dog")


@pytest.mark.parametrize("extension", [*EXTENSIONS, ".JPG", ".Png"])
def test_every_known_extension_is_an_image(pack: Pack, extension: str) -> None:
    assert len(inspect_archive(pack(f"cat/1{extension}")).images) == 1


def test_labels_follow_the_sorted_folders_whatever_the_order_in_the_archive(pack: Pack) -> None:
    names = ["b/1.jpg", "B/1.jpg", "a/2.jpg", "a/1.jpg", "10/1.jpg", "9/1.jpg"]
    plans = {inspect_archive(pack(*order)) for order in itertools.islice(itertools.permutations(names), 0, 720, 97)}
    (plan,) = plans
    assert plan.classes == ("10", "9", "B", "a", "b")


def test_one_name_in_two_spellings_of_unicode_is_one_class(pack: Pack) -> None:
    plan = inspect_archive(pack("caf\u00e9/1.jpg", "cafe\u0301/2.jpg", "bar/1.jpg"))
    assert plan.classes == ("bar", "caf\u00e9")


FOLDERS = st.sampled_from(["train", "Test", "val", "cat", "dog", "train station", "pets", ".hidden", "__MACOSX"])
FILES = st.sampled_from(["1.jpg", "2.PNG", "a.txt", ".DS_Store", ""])
NAMES = st.tuples(st.lists(FOLDERS, max_size=3), FILES).map(lambda parts: "/".join([*parts[0], parts[1]]))


@given(st.lists(NAMES.filter(lambda name: name not in ("", "/")), unique=True, max_size=8))
def test_every_visible_file_is_planned_or_rejected_once(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = write_archive(tmp_path_factory.getbasetemp() / "law.zip", tuple(names))
    try:
        plan = inspect_archive(path)
    except ArchiveRefusedError as refused:
        assert refused.code in ("no_images", "empty_class", "ambiguous_layout")  # noqa: PT017 - either answer may come
        return
    visible = [
        name for name in names if not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    ]
    told = [image.name for image in plan.images] + [entry["file"] for entry in plan.rejected]
    assert sorted(told) == sorted(name for name in visible if not name.endswith("/"))
    assert plan.classes == tuple(sorted({image.label for image in plan.images}))
    assert len({image.split is None for image in plan.images}) == 1
