"""A patch's report says which images judged what, where the uploader called them otherwise."""

from contract.patch_request import PatchRequest
from registry.tables import DatasetRow, PatchRow
from worker.steps.prepare import PatchJob
from worker.steps.report import _origins


def test_splits_that_were_made_of_others_are_told_for_each_task() -> None:
    rows = {
        "ds_1": DatasetRow(name="pets", taken_from={"validation": "train", "test": "validation"}),
        "ds_2": DatasetRow(name="cars", taken_from=dict.fromkeys(("train", "validation", "test"), "all images")),
        "ds_3": DatasetRow(name="food", taken_from=None),
    }
    request = PatchRequest(name="p", tasks=("ds_1",), supported=("ds_2", "ds_3"))
    assert list(_origins(PatchJob(PatchRow(), request, "starter", rows))) == [
        "pets: validation images were taken from the train split of the upload; "
        "test images were taken from the validation split of the upload.",
        "cars: validation images were taken from all images of the upload; "
        "test images were taken from all images of the upload.",
    ]
