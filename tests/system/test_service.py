"""`paintbox up` with every real process: the whole path, what dies comes back, and nothing is left behind.

The whole path is upload → patch → activate → classify. One file, so that its tests share one service.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from paintbox_client.client import Client
from paintbox_client.discovery import find_service
from paintbox_client.errors import ApiError
from tests.builders import WORDS, digit_members, digit_pngs, write_zip
from tests.system.conftest import Service, free_port, start_service, wait_until_ready

pytestmark = pytest.mark.system
DISPLAY_NAMES = {word: f"digit {word}" for word in WORDS[:5]}
FINETUNE = {"iterations": 40, "batch_size": 32, "learning_rate": 3e-4}
_MARKS = {"valkey": "valkey-server", "worker": "-m worker", "api": "-m app"}
PAINTBOX = str(Path(sys.executable).with_name("paintbox"))


def children(service: Service) -> dict[str, psutil.Process]:
    """The processes that `paintbox up` itself started, by what they are."""
    found = {}
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.Error):  # it may have ended meanwhile
            command = " ".join(child.cmdline())
            found |= {name: child for name, mark in _MARKS.items() if mark in command}
    return found


def belonging_to(data_dir: Path) -> list[psutil.Process]:
    """Every process that has to do with a data directory, by its command, its environment or its working directory."""
    found = []
    for process in psutil.process_iter():
        try:
            traces = [process.cwd(), *process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found += [process] if any(str(data_dir) in trace for trace in traces) else []
        except psutil.Error:
            continue
    return found


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def wait_for(is_done: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def run_up(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")} | variables
    return subprocess.run([PAINTBOX, "up", *arguments], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def digits(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Digits zero to four, uploaded and ready."""
    archive = tmp_path_factory.mktemp("archives") / "digits.zip"
    write_zip(archive, digit_members(range(5), train=60, val=10, test=20))
    return _upload(service, archive, classnames=DISPLAY_NAMES)


def test_a_killed_process_comes_back_and_the_service_is_ready_again(service: Service) -> None:
    assert sorted(children(service)) == ["api", "valkey", "worker"]
    for name in ("valkey", "worker", "api"):
        killed = children(service)[name]
        killed.kill()
        wait_for(lambda name=name, killed=killed: children(service).get(name, killed).pid != killed.pid)
        wait_until_ready(service)
        wait_for(lambda: service.client.ready()["status"] == "ok")


def test_no_password_is_on_a_command_line_and_no_file_is_for_others(service: Service) -> None:
    (url,) = {children(service)[name].environ()["PAINTBOX_BROKER_URL"] for name in ("api", "worker")}
    password = url.split("@")[0].rpartition(":")[2]
    assert len(password) >= 32
    assert not any(password in _command_of(process) for process in psutil.process_iter())
    readable = [path for path in service.data_dir.parent.rglob("*") if path.is_dir() and path.stat().st_mode & 0o077]
    assert [path for path in readable if path.parent == service.data_dir] == []


def test_a_hang_up_does_not_end_the_api(service: Service) -> None:
    api = children(service)["api"]
    api.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert children(service)["api"].pid == api.pid
    assert service.client.ready()["status"] == "ok"


def test_others_find_the_service_through_its_data_directory(service: Service) -> None:
    assert find_service(service.data_dir) == service.client.url
    with pytest.MonkeyPatch.context() as patched:  # a client that was told no data directory finds it, too
        patched.setenv("XDG_STATE_HOME", str(service.data_dir.parent / "state"))
        patched.setenv("XDG_DATA_HOME", "/nonexistent")
        for name in ("PAINTBOX_DATA_DIR", "PAINTBOX_URL"):
            patched.delenv(name, raising=False)
        assert Client().url == service.client.url
    assert json.loads((service.data_dir / "service.json").read_text())["pid"] == service.process.pid


def test_a_second_launcher_on_the_same_data_directory_is_refused(service: Service) -> None:
    second = run_up("--data-dir", str(service.data_dir), "--port", str(free_port()))
    assert second.returncode == 2
    assert "another `paintbox up` is using" in second.stderr
    assert "Traceback" not in second.stderr
    assert find_service(service.data_dir) == service.client.url


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_up("--data-dir", str(tmp_path), "--port", str(port))
    assert refused.returncode == 2
    assert f"port {port} on 127.0.0.1 is already in use" in refused.stderr
    assert belonging_to(tmp_path) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PAINTBOX_DEVICE", "banana"),
        ("PAINTBOX_HOST", "0.0.0.0"),
        ("PAINTBOX_DATABASE_URL", "sqlite:////nowhere/at/all.db"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_in_one_line(tmp_path: Path, variable: str, value: str) -> None:
    refused = run_up("--data-dir", str(tmp_path), "--port", "0", **{variable: value})
    named = "PAINTBOX_API_KEY" if variable == "PAINTBOX_HOST" else variable
    assert refused.returncode == 2
    assert named in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert belonging_to(tmp_path) == []


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


def test_upload_patch_activate_classify(service: Service, digits: dict[str, Any], tmp_path: Path) -> None:
    client = service.client
    others = _upload(service, write_zip(tmp_path / "others.zip", digit_members(range(5, 10), val=6, test=6)))
    unseen = [digit_pngs(digit)[-1 - index] for digit in range(5) for index in range(4)]
    truth = [f"digit {WORDS[digit]}" for digit in range(5) for _ in range(4)]

    version_before, labels_before = _top_labels(service, digits["id"], unseen)
    created = client.create_patch(
        name="digits",
        tasks=[digits["id"]],
        supported=[others["id"]],
        anchors=None,
        finetune=FINETUNE,
        alpha={"rule": "combined", "strategy": "grid", "grid_step": 0.25},
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
    _require_a_worker_evaluates(service, others["id"], [version_before, version_after], tmp_path)


def _require_a_worker_evaluates(service: Service, dataset: str, versions: list[int], folder: Path) -> None:
    command = [PAINTBOX, "evaluate", *map(str, versions), "--dataset", dataset, "--split", "validation"]
    done = subprocess.run(
        [*command, "--save", str(folder / "predictions.csv"), "--json"],
        env={**os.environ, "PAINTBOX_URL": service.client.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    report = json.loads(done.stdout)["report"]
    accuracies = [each["measurement"]["score"]["accuracy"] for each in report["versions"]]
    (comparison,) = report["comparisons"]
    assert comparison["change"]["change_points"] == pytest.approx(100 * (accuracies[1] - accuracies[0]))
    rows = (folder / "predictions.csv").read_text().splitlines()[1:]
    assert len(rows) == report["versions"][0]["num_images"] == 30
    right = sum(row.split(",")[1] == row.split(",")[2] for row in rows)
    assert right == report["versions"][0]["measurement"]["score"]["correct"]


def test_a_waiting_job_runs_although_the_broker_was_killed_and_its_data_deleted(
    service: Service, digits: dict[str, Any], tmp_path: Path
) -> None:
    client = service.client
    busy = client.create_patch(name="keeps the worker busy", tasks=[digits["id"]], finetune={"iterations": 100_000})
    while client.job(busy["job"]["id"])["stage"] != "finetune":
        time.sleep(0.1)
    waiting = client.upload_dataset(
        write_zip(tmp_path / "waiting.zip", digit_members(range(3), train=10, val=2, test=2)), name="waiting"
    )
    assert client.job(waiting["job"]["id"])["status"] == "queued"

    broker = children(service)["valkey"]
    broker.kill()
    shutil.rmtree(service.data_dir / "valkey", ignore_errors=True)
    assert client.job(waiting["job"]["id"])["status"] == "queued"
    client.cancel_job(busy["job"]["id"])

    assert client.wait_for_job(waiting["job"]["id"], timeout=120)["status"] == "succeeded"
    assert client.dataset(waiting["id"])["state"] == "ready"
    assert client.job(busy["job"]["id"])["status"] == "cancelled"
    assert children(service)["valkey"].pid != broker.pid


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


# The last one: it ends the service that the others use.
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_a_sigkilled_launcher_leaves_no_process_and_the_job_goes_on_with_the_next_which_ends_well_when_told_to(
    service: Service, digits: dict[str, Any]
) -> None:
    patch = service.client.create_patch(name="long", tasks=[digits["id"]], finetune={"iterations": 100_000})
    job = patch["job"]["id"]
    wait_for(lambda: service.client.job(job)["stage"] == "finetune")

    assert len(belonging_to(service.data_dir)) >= 4  # launcher, Valkey, worker, API
    service.process.kill()
    service.process.wait()
    wait_for(lambda: not belonging_to(service.data_dir))
    assert find_service(service.data_dir) is None

    again = start_service(service.data_dir)
    try:
        wait_for(lambda: again.client.job(job)["stage"] == "finetune" and again.client.job(job)["status"] == "running")
        again.client.cancel_job(job)
    finally:
        again.client.close()
        again.process.send_signal(signal.SIGINT)  # that of tests.attack is stopped by SIGTERM
        assert again.process.wait(timeout=60) == 0
    assert belonging_to(service.data_dir) == []
    assert not (service.data_dir / "service.json").exists()
