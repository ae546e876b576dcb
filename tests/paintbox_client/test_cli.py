"""The `paintbox` command against a real service; how it starts and ends, in processes of its own."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.app.world import add_ready_dataset
from tests.builders import digit_members, digit_pngs, write_zip
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run

PAINTBOX = str(Path(sys.executable).with_name("paintbox"))
SCORES = {
    at: {"accuracy": correct / 40, "correct": correct, "total": 40}
    for at, correct in (("zero_shot", 4), ("fine_tuned", 36), ("patched", 32))
}
REPORT = {
    "alpha": 0.55,
    "reason": "best mean",
    "tasks": [{"dataset_id": "ds_1", "name": "digits", "role": "patching", "validation": SCORES, "test": SCORES}],
}


@contextmanager
def finishing(served: Served, report: dict[str, Any]) -> Iterator[None]:
    """While the context lasts, the next patch that is asked for ends with this report."""
    known = {each.id for each in served.client.patches()}
    deadline = time.monotonic() + 20

    def finish() -> None:
        while time.monotonic() < deadline:
            for each in served.client.patches():
                if each.id not in known:
                    return served.complete_patch(each, report)
            time.sleep(0.05)

    worker = threading.Thread(target=finish)
    worker.start()
    try:
        yield
    finally:
        worker.join()


def paintbox(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    environment |= {"PAINTBOX_DATA_DIR": "/nonexistent"} | variables
    command = [PAINTBOX, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_help_is_quick_and_names_what_other_packages_add_without_loading_them() -> None:
    paintbox("--help")
    started = time.monotonic()
    shown = paintbox("--help")
    seconds = time.monotonic() - started
    assert shown.returncode == 0
    for line in (
        "up Run the service on this machine",
        "demo Patch the bundled model",
        "classify Classify images among candidate labels",
    ):
        assert line in " ".join(shown.stdout.split())
    probe = (
        "import sys; sys.argv = ['paintbox', '--help']\n"
        "from paintbox_client.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'fastapi', 'sqlalchemy', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, stdout=subprocess.DEVNULL)
    assert seconds < 5  # under a second on an idle machine


def test_an_added_command_has_its_own_help() -> None:
    shown = paintbox("up", "--help")
    assert shown.returncode == 0
    assert "--data-dir" in shown.stdout


def test_the_version_is_shown_in_two_ways() -> None:
    assert run("--version").out == run("version").out
    assert "version" in run("version", "--json").json


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("upload", "/no/such/file"), ("patch",), ("classify", __file__), ("jobs", "--limit", "soon")],
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert "Error" in done.err
    assert "Traceback" not in done.err


def test_where_no_service_answers_the_status_is_3_and_the_way_out_is_named() -> None:
    done = paintbox("--url", "http://127.0.0.1:1", "jobs")
    assert done.returncode == 3
    assert "paintbox up" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_service_refuses_ends_with_status_1_and_what_to_do_next(served: Served) -> None:
    done = paintbox("job", "job_nothing", PAINTBOX_URL=served.url)
    assert done.returncode == 1
    assert "No job matches" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


def test_the_service_of_the_data_directory_is_found(served: Served, tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text(json.dumps({"url": served.url, "pid": os.getpid()}))
    assert served.url in paintbox("system", PAINTBOX_DATA_DIR=str(tmp_path)).stdout


def test_a_folder_is_uploaded_and_listed(served: Served, tmp_path: Path) -> None:
    for name, data in digit_members(range(2), train=2).items():
        (tmp_path / "digits" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "digits" / name).write_bytes(data)
    uploaded = run(
        *("--url", served.url, "upload", tmp_path / "digits", "--classname", "zero=digit zero", "--no-wait", "--json"),
        *("--layout", "imagefolder", "--class-level", "2", "--split-of", "train=test"),
    )
    dataset = uploaded.json
    assert dataset["name"] == "digits"
    assert served.client.job(dataset["job"]["id"])["status"] == "queued"
    assert dataset["id"] in run("--url", served.url, "datasets").out
    assert dataset["job"]["id"] in run("--url", served.url, "jobs").out
    assert "queued" in run("--url", served.url, "job", dataset["job"]["id"], "--events").out
    cancelled = run("--url", served.url, "cancel", dataset["job"]["id"], "--json")
    assert cancelled.json["status"] == "cancelled"


def test_a_flat_folder_is_a_pool_if_it_is_said_to_be_unlabelled(served: Served, tmp_path: Path) -> None:
    (tmp_path / "my photos.v2").mkdir()
    (tmp_path / "my photos.v2" / "1.png").write_bytes(digit_pngs(4)[5])
    url = ("--url", served.url)
    uploaded = run(*url, "upload", tmp_path / "my photos.v2", "--unlabelled", "--no-wait", "--json")
    dataset = uploaded.json
    assert (dataset["kind"], dataset["name"]) == ("pool", "my photos.v2")


def test_a_data_set_is_derived_and_shown(served: Served) -> None:
    source = add_ready_dataset(served.world.services, ["zero", "one"], ["a {}"], ["train"])
    url = ("--url", served.url)
    made = run(*url, "derive", source, "--name", "renamed", "--classname", "zero=digit zero", "--json")
    derived = made.json
    assert (derived["classnames"], derived["templates"]) == (["digit zero", "one"], ["a {}"])
    assert served.client.derive_dataset(source, "renamed", {"zero": "digit zero"})["id"] == derived["id"]
    assert "renamed" in run(*url, "dataset", derived["id"]).out
    assert run(*url, "derive", source, "--name", "x", "--classname", "nine=9").status == 1


def test_a_failed_job_ends_the_wait_with_status_1_and_its_cause(served: Served, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "failing.zip", digit_members(range(3), train=3))
    job_id = served.client.upload_dataset(archive, "failing")["job"]["id"]
    served.fail(served.lease(job_id), "bad_image", "zero/000.png is broken.")
    waited = run("--url", served.url, "job", job_id, "--wait")
    assert waited.status == 1
    assert "zero/000.png is broken." in waited.err


def test_a_patch_is_asked_for_watched_and_shown(served: Served) -> None:
    task = add_ready_dataset(served.world.services, ["zero", "one"], splits=("train", "validation", "test"))

    with finishing(served, REPORT):
        done = run("--url", served.url, "patch", "--task", task, "--name", "[red]digits", "--iterations", 5)
    assert done.status == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("digits"))
    assert row.split() == ["digits", "patching", "10.0%", "90.0%", "80.0%", "-", "-", "40"]
    assert "alpha 0.55: best mean" in done.out
    assert "Patching" in done.err
    (patch,) = served.client.patches()
    assert patch["id"] in done.out
    assert patch["name"] == "[red]digits"
    assert served.client.patch(patch["id"])["request"]["finetune"]["iterations"] == 5


def test_a_patch_without_an_acceptable_alpha_ends_with_a_status_and_a_line_of_its_own(served: Served) -> None:
    task = add_ready_dataset(served.world.services, ["zero", "one"], splits=("train", "validation", "test"))
    with finishing(served, REPORT | {"alpha": 0.0, "terms": []}):
        done = run("--url", served.url, "patch", "--task", task, "--name", "in vain")
    assert done.status == 4
    version = served.client.patch(served.client.find("patch", "in vain")).version_id
    assert done.err.splitlines()[-1] == f"Warning: No acceptable patch: version {version} equals the base."


def test_versions_are_listed_and_activated(served: Served) -> None:
    version_id = served.add_version()
    assert run("--url", served.url, "activate", version_id, "--reason", "a test").status == 0
    listed = run("--url", served.url, "versions").out.splitlines()
    assert [line.split()[0] for line in listed if line.rstrip().endswith("active")] == [str(version_id)]


def test_an_alias_is_moved_and_rolled_back(served: Served) -> None:
    first, second = served.add_version(), served.add_version()
    url = ("--url", served.url)
    assert "is canary" in run(*url, "activate", first, "--alias", "canary").out
    assert run(*url, "activate", second, "--alias", "canary", "--reason", "try").status == 0
    back = run(*url, "rollback", "--alias", "canary", "--json").json
    assert (back["name"], back["version"]) == ("canary", first)
    assert [move["to_version"] for move in served.client.alias_history("canary")] == [first, second, first]
    assert "canary" in [alias["name"] for alias in served.client.aliases()]
    assert run(*url, "rollback", "--alias", "nothing").status == 1


def test_images_are_classified(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(digit_pngs(0)[0])
    labels = ("--label", "digit zero", "--label", "a [bold]cat")
    shown = run("--url", served.url, "classify", tmp_path / "a.png", *labels)
    assert "a [bold]cat" in shown.out
    answer = run("--url", served.url, "classify", tmp_path / "a.png", *labels, "--json").json
    assert len(answer["results"][0]["predictions"]) == 2
