"""Exports of annotation tools and cloud services as their makers document them, with images in the same archive."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from registry.errors import ArchiveRefusedError
from registry.intake.choices import Choices
from registry.intake.plan import Plan
from registry.intake.reading import look
from tests.builders import digit_pngs
from tests.registry.uploads import labels, pack, read, rejected

PNGS = [*digit_pngs(0), *digit_pngs(1)]
CAT, DOG = "cat", "dog"


def images(*names: str) -> dict[str, bytes]:
    return dict(zip(names, PNGS, strict=False))


def as_json(data: Any) -> bytes:
    return json.dumps(data).encode()


def as_lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read_members(folder: Path, members: Mapping[str, bytes], **choices: Any) -> Plan:
    """Look at an upload as the API does, then read it as the job does."""
    path = pack(folder / "upload", members)
    assert look(path, Choices(**choices)) is None, "only reading tells the classes"
    return read(path, choices=Choices(**choices))


def refusal(folder: Path, members: Mapping[str, bytes], **choices: Any) -> ArchiveRefusedError:
    with pytest.raises(ArchiveRefusedError) as refused:
        read_members(folder, members, **choices)
    return refused.value


# -- Azure Custom Vision: the answer of GET …/training/projects/{id}/images ------------------------------------------


def custom_vision_image(name: str, *tags: str, regions: int = 0) -> dict[str, Any]:
    identifier = f"{name}-0000-4000-8000-000000000000"
    blob = f"https://irisprodwu2training.blob.core.windows.net/i-1234/o-{identifier}?sv=2020-04-08&sr=b&sig=a%2Fb%3D"
    region = {"regionId": "r", "tagName": tags[0] if tags else "", "left": 0.1, "top": 0.1, "width": 0.5, "height": 0.5}
    return {
        "id": identifier,
        "created": "2026-01-01T00:00:00Z",
        "width": 8,
        "height": 8,
        "resizedImageUri": blob.replace("/o-", "/i-"),
        "thumbnailUri": blob.replace("/o-", "/t-"),
        "originalImageUri": blob,
        "tags": [{"tagId": f"t-{tag}", "tagName": tag, "created": "2026-01-01T00:00:00Z"} for tag in tags],
        "regions": [region] * regions,
    }


def test_custom_vision_pages_of_images_are_read_by_their_ids(tmp_path: Path) -> None:
    pages = {
        "page-1.json": as_json([custom_vision_image("aaaa", CAT), custom_vision_image("bbbb", DOG)]),
        "page-2.json": as_json([custom_vision_image("cccc"), custom_vision_image("dddd", CAT, DOG)]),
    }
    names = [f"images/{each}-0000-4000-8000-000000000000.png" for each in ("aaaa", "bbbb", "cccc", "dddd")]
    plan = read_members(tmp_path, {**pages, **images(*names)})
    assert (plan.layout, plan.classes) == ("custom-vision", (CAT, DOG))
    assert labels(plan) == [(names[0], None, CAT), (names[1], None, DOG)]
    assert rejected(plan)["page-2.json:1"] == "has no tag"
    assert rejected(plan)["page-2.json:2"] == "lists 2 labels ('cat', 'dog')"
    assert [each["code"] for each in plan.notes.warnings] == ["several_labels"]


def test_custom_vision_is_read_in_the_spelling_of_its_python_library_and_by_blob_names(tmp_path: Path) -> None:
    rows = [custom_vision_image("aaaa", CAT), custom_vision_image("bbbb", DOG)]
    spelled = [
        {
            "id": row["id"],
            "original_image_uri": row["originalImageUri"],
            "tags": [{"tag_name": row["tags"][0]["tagName"]}],
        }
        for row in rows
    ]
    names = [f"o-{row['id']}" for row in rows]  # blobs have no extension
    plan = read_members(tmp_path, {"images.json": as_json(spelled), **images(*names)})
    assert labels(plan) == [(names[0], None, CAT), (names[1], None, DOG)]


# -- Amazon Rekognition Custom Labels and SageMaker Ground Truth -----------------------------------------------------


def rekognition_line(path: str, label: str, attribute: str = "animal") -> dict[str, Any]:
    return {
        "source-ref": f"s3://bucket/{path}",
        attribute: 0,
        f"{attribute}-metadata": {
            "class-name": label,
            "confidence": 1,
            "type": "groundtruth/image-classification",
            "job-name": "labeling-job/animals",
            "human-annotated": "yes",
            "creation-date": "2026-01-01T00:00:00.000000",
        },
    }


def test_manifests_of_rekognition_keep_their_splits(tmp_path: Path) -> None:
    members = {
        "manifests/train.manifest": as_lines(rekognition_line("cats/1.png", CAT), rekognition_line("dogs/1.png", DOG)),
        "manifests/test.manifest": as_lines(rekognition_line("cats/2.png", CAT)),
    }
    plan = read_members(tmp_path, {**members, **images("cats/1.png", "dogs/1.png", "cats/2.png")})
    assert plan.layout == "ground-truth"
    assert sorted(labels(plan)) == [
        ("cats/1.png", "train", CAT), ("cats/2.png", "test", CAT), ("dogs/1.png", "train", DOG)
    ]  # fmt: skip


def test_multi_label_manifests_give_the_images_with_one_label(tmp_path: Path) -> None:
    several = rekognition_line("1.png", CAT, "animal0") | rekognition_line("1.png", DOG, "animal1")
    class_map = {
        "source-ref": "s3://bucket/2.png",
        "animals": [1],
        "animals-metadata": {
            "class-map": {"1": DOG},
            "confidence-map": {"1": 0.9},
            "type": "groundtruth/image-classification-multilabel",
        },
    }
    failed = {"source-ref": "s3://bucket/3.png", "animal-metadata": {"failure-reason": "ClientError: no image"}}
    lines = as_lines(several, class_map, failed, rekognition_line("4.png", CAT))
    plan = read_members(tmp_path, {"output.manifest": lines, **images("1.png", "2.png", "3.png", "4.png")})
    assert labels(plan) == [("2.png", None, DOG), ("4.png", None, CAT)]
    assert "failure-reason" in rejected(plan)["output.manifest:3"]


def test_the_entries_that_the_api_of_rekognition_lists_are_read_too(tmp_path: Path) -> None:
    entries = [json.dumps(rekognition_line(f"{name}.png", label)) for name, label in (("a", CAT), ("b", DOG))]
    plan = read_members(tmp_path, {"entries.json": as_json({"DatasetEntries": entries}), **images("a.png", "b.png")})
    assert (plan.layout, plan.classes) == ("ground-truth", (CAT, DOG))


# -- Google Vertex AI ------------------------------------------------------------------------------------------------


def vertex_line(path: str, label: str | None, use: str | None = None) -> dict[str, Any]:
    annotation = {
        "displayName": label,
        "annotationResourceLabels": {"aiplatform.googleapis.com/annotation_set_name": "1"},
    }
    line: dict[str, Any] = {"imageGcsUri": f"gs://bucket/{path}"}
    line |= {} if label is None else {"classificationAnnotation": annotation}
    return line | ({"dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use}} if use else {})


def test_vertex_lines_are_read_with_their_splits(tmp_path: Path) -> None:
    names = ("a.png", "b.png", "c.png", "d.png")
    uses = ("training", "training", "validation", "test")
    lines = as_lines(
        *(vertex_line(f"x/{n}", (CAT, DOG)[i % 2], u) for i, (n, u) in enumerate(zip(names, uses, strict=True)))
    )
    plan = read_members(
        tmp_path, {"data.jsonl": lines + as_lines(vertex_line("x/e.png", None)), **images(*names, "e.png")}
    )
    assert plan.layout == "vertex-ai"
    assert [split for _, split, _ in labels(plan)] == ["train", "train", "validation", "test"]
    assert rejected(plan)["data.jsonl:5"] == "has no label"


def test_vertex_multi_label_lines_and_tables(tmp_path: Path) -> None:
    two = [{"displayName": CAT}, {"displayName": DOG}]
    lines = as_lines(
        {"imageGcsUri": "gs://b/a.png", "classificationAnnotations": two},
        {"imageGcsUri": "gs://b/b.png", "classificationAnnotations": two[:1]},
        {"imageGcsUri": "gs://b/c.png", "classificationAnnotations": two[1:]},
    )
    plan = read_members(tmp_path, {"data.jsonl": lines, **images("a.png", "b.png", "c.png")})
    assert labels(plan) == [("b.png", None, CAT), ("c.png", None, DOG)]
    table = b"test,gs://b/a.png,cat,dog\ntraining,gs://b/b.png,cat\nUNASSIGNED,gs://b/c.png,dog\nTRAINING,gs://b/d.png,dog\n"
    plan = read_members(tmp_path, {"data.csv": table, **images("a.png", "b.png", "c.png", "d.png")})
    assert (plan.layout, labels(plan)) == ("vertex-ai", [("b.png", "train", CAT), ("d.png", "train", DOG)])
    assert rejected(plan)["data.csv:1"] == "lists 2 labels ('cat', 'dog')"


# -- Roboflow --------------------------------------------------------------------------------------------------------


def test_the_table_of_roboflow_gives_the_images_with_one_label(tmp_path: Path) -> None:
    table = b"filename, cat, dog\na.png, 1, 0\nb.png, 0, 1\nc.png, 1, 1\nd.png, 0, 0\n"
    members = {"train/_classes.csv": table, "valid/_classes.csv": b"filename, cat, dog\na.png, 0, 1\n"}
    names = ("train/a.png", "train/b.png", "train/c.png", "train/d.png", "valid/a.png")
    plan = read_members(tmp_path, {**members, **images(*names)})
    assert plan.layout == "roboflow"
    assert labels(plan) == [
        ("train/a.png", "train", CAT), ("train/b.png", "train", DOG), ("valid/a.png", "validation", DOG)
    ]  # fmt: skip
    assert rejected(plan)["train/_classes.csv:4"] == "lists 2 labels ('cat', 'dog')"
    assert rejected(plan)["train/_classes.csv:5"] == "has no label"


def test_the_folders_of_roboflow_are_an_image_folder(tmp_path: Path) -> None:
    names = [f"{split}/{label}/1.png" for split in ("train", "valid", "test") for label in (CAT, DOG)]
    readme = {"README.roboflow.txt": b"animals - v1", "README.dataset.txt": b"# animals"}
    plan = read(pack(tmp_path / "x", {**readme, **images(*names)}))
    assert (plan.layout, plan.classes, len(plan.images)) == ("imagefolder", (CAT, DOG), 6)


# -- Label Studio ----------------------------------------------------------------------------------------------------


def choice(label: str, question: str = "choice", **more: Any) -> dict[str, Any]:
    result = {"from_name": question, "to_name": "image", "type": "choices", "value": {"choices": [label]}, "id": "x"}
    return {"id": 1, "completed_by": 1, "result": [result], "was_cancelled": False, "ground_truth": False, **more}


def task(image: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"id": 1, "annotations": list(annotations), "predictions": [], "data": {"image": image}, "meta": {}}


def test_tasks_of_label_studio_are_matched_by_what_was_uploaded_and_by_local_and_cloud_paths(tmp_path: Path) -> None:
    resolve = base64.b64encode(b"s3://bucket/e f.png").decode()
    tasks = [
        task("/data/upload/1/1a2b3c4d-a.png", choice(CAT)),
        task("/data/local-files/?d=pets/b%20b.png", choice(DOG)),
        task("s3://bucket/deep/c.png", choice(CAT), choice(CAT)),
        task(f"/tasks/5/resolve/?fileuri={resolve}", choice(DOG)),
        task("/data/upload/1/1a2b3c4d-skipped.png", choice(CAT, was_cancelled=True)),
        task("/data/upload/1/1a2b3c4d-argued.png", choice(CAT), choice(DOG)),
        task("/data/upload/1/1a2b3c4d-judged.png", choice(CAT), choice(DOG, ground_truth=True)),
        task("/data/upload/1/1a2b3c4d-gone.png", choice(DOG)),
    ]
    names = ("a.png", "pets/b b.png", "c.png", "e f.png", "skipped.png", "argued.png", "judged.png")
    plan = read_members(
        tmp_path, {"project-1.json": as_json(tasks), **{f"x/{k}": v for k, v in images(*names).items()}}
    )
    assert plan.layout == "label-studio"
    assert {name.removeprefix("x/"): label for name, _, label in labels(plan)} == {
        "a.png": CAT, "pets/b b.png": DOG, "c.png": CAT, "e f.png": DOG, "judged.png": DOG
    }  # fmt: skip
    reasons = rejected(plan)
    assert reasons["project-1.json:5"] == "has no annotation with a choice"
    assert reasons["project-1.json:6"] == "lists 2 labels ('cat', 'dog')"
    assert reasons["project-1.json:8"].endswith("which is not in the archive")


def test_the_short_forms_of_label_studio_are_read(tmp_path: Path) -> None:
    own = {
        "id": 1,
        "annotator": 1,
        "annotation_id": 1,
        "created_at": "2026-01-01",
        "updated_at": "2026-01-01",
        "lead_time": 2.5,
    }
    rows = [
        {"image": "/data/upload/1/1a2b3c4d-a.png", "choice": CAT, **own},
        {"image": "/data/upload/1/1a2b3c4d-b.png", "choice": DOG, **own},
        {"image": "/data/upload/1/1a2b3c4d-c.png", "choice": {"choices": [CAT, DOG]}, **own},
    ]
    files = images("a.png", "b.png", "c.png")
    expected = [("a.png", None, CAT), ("b.png", None, DOG)]
    assert labels(read_members(tmp_path, {"min.json": as_json(rows), **files})) == expected
    header = ["image", "id", "choice", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"]
    cells = [[row["image"], "1", row["choice"], "1", "1", "t", "t", "2.5"] for row in rows]
    cells[2][2] = '"{""choices"": [""cat"", ""dog""]}"'
    table = "\n".join(",".join(map(str, row)) for row in [header, *cells])
    plan = read_members(tmp_path, {"project.csv": table.encode(), **files})
    assert (plan.layout, labels(plan)) == ("label-studio", expected)
    assert rejected(plan)["project.csv:4"] == "lists 2 labels ('cat', 'dog')"


def test_one_of_several_questions_of_label_studio_is_chosen(tmp_path: Path) -> None:
    answers = choice(CAT, "species")["result"] + choice("sharp", "quality")["result"]
    tasks = [task("a.png", {"result": answers}), task("b.png", {"result": choice(DOG, "species")["result"]})]
    members = {"export.json": as_json(tasks), **images("a.png", "b.png")}
    refused = refusal(tmp_path, members)
    assert (refused.code, "'quality', 'species'" in refused.detail) == ("multi_label", True)
    assert labels(read_members(tmp_path, members, label_column="species")) == [
        ("a.png", None, CAT),
        ("b.png", None, DOG),
    ]
    assert refusal(tmp_path, members, label_column="colour").code == "bad_reading_option"


# -- FiftyOne and COCO -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "values"),
    [
        ([CAT, DOG], [0, 1]),
        (None, [CAT, DOG]),
        ([CAT, DOG], [[0], {"label": DOG, "confidence": 0.9}]),
    ],
)
def test_a_classification_export_of_fiftyone_is_read(tmp_path: Path, classes: Any, values: list[Any]) -> None:
    document = {"classes": classes, "labels": dict(zip(("000001", "sub/000002"), values, strict=True)) | {"x": None}}
    plan = read_members(
        tmp_path, {"labels.json": as_json(document), **images("data/000001.png", "data/sub/000002.png", "data/x.png")}
    )
    assert plan.layout == "fiftyone"
    assert labels(plan) == [("data/000001.png", None, CAT), ("data/sub/000002.png", None, DOG)]
    assert rejected(plan)["labels.json:3"] == "has no label"


def test_splits_of_fiftyone_may_use_the_same_names(tmp_path: Path) -> None:
    members = {
        "train/labels.json": as_json({"classes": [CAT, DOG], "labels": {"1": 0, "2": 1}}),
        "test/labels.json": as_json({"classes": [CAT, DOG], "labels": {"1": 1}}),
    }
    plan = read_members(tmp_path, {**members, **images("train/data/1.png", "train/data/2.png", "test/data/1.png")})
    assert labels(plan) == [
        ("test/data/1.png", "test", DOG), ("train/data/1.png", "train", CAT), ("train/data/2.png", "train", DOG)
    ] or sorted(labels(plan))[0] == ("test/data/1.png", "test", DOG)  # fmt: skip


def coco(**annotation: Any) -> bytes:
    names = ("a.png", "b.png")
    return as_json(
        {
            "images": [{"id": n, "file_name": name, "width": 8, "height": 8} for n, name in enumerate(names)],
            "categories": [{"id": 1, "name": CAT}, {"id": 2, "name": DOG}],
            "annotations": [{"id": n, "image_id": n, "category_id": n + 1, **annotation} for n in range(2)],
        }
    )


def test_coco_without_boxes_names_classes(tmp_path: Path) -> None:
    plan = read_members(tmp_path, {"train.json": coco(), **images("train/a.png", "train/b.png")})
    assert (plan.layout, labels(plan)) == ("coco", [("train/a.png", "train", CAT), ("train/b.png", "train", DOG)])
