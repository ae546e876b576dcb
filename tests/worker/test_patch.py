"""Every method through the worker's patch step, in this process, on a small model: what is stored was asked for."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from contract.datasets import DatasetKind
from contract.lineage import Lineage
from contract.report import PatchReport
from paint_core.alpha import FeatureCurve
from paint_core.data import LabelledImages, decode_all
from paint_core.errors import NoAcceptableAlphaError
from paint_core.evaluation import check_probe, encode, probe_features
from paint_core.images.decoding import DECODER
from paint_core.models import BaseModel
from paint_core.weights import Term, fingerprint, load_task_vector, mix_into
from registry.datasets import DatasetOptions
from registry.shards import read_names, read_shard
from registry.tables import DatasetRow, PatchRow
from registry.versions import TermSpec, Versions
from tests.builders import digit_members, digit_pngs, write_zip
from tests.contract.stored import unknown_fields
from tests.worker.conftest import Installation
from tests.worker.runs import FINETUNE, Recorder, begin, do_parts, mastered_members
from worker.messages import Checkpoint
from worker.steps.patch import patch
from worker.steps.prepare import load_job, load_tasks


@pytest.fixture(scope="module")
def more_digits(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> DatasetRow:
    """Digits five to seven with a training split, ingested."""
    members = digit_members(range(5, 8), train=16, val=4, test=4)
    return installation.ingest_here(write_zip(tmp_path_factory.mktemp("archives") / "more.zip", members))


def _patch(
    installation: Installation, finetune: dict[str, Any] = FINETUNE, **request: Any
) -> tuple[PatchRow, Recorder]:
    row = installation.submit_patch(name="a patch", finetune=finetune, **request)
    recorder = Recorder()
    do_parts(installation, row)
    patch(begin(installation, row, recorder, {}))
    return installation.patch(row.id), recorder


def _require_what_is_registered_is_what_is_reported(installation: Installation, row: PatchRow, base: BaseModel) -> None:
    report = row.report
    assert report is not None
    with installation.database.read() as session:
        versions = Versions(session)
        terms = versions.terms(report["version_id"])
        version = versions.get(report["version_id"])
        probe = version.probe
    assert unknown_fields(PatchReport.of_stored(report)) == unknown_fields(Lineage.of_stored(version.lineage)) == []
    assert terms == [TermSpec(t["task_vector_sha256"], t["coefficient"], t["profile"]) for t in report["terms"]]
    visual, theta_0 = copy.deepcopy(base.visual), base.visual.state_dict()
    vectors = [load_task_vector(installation.blobs.fetch(term.task_vector_sha256), theta_0) for term in terms]
    mix_into(
        visual,
        theta_0,
        [Term(vector, term.coefficient, term.profile) for vector, term in zip(vectors, terms, strict=True)],
    )
    assert fingerprint(visual.state_dict()) == version.weights_fingerprint
    check_probe(probe_features(visual, base), torch.tensor(probe), minimum_cosine=0.999999)
    for term, described in zip(terms, report["terms"], strict=True):
        bits = described["storage"]["bits"]
        size = installation.blobs.fetch(term.task_vector_sha256).stat().st_size
        assert size < (bits / 32 + 0.05) * 4 * sum(vectors[0][name].numel() for name in vectors[0])
        assert Lineage.of_stored(version.lineage).storage[described["key"]].bits == bits
    assert all((task["test_on_union"] is not None) == (task["role"] == "supported") for task in report["tasks"])


def _require_rows_are_the_images_of_the_splits(
    installation: Installation, base: BaseModel, report: dict[str, Any]
) -> None:
    """Rows of the interpolant are the images of the validation split in its order, to which names and labels belong."""
    curve = FeatureCurve.from_bytes(installation.blobs.read(report["interpolants"]["flat"]))
    assert curve.features.keys() == {task["dataset_id"] for task in report["tasks"]}
    for name, stack in curve.features.items():
        row = installation.dataset(name)
        shard = installation.blobs.fetch((row.shards or {})["validation"]["sha256"])
        images = decode_all(read_shard(shard), base.preprocess, tuple(row.classnames or ()), decoder=row.decoder)
        assert curve.labels[name].tolist() == images.labels.tolist()
        assert len(read_names(shard)) == len(images)
        features = encode(base.visual, images.images, base.preprocess)
        torch.testing.assert_close(stack[0], features, atol=1e-3, rtol=1e-3)  # stored as float16
        nearest = torch.cdist(stack[0], features).argmin(dim=1)
        torch.testing.assert_close(features[nearest], features, atol=1e-3, rtol=1e-3)  # equal pictures are in it


def _require_transfer_is_reported_apart(report: dict[str, Any], dataset: DatasetRow) -> None:
    (transfer,) = report["transfer"]
    assert (transfer["dataset_id"], transfer["num_classes"]) == (dataset.id, 5)
    before, after = (transfer["test"][at] for at in ("zero_shot", "patched"))
    assert before["total"] == after["total"] == 20
    assert transfer["change"]["change_points"] == pytest.approx(100 * (after["accuracy"] - before["accuracy"]))
    assert len(transfer["change"]["classes"]) == 5
    assert dataset.id not in [task["dataset_id"] for task in report["tasks"]]
    assert all(dataset.id not in point["tasks"] for point in report["curve"])


def test_every_split_of_a_task_holds_the_images_of_that_name(
    installation: Installation, base: BaseModel, digits: DatasetRow
) -> None:
    row = installation.submit_patch(name="splits", tasks=[digits.id], finetune=FINETUNE)
    run = begin(installation, row, Recorder(), {})
    task = load_tasks(run, load_job(run), base, lambda num_images: None)[digits.id]
    members = digit_members(range(5), train=24, val=4, test=4)
    for prefix, split in (("train/", task.train), ("val/", task.validation), ("test/", task.test)):
        pictures = [(data, 0) for name, data in members.items() if name.startswith(prefix)]
        expected = decode_all(pictures, base.preprocess, ("any",))
        assert split is not None
        assert _contents(split) == _contents(expected)


def _contents(split: LabelledImages) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in split.images)


def test_joint_with_folds_and_anchors(
    installation: Installation, base: BaseModel, digits: DatasetRow, more_digits: DatasetRow, kept: DatasetRow
) -> None:
    row, recorder = _patch(
        installation,
        method="joint",
        tasks=[digits.id, more_digits.id],
        supported=[kept.id],
        sampling="balanced",
        folds=2,
        anchors={"supported": True, "weight": 5, "batch_size": 4},
        alpha={"rule": "combined", "strategy": "grid", "grid_step": 0.5},
    )
    report = row.report or {}
    assert report["finetune"]["anchor_weight"] == 5
    assert len(report["final_losses"]) == 3  # two folds and all the data
    assert [term["key"] for term in report["terms"]] == ["all"]
    assert all(note.data and note.data["anchor_loss"] > -1e-6 for note in recorder.notes("fine-tuning"))
    accuracies = [note.data or {} for note in recorder.notes("alpha evaluated")]
    assert {each["alpha"] for each in accuracies} == {0.0, 0.5, 1.0}
    assert all(each["accuracies"].keys() == {digits.id, more_digits.id, kept.id} for each in accuracies)
    assert any("fold" in note for note in report["notes"])
    num_kept = (kept.shards or {})["validation"]["num_images"]
    assert {point["tasks"][kept.id]["total"] for point in report["curve"]} == {num_kept}
    _require_what_is_registered_is_what_is_reported(installation, row, base)


def test_sequential_along_the_better_path_with_a_certificate(
    installation: Installation, base: BaseModel, digits: DatasetRow, more_digits: DatasetRow, kept: DatasetRow
) -> None:
    row, _ = _patch(
        installation,
        method="sequential",
        tasks=[digits.id, more_digits.id],
        supported=[kept.id],
        alpha={"path": "best", "strategy": "grid", "grid_step": 0.5, "rule": "certified", "max_mean_drop": 60},
    )
    report = row.report or {}
    first, second = report["stages"]
    # Of the second stage too, what was lost is counted from the base.
    chosen = next(point for point in report["curve"] if point["alpha"] == report["alpha"])["tasks"][kept.id]
    before = next(task for task in report["tasks"] if task["dataset_id"] == kept.id)["validation"]["zero_shot"]
    assert chosen["gained"] - chosen["lost"] == chosen["correct"] - before["correct"]
    (bound,) = report["certificate"]["bounds"]
    assert bound["drop_points"] == pytest.approx(100 * (chosen["lost"] - chosen["gained"]) / chosen["total"])
    assert bound["low_points"] <= bound["drop_points"] <= bound["high_points"]
    assert bound["certified"] is (report["certificate"]["stance"] == "certified") is (bound["high_points"] <= 60)
    assert set(first["curves"]) == {"flat", "lines_paper"}
    assert second["fixed"] == [term for term in report["terms"] if term["key"] == first["directions"][0]["key"]]
    assert set(second["patching"]) == {digits.id, more_digits.id}
    assert first["patching"] == [digits.id]
    _require_what_is_registered_is_what_is_reported(installation, row, base)


def test_parallel_with_an_interpolated_curve_that_can_be_asked_later(
    installation: Installation, base: BaseModel, digits: DatasetRow, more_digits: DatasetRow, kept: DatasetRow
) -> None:
    row, _ = _patch(
        installation,
        method="parallel",
        merge="ties",
        tasks=[digits.id, more_digits.id],
        supported=[kept.id],
        alpha={"strategy": "interpolated", "rule": "combined"},
    )
    report = row.report or {}
    assert not all(point["measured"] for point in report["curve"])
    assert next(p for p in report["curve"] if p["alpha"] == report["alpha"])["measured"]
    curve = FeatureCurve.from_bytes(installation.blobs.read(report["interpolants"]["flat"]))
    assert (report["curve"][-1]["alpha"], curve.nodes[-1]) == (3.0, 3.0)
    assert report["alpha_is_last"] == (report["alpha"] == 3.0)
    for task in report["tasks"]:
        corrected = [row["adjusted_p_value"] for row in task["change"]["classes"]]
        assert corrected == sorted(corrected)
    _require_rows_are_the_images_of_the_splits(installation, base, report)
    at_zero = {name: score.correct for name, score in curve.scores(0.0).items()}
    assert at_zero == {task["dataset_id"]: task["validation"]["zero_shot"]["correct"] for task in report["tasks"]}
    assert all(task["test"]["specialised"] for task in report["tasks"] if task["role"] == "patching")
    _require_what_is_registered_is_what_is_reported(installation, row, base)


def test_parallel_with_one_coefficient_per_task(
    installation: Installation,
    base: BaseModel,
    digits: DatasetRow,
    more_digits: DatasetRow,
    kept: DatasetRow,
    others: DatasetRow,
) -> None:
    row, _ = _patch(
        installation,
        method="parallel",
        coefficients="per_task",
        transfer=[others.id],
        tasks=[digits.id, more_digits.id],
        supported=[kept.id],
        alpha={"rule": "combined", "strategy": "grid", "grid_step": 0.5},
    )
    report = row.report or {}
    searched = report["stages"][-1]["coefficients"]
    assert searched["value"] >= searched["start_value"]
    _require_transfer_is_reported_apart(report, others)
    assert [term["coefficient"] for term in report["terms"]] == searched["coefficients"]
    _require_what_is_registered_is_what_is_reported(installation, row, base)


def test_a_second_patch_reads_the_features_of_the_unpatched_base_and_large_splits_lie_in_files(
    installation: Installation, base: BaseModel, digits: DatasetRow, kept: DatasetRow
) -> None:
    alpha = {"strategy": "grid", "grid_step": 0.5, "rule": "combined"}
    request: dict[str, Any] = {"tasks": [digits.id], "supported": [kept.id], "alpha": alpha}
    first, _ = _patch(installation, **request)
    cached = {path: path.read_bytes() for path in installation.settings.feature_cache_dir.iterdir()}
    assert len(cached) >= 4  # validation and test splits of both
    tight = replace(installation, settings=installation.settings.model_copy(update={"decoded_memory_bytes": 0}))
    second, _ = _patch(tight, **request)
    assert {path: path.read_bytes() for path in installation.settings.feature_cache_dir.iterdir()} == cached
    assert list(installation.settings.scratch_dir.iterdir()) == []
    reports = [row.report or {} for row in (first, second)]
    assert reports[0]["curve"] == reports[1]["curve"]
    assert reports[0]["tasks"] == reports[1]["tasks"]
    _require_rows_are_the_images_of_the_splits(installation, base, reports[1])


def test_an_evaluation_image_in_the_pool_is_left_out_and_told_and_drawn_images_are_added(
    installation: Installation,
    digits: DatasetRow,
    kept: DatasetRow,
    food: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.steps.prepare.NUM_DRAWN", 5)
    evaluated = [data for name, data in food.items() if name.startswith("val/")]
    members = {f"{index}.png": data for index, data in enumerate(evaluated)}
    members |= {f"scans/nine/{index}.png": picture for index, picture in enumerate(digit_pngs(9)[:8])}
    members |= {"scans/notes.txt": b"no picture", "scans/broken.png": b"no picture"}
    pool = installation.ingest_here(write_zip(tmp_path / "pool.zip", members), DatasetOptions(kind=DatasetKind.POOL))
    assert (pool.kind, pool.classnames, pool.counts, pool.decoder) == ("pool", [], {}, DECODER)
    assert (pool.shards or {}).keys() == {"train"}, "nothing is held out of a pool"
    assert {each["file"] for each in pool.rejected or ()} == {"scans/notes.txt", "scans/broken.png"}
    row, recorder = _patch(
        installation,
        tasks=[digits.id],
        supported=[kept.id],
        anchors={"dataset": pool.id, "drawn": True},
        alpha={"rule": "combined", "strategy": "grid", "grid_step": 0.5},
    )
    (note,) = recorder.notes("anchor images that are evaluation images were left out")
    assert note.data == {"left_out": len(evaluated), "kept": 8 + 5}
    task, other = (row.report or {})["tasks"]
    assert (task["decoder"], task["images"]["test"]) == (DECODER, {"num_images": 20, "taken_from": None})
    assert other["images"].keys() == {"validation", "test"}


def test_a_floor_that_no_alpha_meets_registers_nothing(
    installation: Installation, base: BaseModel, digits: DatasetRow, tmp_path: Path
) -> None:
    mastered = installation.ingest_here(write_zip(tmp_path / "mastered.zip", mastered_members(base)))
    row = installation.submit_patch(
        name="too strict",
        tasks=[digits.id],
        supported=[mastered.id],
        finetune=FINETUNE | {"learning_rate": 0.05, "iterations": 8},
        alpha={"rule": "floor", "max_supported_drop": 0, "strategy": "grid", "grid_step": 0.5},
    )
    with pytest.raises(NoAcceptableAlphaError):
        patch(begin(installation, row, Recorder(), {}))
    assert installation.patch(row.id).version_id is None


def test_where_every_alpha_breaks_the_default_limits_the_job_ends_with_the_curve_and_the_base(
    installation: Installation, base: BaseModel, digits: DatasetRow, tmp_path: Path
) -> None:
    mastered = installation.ingest_here(write_zip(tmp_path / "mastered.zip", mastered_members(base)))
    finetune = FINETUNE | {"learning_rate": 0.05, "iterations": 8}
    alpha = {"max_mean_drop": 0, "grid_step": 0.5}
    row, _ = _patch(installation, finetune, tasks=[digits.id], supported=[mastered.id], alpha=alpha)
    report = row.report or {}
    assert (report["rule"], report["alpha"], report["stages"][0]["strategy"]) == ("certified", 0.0, "interpolated")
    assert report["reason"].startswith("no acceptable patch: every alpha drops by more than a limit")
    assert report["guarantee"] == "Nothing was added, so nothing was lost."
    assert [term["coefficient"] for term in report["terms"]] == [0.0]
    assert [point["alpha"] for point in report["curve"]] == [0.0, 0.5, 1.0]
    assert report["interpolants"].keys() == {"flat"}
    _require_what_is_registered_is_what_is_reported(installation, row, base)


def test_a_sequential_patch_that_is_killed_anywhere_ends_with_the_same_terms(
    installation: Installation, digits: DatasetRow, more_digits: DatasetRow, kept: DatasetRow
) -> None:
    request: dict[str, Any] = {
        "method": "sequential",
        "tasks": [digits.id, more_digits.id],
        "supported": [kept.id],
        "finetune": FINETUNE | {"iterations": 2},
        "alpha": {"rule": "combined", "strategy": "grid", "grid_step": 0.5, "path": "best"},
    }
    # After every step, not by the clock: every attempt then has the same checkpoints.
    settings = installation.settings.model_copy(update={"checkpoint_seconds": 0.0})
    steady = replace(installation, settings=settings)
    undisturbed, recorder = _patch(steady, **request)
    num_checkpoints = sum(isinstance(message, Checkpoint) for message in recorder.messages)
    for fail_at in (2, num_checkpoints // 2, num_checkpoints - 2):
        row = installation.submit_patch(name="a patch", **request)
        first = Recorder(fail_at)
        run = begin(steady, row, first, {})
        with pytest.raises(BrokenPipeError):
            patch(run)
        second = Recorder()
        patch(replace(run, checkpoint=first.checkpoint, channel=second))
        reports = [undisturbed.report or {}, installation.patch(row.id).report or {}]
        assert reports[0]["terms"] == reports[1]["terms"]
        curves = [[stage["curves"] for stage in report["stages"]] for report in reports]
        assert curves[0] == curves[1]
        assert reports[0]["interpolants"] == reports[1]["interpolants"]
        trained = [len(each.notes("fine-tuning")) for each in (first, second)]
        assert sum(trained) == 2 * request["finetune"]["iterations"]  # no run was done twice


def test_a_search_over_settings_that_is_killed_anywhere_ends_with_the_same_trials(
    installation: Installation, base: BaseModel, digits: DatasetRow, kept: DatasetRow
) -> None:
    request: dict[str, Any] = {
        "tasks": [digits.id],
        "supported": [kept.id],
        "finetune": FINETUNE | {"iterations": 2, "tune": 4},
        "alpha": {"rule": "combined", "strategy": "grid", "grid_step": 0.5},
    }
    settings = installation.settings.model_copy(update={"checkpoint_seconds": 0.0})
    steady = replace(installation, settings=settings)
    undisturbed, recorder = _patch(steady, **request)
    report = undisturbed.report or {}
    assert [(each["learning_rate"], each["iterations"]) for each in report["trials"]] == [
        (1e-3, 2),
        (2e-3, 2),
        (5e-4, 2),
        (1e-3, 4),
    ]
    (chosen,) = [each for each in report["trials"] if each["chosen"]]
    assert (report["finetune"]["learning_rate"], report["finetune"]["iterations"], report["alpha"]) == (
        chosen["learning_rate"],
        chosen["iterations"],
        chosen["alpha"],
    )
    assert [term["key"] for term in report["terms"]] == [f"trial {chosen['number']}"]
    assert report["final_losses"].keys() == {"trial 1", "trial 2", "trial 3", "trial 4"}
    told = [note.data or {} for note in recorder.notes("trial judged")]
    wanted = ("number", "learning_rate", "iterations", "alpha", "patching", "supported")
    assert [{name: each[name] for name in wanted} for each in told] == [
        {name: each[name] for name in wanted} for each in report["trials"]
    ]
    _require_what_is_registered_is_what_is_reported(installation, undisturbed, base)
    num_checkpoints = sum(isinstance(message, Checkpoint) for message in recorder.messages)
    for fail_at in (num_checkpoints // 3, num_checkpoints - 2):
        row = installation.submit_patch(name="a patch", **request)
        first = Recorder(fail_at)
        run = begin(steady, row, first, {})
        with pytest.raises(BrokenPipeError):
            patch(run)
        second = Recorder()
        patch(replace(run, checkpoint=first.checkpoint, channel=second))
        again = installation.patch(row.id).report or {}
        assert (again["terms"], again["trials"]) == (report["terms"], report["trials"])
        assert again["stages"][0]["curves"] == report["stages"][0]["curves"]
        assert sum(len(each.notes("fine-tuning")) for each in (first, second)) == 2 + 2 + 2 + 4
