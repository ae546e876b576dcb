"""What is refused or left out of exports: regions, ambiguous paths, several labels, hostile values."""

import json
from pathlib import Path
from typing import Any

import pytest

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError
from registry.intake.choices import Choices
from registry.intake.exports.uris import paths_of
from tests.registry.test_exports import (
    CAT,
    DOG,
    PNGS,
    as_json,
    as_lines,
    choice,
    coco,
    custom_vision_image,
    images,
    read_members,
    refusal,
    rekognition_line,
    task,
    vertex_line,
)
from tests.registry.uploads import labels, pack, read, rejected

# -- regions ---------------------------------------------------------------------------------------------------------

BOX = {"x": 1.0, "y": 1.0, "width": 50.0, "height": 50.0, "rotation": 0}
DETECTION: dict[str, tuple[str, bytes, str]] = {
    "custom-vision": ("images.json", as_json([custom_vision_image("aaaa", CAT, regions=1)]), "classification project"),
    "ground-truth": (
        "output.manifest",
        as_lines(
            {
                "source-ref": "s3://b/a.png",
                "boxes": {"annotations": [{"class_id": 0, "left": 1, "top": 1, "width": 3, "height": 3}]},
                "boxes-metadata": {"class-map": {"0": CAT}, "type": "groundtruth/object-detection"},
            }
        ),
        "image-level labels",
    ),
    "vertex-ai": (
        "data.jsonl",
        as_lines({"imageGcsUri": "gs://b/a.png", "boundingBoxAnnotations": [{"displayName": CAT, "xMin": 0.1}]}),
        "single-label classification",
    ),
    "vertex-ai table": ("data.csv", b"TRAINING,gs://b/a.png,cat,0.1,0.1,,,0.3,0.3,,\n", "single-label classification"),
    "label-studio": (
        "export.json",
        as_json([task("a.png", {"result": [{"type": "rectanglelabels", "value": {**BOX, "rectanglelabels": [CAT]}}]})]),
        "<Choices>",
    ),
    "label-studio min": (
        "export.json",
        as_json([{"image": "a.png", "label": [{**BOX, "rectanglelabels": [CAT]}], "annotator": 1, "lead_time": 1.5}]),
        "<Choices>",
    ),
    "fiftyone": (
        "labels.json",
        as_json({"classes": [CAT], "labels": {"a": [{"label": 0, "bounding_box": [0.1, 0.1, 0.2, 0.2]}]}}),
        "ImageClassificationDirectoryTree",
    ),
    "coco": ("instances.json", coco(bbox=[1, 1, 3, 3], area=9, iscrowd=0), "Cut the boxes out"),
    "create-ml": (
        "_annotations.createml.json",
        as_json([{"image": "a.png", "annotations": [{"label": CAT, "coordinates": BOX}]}]),
        "Cut the boxes out",
    ),
    "fiftyone-dataset": ("samples.json", as_json({"samples": [{"filepath": "a.png"}]}), "fiftyone convert"),
}


@pytest.mark.parametrize("kind", DETECTION)
def test_boxes_are_refused_with_what_to_export_instead(tmp_path: Path, kind: str) -> None:
    name, document, way = DETECTION[kind]
    files = {"a.png": PNGS[0], "b.png": PNGS[1], "aaaa-0000-4000-8000-000000000000.png": PNGS[2]}
    refused = refusal(tmp_path, {name: document, "metadata.json": b"{}", **files})
    assert (refused.code, way in refused.advice) == ("needs_conversion", True), refused


def test_boxes_beside_class_folders_do_not_matter(tmp_path: Path) -> None:
    name, document, _ = DETECTION["label-studio"]
    plan = read_members(tmp_path, {name: document, **images("cat/a.png", "dog/b.png")})
    assert (plan.layout, plan.classes) == ("imagefolder", (CAT, DOG))
    assert "boxes" in rejected(plan)[name]


# -- what may go wrong -----------------------------------------------------------------------------------------------


def test_a_path_that_matches_several_files_is_an_error_with_their_names(tmp_path: Path) -> None:
    lines = as_lines(rekognition_line("pets/1.png", CAT), rekognition_line("pets/2.png", DOG))
    refused = refusal(tmp_path, {"m.manifest": lines, **images("a/1.png", "b/1.png", "2.png")})
    assert (refused.code, "'a/1.png', 'b/1.png'" in refused.detail) == ("bad_table", True)


def test_paths_that_match_the_same_file_equally_are_an_error_and_the_better_one_wins(tmp_path: Path) -> None:
    lines = as_lines(rekognition_line("cats/1.png", CAT), rekognition_line("dogs/1.png", DOG))
    refused = refusal(tmp_path, {"m.manifest": lines, **images("all/1.png", "all/2.png")})
    assert (refused.code, "cats/1.png" in refused.detail, "dogs/1.png" in refused.detail) == ("bad_table", True, True)
    more = as_lines(rekognition_line("dogs/2.png", DOG))
    plan = read_members(tmp_path, {"m.manifest": lines + more, **images("cats/1.png", "dogs/2.png")})
    assert labels(plan) == [("cats/1.png", None, CAT), ("dogs/2.png", None, DOG)]
    assert rejected(plan)["m.manifest:2"] == "lists a missing file"


def test_an_image_that_is_listed_twice_counts_once_or_not_at_all(tmp_path: Path) -> None:
    rows = [rekognition_line("1.png", CAT), rekognition_line("1.png", CAT), rekognition_line("2.png", CAT)]
    rows += [rekognition_line("3.png", CAT), rekognition_line("3.png", DOG), rekognition_line("4.png", DOG)]
    plan = read_members(tmp_path, {"m.manifest": as_lines(*rows), **images("1.png", "2.png", "3.png", "4.png")})
    assert labels(plan) == [("1.png", None, CAT), ("2.png", None, CAT), ("4.png", None, DOG)]
    assert "another row already lists" in rejected(plan)["m.manifest:2"]
    assert "has the labels 'cat', 'dog'" in rejected(plan)["m.manifest:4"]


def test_mostly_several_labels_are_refused(tmp_path: Path) -> None:
    several = [custom_vision_image(name, CAT, DOG) for name in ("aaaa", "bbbb")]
    document = as_json([*several, custom_vision_image("cccc", CAT)])
    names = [f"{each}-0000-4000-8000-000000000000.png" for each in ("aaaa", "bbbb", "cccc")]
    assert refusal(tmp_path, {"images.json": document, **images(*names)}).code == "multi_label"


def test_an_export_of_some_images_in_class_folders_is_ambiguous(tmp_path: Path) -> None:
    members = {
        "m.manifest": as_lines(rekognition_line("cat/1.png", CAT)),
        **images("cat/1.png", "cat/2.png", "dog/1.png"),
    }
    assert refusal(tmp_path, members).code == "ambiguous_layout"
    assert labels(read_members(tmp_path, members, layout="ground-truth")) == [("cat/1.png", None, CAT)]
    assert read(pack(tmp_path / "x", members), choices=Choices(layout="imagefolder")).classes == (CAT, DOG)


def test_a_manifest_that_the_user_names_may_be_an_export(tmp_path: Path) -> None:
    members = {
        "one.manifest": as_lines(rekognition_line("1.png", CAT), rekognition_line("2.png", DOG)),
        "two.manifest": as_lines(rekognition_line("1.png", DOG), rekognition_line("2.png", CAT)),
    }
    plan = read_members(tmp_path, {**members, **images("1.png", "2.png")}, manifest="two.manifest")
    assert labels(plan) == [("1.png", None, DOG), ("2.png", None, CAT)]


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "s3://b/../../../etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/x",
        "a\0b.png",
        "//[x",
    ],
)
def test_a_path_outside_is_only_a_name_that_no_file_has(tmp_path: Path, path: str) -> None:
    rows = [
        rekognition_line("1.png", CAT),
        rekognition_line("2.png", DOG),
        {**rekognition_line("", CAT), "source-ref": path},
    ]
    plan = read_members(tmp_path, {"m.manifest": as_lines(*rows), **images("1.png", "2.png")})
    assert len(plan.images) == 2
    assert "not in the archive" in rejected(plan)["m.manifest:3"]


JUNK = [None, True, -1, 1.5, "", "x", [], {}, [None], [[[]]], {"a": None}, [{"label": {}}], {"annotations": 3}]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_values_of_any_kind_break_no_reader(tmp_path: Path, junk: Any) -> None:
    good = custom_vision_image("aaaa", CAT)
    documents = {
        "a.json": as_json(
            [good, {**good, "tags": junk}, {**good, "tags": [{"tagName": junk}]}, {**good, "id": junk}, junk]
        ),
        "b.manifest": as_lines(
            rekognition_line("1.png", CAT), {"source-ref": "s3://b/1.png", "x": junk, "x-metadata": junk}, junk
        ),
        "c.jsonl": as_lines(
            vertex_line("1.png", CAT), {"imageGcsUri": "gs://b/1.png", "classificationAnnotation": junk}, junk
        ),
        "d.json": as_json(
            [task("1.png", choice(CAT)), task("1.png", {"result": junk}), {"data": junk, "annotations": junk}]
        ),
        "e.json": as_json({"classes": junk, "labels": {"1": junk}}),
        "f.json": as_json(
            {"images": [junk, {"id": junk}], "annotations": [junk, {"image_id": junk}], "categories": junk}
        ),
        "g.json": as_json({"DatasetEntries": ["{", json.dumps(junk), junk]}),
    }
    for name, document in documents.items():
        members = {name: document, **images("1.png", "aaaa-0000-4000-8000-000000000000.png")}
        try:
            plan = read(pack(tmp_path / "x", members))
        except ArchiveRefusedError:
            continue
        assert {label for _, _, label in labels(plan)} <= {CAT, "x", "true", "1.5", "-1"}


def test_exports_have_the_limits_of_tables(tmp_path: Path) -> None:
    lines = as_lines(*(rekognition_line(f"{n}.png", CAT) for n in range(20)))
    path = pack(tmp_path / "x", {"m.manifest": lines, **images("0.png", "1.png")})
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, limits=ArchiveLimits(max_members=10))
    assert (refused.value.code, "10 rows" in refused.value.detail) == ("bad_table", True)
    with pytest.raises(ArchiveRefusedError):
        read(path, limits=ArchiveLimits(max_table_bytes=100))
    deep = b"[" * 100_000
    refused_deep = refusal(tmp_path, {"labels.json": deep, **images("0.png", "1.png")})
    assert refused_deep.code in ("bad_table", "no_images")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("s3://bucket/a/b.png", "s3://bucket/a/b.png"),
        ("https://h/c/a%20b.png?sig=x#y", "https://h/c/a b.png"),
        ("/data/local-files/?d=a/b.png", "a/b.png"),
        ("/data/upload/3/0123abcd-b.png", "/data/upload/3/b.png"),
        ("C:\\data\\b.png", "C:/data/b.png"),
        ("100%.png", "100%.png"),
        ("a?b.png", "a?b.png"),
    ],
)
def test_a_uri_is_read_as_the_path_in_it(text: str, path: str) -> None:
    assert path in paths_of(text)
