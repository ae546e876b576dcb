"""The whole path with the real processes: upload → patch → activate → classify, and a broker that loses everything."""

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from paintbox_client.errors import ApiError
from tests.builders import WORDS, digit_members, digit_pngs, write_zip
from tests.system.conftest import Service

pytestmark = pytest.mark.system
DISPLAY_NAMES = {word: f"digit {word}" for word in WORDS[:5]}
FINETUNE = {"iterations": 40, "batch_size": 32, "learning_rate": 3e-4}


def _upload(service: Service, archive: Path, **options: Any) -> dict[str, Any]:
    dataset = service.client.upload_dataset(archive, name=archive.stem, **options)
    service.client.wait_for_job(dataset["job"]["id"], timeout=120)
    return service.client.dataset(dataset["id"])


def _top_labels(service: Service, dataset: str, images: list[bytes]) -> tuple[int, list[str]]:
    answer = service.client.classify(images, dataset=dataset, top_k=3)
    for result in answer["results"]:
        scores = [prediction["score"] for prediction in result["predictions"]]
        assert scores == sorted(scores, reverse=True)
        assert all(-1 <= prediction["cosine"] <= 1 for prediction in result["predictions"])
    return answer["version"], [result["predictions"][0]["label"] for result in answer["results"]]


def test_upload_patch_activate_classify(service: Service, tmp_path: Path) -> None:
    client = service.client
    members = digit_members(range(5), train=60, val=10, test=20)
    digits = _upload(service, write_zip(tmp_path / "digits.zip", members), classnames=DISPLAY_NAMES)
    others = _upload(service, write_zip(tmp_path / "others.zip", digit_members(range(5, 10), val=6, test=6)))
    unseen = [digit_pngs(digit)[-1 - index] for digit in range(5) for index in range(4)]
    truth = [f"digit {WORDS[digit]}" for digit in range(5) for _ in range(4)]

    version_before, labels_before = _top_labels(service, digits["id"], unseen)
    created = client.create_patch(
        name="digits",
        tasks=[digits["id"]],
        supported=[others["id"]],
        finetune=FINETUNE,
        alpha={"rule": "combined", "grid_step": 0.25},
    )
    stages: list[str] = []
    job = client.wait_for_job(created["job"]["id"], on_update=lambda job: stages.append(job["stage"]), timeout=180)
    assert job["status"] == "succeeded"
    assert "finetune" in stages
    patch = client.patch(created["patch"]["id"])
    report = patch["report"]
    client.activate(report["version_id"], reason="a test")
    version_after, labels_after = _top_labels(service, digits["id"], unseen)

    assert version_after == report["version_id"] == client.active()["version"]
    assert version_after != version_before
    hits_before = sum(map(str.__eq__, labels_before, truth))
    hits_after = sum(map(str.__eq__, labels_after, truth))
    assert hits_after >= hits_before + 6
    (patching,) = [task for task in report["tasks"] if task["role"] == "patching"]
    assert patching["test"]["patched"]["accuracy"] > patching["test"]["zero_shot"]["accuracy"] + 0.3


def test_a_waiting_job_runs_although_the_broker_was_killed_and_its_data_deleted(
    service: Service, tmp_path: Path
) -> None:
    client = service.client
    digits = _upload(service, write_zip(tmp_path / "held.zip", digit_members(range(2), train=40, val=5, test=5)))
    busy = client.create_patch(name="keeps the worker busy", tasks=[digits["id"]], finetune={"iterations": 100_000})
    while client.job(busy["job"]["id"])["stage"] != "finetune":
        time.sleep(0.1)
    waiting = client.upload_dataset(
        write_zip(tmp_path / "waiting.zip", digit_members(range(3), train=10, val=2, test=2)), name="waiting"
    )
    assert client.job(waiting["job"]["id"])["status"] == "queued"

    broker = _broker(service)
    broker.kill()
    shutil.rmtree(service.data_dir / "valkey", ignore_errors=True)
    assert client.job(waiting["job"]["id"])["status"] == "queued"
    client.cancel_job(busy["job"]["id"])

    assert client.wait_for_job(waiting["job"]["id"], timeout=120)["status"] == "succeeded"
    assert client.dataset(waiting["id"])["state"] == "ready"
    assert client.job(busy["job"]["id"])["status"] == "cancelled"
    assert _broker(service).pid != broker.pid


def _broker(service: Service) -> psutil.Process:
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.Error):  # another child may have ended meanwhile
            if "valkey-server" in " ".join(child.cmdline()):
                return child
    raise AssertionError("no broker runs")


def test_a_text_file_named_png_is_reported_and_the_rest_is_used(service: Service, tmp_path: Path) -> None:
    members = digit_members(range(2), train=5, val=2, test=2) | {"train/zero/notes.png": b"these are only words"}
    dataset = _upload(service, write_zip(tmp_path / "notes.zip", members))
    assert dataset["state"] == "ready"
    assert dataset["splits"]["train"]["num_images"] == 10
    (rejected,) = dataset["rejected"]
    assert rejected["file"] == "train/zero/notes.png"
    assert "not a readable picture" in rejected["reason"]


@pytest.mark.parametrize(
    ("name", "code"), [("../../x.png", "path_traversal"), ("/x.png", "absolute_path"), ("train/cat/", "empty_class")]
)
def test_an_archive_that_cannot_be_trusted_or_used_is_refused_at_once(
    service: Service, tmp_path: Path, name: str, code: str
) -> None:
    archive = write_zip(tmp_path / "bad.zip", digit_members(range(2), train=2) | {name: b""})
    with pytest.raises(ApiError) as refusal:
        service.client.upload_dataset(archive, name="bad")
    assert (refusal.value.status, refusal.value.code) == (422, code)
    assert refusal.value.next
