"""The `paintbox` command as people and programs run it: real processes, real service."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.app.world import add_ready_dataset
from tests.builders import digit_members, digit_pngs, write_zip
from tests.paintbox_client.conftest import Served

PAINTBOX = str(Path(sys.executable).with_name("paintbox"))
SCORES = {at: {"accuracy": accuracy, "total": 40} for at, accuracy in (("zero_shot", 0.1), ("fine_tuned", 0.9))}
REPORT = {
    "alpha": 0.55,
    "reason": "best mean",
    "tasks": [{"name": "digits", "role": "patching", "test": SCORES | {"patched": {"accuracy": 0.8, "total": 40}}}],
}


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
        "classify Tell what images show",
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
    assert paintbox("--version").stdout == paintbox("version").stdout
    assert paintbox("version", "--json").stdout.startswith("{")


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("upload", "/no/such/file"), ("patch",), ("classify", __file__), ("jobs", "--limit", "soon")],
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    done = paintbox(*arguments)
    assert done.returncode == 2
    assert "Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_no_service_answers_the_status_is_3_and_the_way_out_is_named() -> None:
    done = paintbox("--url", "http://127.0.0.1:1", "jobs")
    assert done.returncode == 3
    assert "paintbox up" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_service_refuses_ends_with_status_1_and_what_to_do_next(served: Served) -> None:
    done = paintbox("job", "job_nothing", PAINTBOX_URL=served.url)
    assert done.returncode == 1
    assert "There is no job" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


def test_the_service_of_the_data_directory_is_found(served: Served, tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text(json.dumps({"url": served.url, "pid": os.getpid()}))
    assert served.url in paintbox("system", PAINTBOX_DATA_DIR=str(tmp_path)).stdout


def test_a_folder_is_uploaded_and_listed(served: Served, tmp_path: Path) -> None:
    for name, data in digit_members(range(2), train=2).items():
        (tmp_path / "digits" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "digits" / name).write_bytes(data)
    uploaded = paintbox(
        *("--url", served.url, "upload", tmp_path / "digits", "--classname", "zero=digit zero", "--no-wait", "--json"),
        *("--layout", "imagefolder", "--class-level", "2", "--split-of", "train=test"),
    )
    dataset = json.loads(uploaded.stdout)
    assert dataset["name"] == "digits"
    assert served.client.job(dataset["job"]["id"])["status"] == "queued"
    assert dataset["id"] in paintbox("--url", served.url, "datasets").stdout
    assert dataset["job"]["id"] in paintbox("--url", served.url, "jobs").stdout
    assert "queued" in paintbox("--url", served.url, "job", dataset["job"]["id"], "--events").stdout
    cancelled = paintbox("--url", served.url, "cancel", dataset["job"]["id"], "--json")
    assert json.loads(cancelled.stdout)["status"] == "cancelled"


def test_a_flat_folder_is_a_pool_if_it_is_said_to_be_unlabelled(served: Served, tmp_path: Path) -> None:
    (tmp_path / "my photos.v2").mkdir()
    (tmp_path / "my photos.v2" / "1.png").write_bytes(digit_pngs(4)[5])
    url = ("--url", served.url)
    uploaded = paintbox(*url, "upload", tmp_path / "my photos.v2", "--unlabelled", "--no-wait", "--json")
    dataset = json.loads(uploaded.stdout)
    assert (dataset["kind"], dataset["name"]) == ("pool", "my photos.v2")


def test_a_data_set_is_derived_and_shown(served: Served) -> None:
    source = add_ready_dataset(served.world.services, ["zero", "one"], ["a {}"], ["train"])
    url = ("--url", served.url)
    made = paintbox(*url, "derive", source, "--name", "renamed", "--classname", "zero=digit zero", "--json")
    derived = json.loads(made.stdout)
    assert (derived["classnames"], derived["templates"]) == (["digit zero", "one"], ["a {}"])
    assert served.client.derive_dataset(source, "renamed", {"zero": "digit zero"})["id"] == derived["id"]
    assert "renamed" in paintbox(*url, "dataset", derived["id"]).stdout
    assert paintbox(*url, "derive", source, "--name", "x", "--classname", "nine=9").returncode == 1


def test_a_failed_job_ends_the_wait_with_status_1_and_its_cause(served: Served, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "failing.zip", digit_members(range(3), train=3))
    job_id = served.client.upload_dataset(archive, "failing")["job"]["id"]
    served.fail(served.lease(job_id), "bad_image", "zero/000.png is broken.")
    waited = paintbox("--url", served.url, "job", job_id, "--wait")
    assert waited.returncode == 1
    assert "zero/000.png is broken." in waited.stderr


def test_a_patch_is_asked_for_watched_and_shown(served: Served) -> None:
    task = add_ready_dataset(served.world.services, ["zero", "one"], splits=("train", "validation", "test"))

    deadline = time.monotonic() + 20

    def finish() -> None:
        while not served.client.patches() and time.monotonic() < deadline:
            time.sleep(0.05)
        served.complete_patch(served.client.patches()[0], REPORT)

    worker = threading.Thread(target=finish)
    worker.start()
    done = paintbox("--url", served.url, "patch", "--task", task, "--name", "[red]digits", "--iterations", 5)
    worker.join()
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("digits"))
    assert row.split() == ["digits", "patching", "10.0%", "90.0%", "80.0%", "-", "-", "40"]
    assert "alpha 0.55: best mean" in done.stdout
    assert "Patching" in done.stderr
    (patch,) = served.client.patches()
    assert patch["id"] in done.stdout
    assert patch["name"] == "[red]digits"
    assert served.client.patch(patch["id"])["request"]["finetune"]["iterations"] == 5


def test_versions_are_listed_and_activated(served: Served) -> None:
    version_id = served.add_version()
    assert paintbox("--url", served.url, "activate", version_id, "--reason", "a test").returncode == 0
    listed = paintbox("--url", served.url, "versions").stdout.splitlines()
    assert [line.split()[0] for line in listed if line.rstrip().endswith("active")] == [str(version_id)]


def test_an_alias_is_moved_and_rolled_back(served: Served) -> None:
    first, second = served.add_version(), served.add_version()
    url = ("--url", served.url)
    assert "is canary" in paintbox(*url, "activate", first, "--alias", "canary").stdout
    assert paintbox(*url, "activate", second, "--alias", "canary", "--reason", "try").returncode == 0
    back = json.loads(paintbox(*url, "rollback", "--alias", "canary", "--json").stdout)
    assert (back["name"], back["version"]) == ("canary", first)
    assert [move["to_version"] for move in served.client.alias_history("canary")] == [first, second, first]
    assert "canary" in [alias["name"] for alias in served.client.aliases()]
    assert paintbox(*url, "rollback", "--alias", "nothing").returncode == 1


def test_images_are_classified(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(digit_pngs(0)[0])
    labels = ("--label", "digit zero", "--label", "a [bold]cat")
    shown = paintbox("--url", served.url, "classify", tmp_path / "a.png", *labels)
    assert "a [bold]cat" in shown.stdout
    answer = json.loads(paintbox("--url", served.url, "classify", tmp_path / "a.png", *labels, "--json").stdout)
    assert len(answer["results"][0]["predictions"]) == 2
