"""A scientist's way from a folder to a served version, typed as people type: by names, without an id."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paintbox_client.client import Client
from registry.datasets import DatasetContent, Datasets
from registry.jobs import Jobs
from registry.patches import Patches
from tests.app.patched import SPLITS, add_patch
from tests.app.world import add_ready_dataset, open_world, serve
from tests.builders import digit_members, digit_pngs, write_zip
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import Done, run
from tests.paintbox_client.test_reports import task


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with open_world(tmp_path_factory.mktemp("journey")) as world, serve(world) as url, Client(url) as client:
        yield Served(url, client, world)


def ask(served: Served, *arguments: object, **options: Any) -> Done:
    return run(*arguments, PAINTBOX_URL=served.url, **options)


def rename(served: Served, identifier: str, name: str) -> None:
    with served.world.services.database.write() as session:
        Datasets(session).get(identifier).name = name


def end_ingest(served: Served, job_id: str, dataset_id: str) -> None:
    """Do what a worker does with an upload."""
    content = DatasetContent(
        ("zero", "one"),
        (),
        {split: {"sha256": "0" * 64, "num_images": 2} for split in SPLITS},
        {split: {"zero": 1, "one": 1} for split in SPLITS},
        [],
    )
    lease = served.lease(job_id)
    with served.world.services.database.write() as session:
        Datasets(session).complete(dataset_id, content)
        Jobs(session).succeed(lease)


def add_measured_patch(served: Served) -> int:
    """The number of a version of a finished patch whose report has all that a worker writes about tasks."""
    patched = add_patch(served.world, seeds=(5,))
    tasks = [task("digits", "patching", (0.1, 0.95, 0.9), (80.0, 70.0, 90.0)) | {"dataset_id": patched.task}]
    tasks.append(task("food", "supported", (0.9, 0.6, 0.86), (-4.0, -8.0, 0.5)) | {"dataset_id": patched.supported})
    with served.world.services.database.write() as session:
        row = Patches(session).get(patched.id)
        report: Any = row.report
        known = {each["dataset_id"]: each for each in report["tasks"]}
        tasks = [known[each["dataset_id"]] | each for each in tasks]
        points = report["stages"][-1]["curves"]["flat"]
        row.report = report | {"tasks": tasks, "version_id": patched.version, "curve": points}
    return patched.version


def test_a_scientist_types_six_commands_and_no_id(served: Served, tmp_path: Path) -> None:
    for name, data in digit_members(range(2), train=2).items():
        (tmp_path / "digits" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "digits" / name).write_bytes(data)
    food = add_ready_dataset(served.world.services, ["pizza", "taco"], splits=SPLITS)
    rename(served, food, "food")

    uploaded = ask(served, "upload", tmp_path / "digits", "--no-wait", "--json").json  # 1
    end_ingest(served, uploaded["job"]["id"], uploaded["id"])
    asked = ask(served, "patch", "--task", "digits", "--supported", "food", "--name", "better digits", "--no-wait")  # 2
    assert asked.status == 0, asked.err
    patch = served.client.patch(served.client.find("patch", "better digits"))
    assert (patch["request"]["tasks"], patch["request"]["supported"]) == ([uploaded["id"]], [food])
    assert patch["id"] in asked.err

    unfinished = ask(served, "report", "better digits")
    assert unfinished.status == 1
    assert "has no report yet: its job is queued" in unfinished.err

    number = add_measured_patch(served)  # stands for what the worker makes of it
    shown = ask(served, "report", number, "--curve", "--plot", tmp_path / "a.svg", "--html", tmp_path / "a.html")  # 3
    assert shown.status == 0, shown.err
    assert ["digits", "patching"] in [line.split()[:2] for line in shown.out.splitlines()]
    assert f"Run `paintbox activate {number}` to serve it." in shown.err
    assert (tmp_path / "a.svg").stat().st_size > 500
    assert (tmp_path / "a.html").stat().st_size > 500
    other = ask(served, "reselect", number, "--alpha", "0.25", "--name", "careful digits")  # 4
    assert other.status == 0, other.err
    assert "Run `paintbox activate" in other.err
    active = ask(served, "activate", "careful digits", "--reason", "looks right")  # 5
    assert active.status == 0, active.err
    (tmp_path / "a.png").write_bytes(digit_pngs(0)[0])
    answer = ask(served, "classify", tmp_path / "a.png", "--dataset", "digits", "--json").json  # 6
    assert answer["version"] == served.client.active()["version"] == served.client.find_version("careful digits")
    assert served.client.alias_history()[0]["reason"] == "looks right"


def test_names_numbers_prefixes_and_aliases_are_references_everywhere(served: Served) -> None:
    patched = add_patch(served.world, seeds=(6,))
    rename(served, patched.task, "screws")
    job = served.client.patch(patched.id)["job_id"]
    assert ask(served, "dataset", "screws", "--json").json["id"] == patched.task
    assert ask(served, "dataset", "scr", "--json").json["id"] == patched.task
    assert ask(served, "dataset", patched.task[:-3], "--json").json["id"] == patched.task
    for reference in (patched.id, patched.id[3:-3], str(patched.version)):
        assert served.client.find("patch", reference) == patched.id
    for reference in (job, job[:-4], job[4:-4], patched.id):
        assert ask(served, "job", reference, "--json").json["id"] == job
    version = served.add_version()
    served.client.relabel(version, name="the good one")
    for reference in (version, "the good one", "the good"):
        assert ask(served, "version", "show", reference, "--json").json["id"] == version
    assert ask(served, "activate", "the good one", "--alias", "staging").status == 0
    assert served.client.find_version("staging") == version
    assert ask(served, "version", "show", "staging").out.count("staging") == 1
    label_set = served.client.create_label_set(["pear", "apple"], name="fruit")["id"]
    assert ask(served, "label-sets", "show", "fruit").out.split() == ["pear", "apple"]
    assert served.client.find("label_set", label_set[:12]) == label_set


def test_a_reference_to_several_things_lists_them_and_one_to_none_says_where_to_look(served: Served) -> None:
    made = [add_ready_dataset(served.world.services, ["a", "b"]) for _ in range(2)]
    for identifier in made:
        rename(served, identifier, "twins")
    both = ask(served, "dataset", "twins")
    assert both.status == 2
    assert "it matches 2 data sets" in both.err
    assert all(identifier in both.err for identifier in made)
    for arguments, command in (
        (("patch", "--task", "nothing"), "paintbox datasets"),
        (("report", "nothing"), "paintbox patches"),
        (("job", "nothing"), "paintbox jobs"),
        (("activate", "nothing"), "paintbox versions"),
        (("label-sets", "show", "nothing"), "paintbox label-sets list"),
    ):
        done = ask(served, *arguments)
        assert done.status == 1, arguments
        assert "matches" in done.err
        assert f"`{command}`" in done.err
    assert ask(served, "reselect", 1, "--alpha", "0.5").status == 2  # the base was made by no patch


def test_a_failed_data_set_says_why_and_is_not_meant_where_a_whole_one_is(served: Served, tmp_path: Path) -> None:
    broken = served.client.upload_dataset(_archive(tmp_path / "a.zip", 2), "gauges")
    served.fail(served.lease(broken["job"]["id"]), "bad_image", "zero/000.png is broken.")
    with served.world.services.database.write() as session:
        Datasets(session).get(broken["id"]).state = "failed"
    shown = ask(served, "dataset", "gauges")
    assert "zero/000.png is broken. (bad_image)" in shown.err
    whole = served.client.upload_dataset(_archive(tmp_path / "b.zip", 3), "gauges")
    end_ingest(served, whole["job"]["id"], whole["id"])
    assert served.client.find("dataset", "gauges", is_used=True) == whole["id"]
    again = ask(served, "upload", tmp_path / "b.zip", "--name", "meters")
    assert "already uploaded as 'gauges'" in again.err
    assert ask(served, "datasets", "--status", "failed").out.count("gauges") == 1


def _archive(path: Path, train: int) -> Path:
    return write_zip(path, digit_members(range(2), train=train))


def test_lists_say_when_there_is_more(served: Served) -> None:
    for _ in range(3):
        add_ready_dataset(served.world.services, ["a", "b"])
        served.add_version()
    for command in ("datasets", "versions", "jobs"):
        few = ask(served, command, "--limit", 2)
        assert len(few.out.splitlines()) == 3, command
        assert "Show more with --limit 4" in few.err
        assert "Show more" not in ask(served, command, "--limit", 500).err
        assert len(ask(served, command, "--limit", 2, "--json").json) == 2
    assert {each["kind"] for each in ask(served, "jobs", "--kind", "patch", "--json").json} == {"patch"}
    queued = ask(served, "jobs", "--status", "queued", "--status", "running", "--json").json
    assert {each["status"] for each in queued} <= {"queued", "running"}


def test_ids_are_whole_in_eighty_columns(served: Served) -> None:
    patched = add_patch(served.world, seeds=(9,))
    dataset, job = patched.task, served.client.patch(patched.id)["job_id"]
    rename(served, dataset, "a name that is rather long for a table of eighty columns")
    for command, identifier in (("datasets", dataset), ("jobs", job), ("patches", patched.id), ("versions", "1")):
        shown = ask(served, command, columns=80)
        assert identifier in shown.out
        assert all(len(line) <= 80 for line in shown.out.splitlines())
    narrow = ask(served, "jobs", columns=60).out
    assert "OF" not in narrow.splitlines()[0].split()
    assert job in narrow


def test_aliases_and_their_history_are_shown(served: Served) -> None:
    version = served.add_version()
    assert ask(served, "activate", version, "--alias", "canary", "--reason", "a tenth of the traffic").status == 0
    assert ["canary", str(version)] in [line.split()[:2] for line in ask(served, "aliases").out.splitlines()]
    assert "a tenth of the traffic" in ask(served, "history", "canary").out
    assert ask(served, "history", "canary", "--json").json[0]["to_version"] == version
    listed = ask(served, "versions").out.splitlines()
    assert next(line for line in listed if line.split()[0] == str(version)).split()[-1] == "canary"
    assert ask(served, "unalias", "canary", "--json").json == {"deleted": "canary"}


def test_an_export_that_fails_leaves_no_folder(served: Served, tmp_path: Path) -> None:
    assert ask(served, "export", 99_999, tmp_path / "new").status == 1
    assert not (tmp_path / "new").exists()
    done = ask(served, "export", "active", tmp_path / "new", "--json")
    assert sorted(done.json["files"]) == sorted(map(str, (tmp_path / "new").iterdir()))


def test_references_complete_in_a_shell(served: Served) -> None:
    rename(served, add_ready_dataset(served.world.services, ["a", "b"]), "valves")
    words = {"_PAINTBOX_COMPLETE": "complete_bash", "COMP_WORDS": "paintbox dataset val", "COMP_CWORD": "2"}
    assert ask(served, **words).out.split() == ["valves"]
    words |= {"COMP_WORDS": "paintbox activate --alias act", "COMP_CWORD": "3"}
    assert ask(served, **words).out.split() == ["active"]
    nowhere = words | {"COMP_WORDS": "paintbox dataset val", "COMP_CWORD": "2", "PAINTBOX_URL": "http://127.0.0.1:9"}
    assert run(**nowhere).out.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rule", "floor"), "--rule floor needs --max-drop POINTS."),
        (("--max-drop", "1"), "--max-drop needs supported tasks."),
        (("--rule", "combined", "--max-drop", "1"), "--max-drop requires --rule certified or floor."),
        (("--rule", "floor", "--max-drop", "1"), "--supported"),
        (("--method", "joint"), "--method joint needs two tasks or more"),
        (("--folds", "3", "--method", "parallel", "--task", "wheels"), "--method"),
        (("--learning-rate", "7"), "--learning-rate: "),
        (("--activate", "if_accepted"), "needs --rule certified or floor"),
        (("--activate", "if_certified"), "--activate if_certified needs --rule certified"),
        (("--set", "finetune.typo=1"), "--set finetune.typo: is not a known field"),
    ],
)
def test_wrong_options_are_told_as_options_with_status_2(served: Served, arguments: tuple[str, ...], said: str) -> None:
    for name in ("bolts", "wheels"):
        if not served.client.datasets(1, ref=name):
            rename(served, add_ready_dataset(served.world.services, ["a", "b"], splits=SPLITS), name)
    done = ask(served, "patch", "--task", "bolts", *arguments)
    assert done.status == 2, done.err
    assert said in done.err
    for word in ("body", "Value error", "max_supported_drop", "/docs", "errors`"):
        assert word not in done.err
    assert done.err.count(said) == 1


def test_what_an_option_may_be_is_known_before_anything_is_sent(served: Served) -> None:
    for arguments in (("--rule", "best"), ("--method", "both"), ("--merge", "x"), ("--priority", "urgent")):
        done = run("--url", "http://127.0.0.1:1", "patch", "--task", "bolts", *arguments)
        assert done.status == 2
        assert arguments[0] in done.err
    shown = run("patch", "--help", columns=120).out
    for choice in ("combined|floor", "never|if_accepted", "combined (default otherwise)", "Default: 60"):
        assert choice in shown


def test_errors_are_json_where_json_is_asked_for(served: Served) -> None:
    missing = ask(served, "job", "nothing", "--json")
    assert missing.json["error"] | {"detail": ""} == {
        "code": "not_found",
        "detail": "",
        "status": 404,
        "next": missing.json["error"]["next"],
        "exit_status": 1,
    }
    assert "No job matches" in missing.err
    unreachable = run("--url", "http://127.0.0.1:1", "jobs", "--json")
    assert (unreachable.status, unreachable.json["error"]["code"]) == (3, "service_unreachable")
    usage = ask(served, "jobs", "--limit", "many", "--json")
    assert (usage.status, usage.json["error"]["code"]) == (2, "wrong_usage")
    refused = ask(served, "patch", "--task", "bolts", "--learning-rate", "7", "--json")
    assert (refused.status, refused.json["error"]["exit_status"]) == (2, 2)
