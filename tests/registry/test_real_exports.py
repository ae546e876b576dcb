"""Exports that the makers' own packages write, where they are installed (see `tests.support.neighbours`)."""

import json
from pathlib import Path
from typing import Any

import pytest

from registry.errors import ArchiveRefusedError
from registry.intake.choices import Choices
from registry.intake.plan import Plan
from tests.builders import digit_pngs
from tests.registry.test_exports import CAT, DOG, task
from tests.registry.uploads import labels, pack, read, rejected
from tests.support.neighbours import run_script

PNGS = [*digit_pngs(0)[:2], *digit_pngs(1)[:2]]
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="choice" toName="image" choice="multiple"><Choice value="cat"/><Choice value="dog"/></Choices></View>"""


def read_folder(folder: Path, tmp_path: Path, **choices: Any) -> Plan:
    members = {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    return read(pack(tmp_path / "upload", members), choices=Choices(**choices))


CONVERT = """
import json, sys
from label_studio_sdk.converter import Converter
source, target, form = sys.argv[1:]
converter = Converter(open("config.xml").read(), project_dir=None)
convert = {
    "json": converter.convert_to_json, "min": converter.convert_to_json_min, "csv": converter.convert_to_csv
}[form]
convert(source, target, is_dir=False, **({"sep": ",", "header": True} if form == "csv" else {}))
"""


@pytest.mark.parametrize("form", ["json", "min", "csv"])
def test_the_converter_of_label_studio(tmp_path: Path, form: str) -> None:
    def annotation(*choices: str) -> dict[str, Any]:
        value = {
            "from_name": "choice",
            "to_name": "image",
            "type": "choices",
            "id": "r",
            "value": {"choices": [*choices]},
        }
        times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "lead_time": 2.5}
        return {"id": 7, "completed_by": 1, "result": [value], "was_cancelled": False, "ground_truth": False, **times}

    tasks = [
        {**task(f"/data/upload/1/0123abcd-{name}.png", annotation(*choices)), "id": number}
        for number, (name, choices) in enumerate([("a", [CAT]), ("b", [DOG]), ("c", [CAT, DOG])], 1)
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    (tmp_path / "config.xml").write_text(CONFIG)
    out = tmp_path / "out"
    out.mkdir()
    run_script("label_studio_sdk", CONVERT, tmp_path / "tasks.json", out, form, folder=tmp_path)
    for name, png in zip(("a", "b", "c"), PNGS, strict=False):
        (out / f"0123abcd-{name}.png").write_bytes(png)
    plan = read_folder(out, tmp_path)
    assert plan.layout == "label-studio"
    assert [(name, label) for name, _, label in labels(plan)] == [("0123abcd-a.png", CAT), ("0123abcd-b.png", DOG)]
    assert "lists 2 labels ('cat', 'dog')" in rejected(plan).values()


FIFTYONE = """
import sys
import fiftyone as fo
dataset = fo.Dataset()
for number in range(4):
    sample = fo.Sample(filepath=f"{number}.png")
    sample["truth"] = fo.Classification(label=("cat", "dog")[number // 2])
    sample["boxes"] = fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0.1, 0.1, 0.2, 0.2])])
    dataset.add_sample(sample)
kind, field = sys.argv[1:]
dataset.export(export_dir="out", dataset_type=getattr(fo.types, kind), label_field=field)
dataset.delete()
print(fo.__version__)
"""


def export_of_fiftyone(tmp_path: Path, kind: str, field: str = "truth") -> Path:
    for number, png in enumerate(PNGS):
        (tmp_path / f"{number}.png").write_bytes(png)
    variables = {"FIFTYONE_DATABASE_DIR": str(tmp_path / "db"), "FIFTYONE_DO_NOT_TRACK": "true"}
    run_script("fiftyone", FIFTYONE, kind, field, folder=tmp_path, **variables)
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("kind", "layout"),
    [("FiftyOneImageClassificationDataset", "fiftyone"), ("ImageClassificationDirectoryTree", "imagefolder")],
)
def test_classification_exports_of_fiftyone(tmp_path: Path, kind: str, layout: str) -> None:
    plan = read_folder(export_of_fiftyone(tmp_path, kind), tmp_path)
    assert (plan.layout, plan.classes) == (layout, (CAT, DOG))
    assert {Path(name).name: label for name, _, label in labels(plan)} == {
        "0.png": CAT, "1.png": CAT, "2.png": DOG, "3.png": DOG
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["FiftyOneImageDetectionDataset", "COCODetectionDataset", "FiftyOneDataset"])
def test_other_exports_of_fiftyone_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ArchiveRefusedError) as refused:
        read_folder(export_of_fiftyone(tmp_path, kind, "boxes"), tmp_path)
    assert refused.value.code == "needs_conversion"


DATUMARO = """
import sys
import numpy as np
import datumaro as dm
from datumaro.components.media import Image
items = [
    dm.DatasetItem(id=str(n), subset=("train", "val")[n % 2], media=Image.from_file(path=f"{n}.png"),
                   annotations=[dm.Label(n // 2)])
    for n in range(4)
]
dataset = dm.Dataset.from_iterable(items, categories=["cat", "dog"])
dataset.export("out", sys.argv[1], save_media=True)
print(dm.__version__)
"""


@pytest.mark.parametrize("form", ["imagenet_with_subset_dirs", "coco", "coco_labels"])
def test_exports_of_datumaro(tmp_path: Path, form: str) -> None:
    for number, png in enumerate(PNGS):
        (tmp_path / f"{number}.png").write_bytes(png)
    run_script("datumaro", DATUMARO, form, folder=tmp_path)
    plan = read_folder(tmp_path / "out", tmp_path)
    assert plan.classes == (CAT, DOG)
    assert {Path(name).name: label for name, _, label in labels(plan)} == {
        "0.png": CAT, "1.png": CAT, "2.png": DOG, "3.png": DOG
    }  # fmt: skip
