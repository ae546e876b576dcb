"""`paintbox log`: what a patch reported as it ran, as a table, CSV or files of TensorBoard."""

import csv
import io
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from paintbox_client import mlflow_runs
from registry.jobs import Jobs
from registry.leases import Lease
from tests.app.patched import add_patch
from tests.app.world import add_ready_dataset
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


@pytest.fixture(scope="module")
def patch(served: Served) -> str:
    """A patch that was interrupted after two steps, went on, fine-tuned a second time and evaluated two alphas."""
    task = add_ready_dataset(served.world.services, ["cat", "dog"], splits=("train", "validation", "test"))
    started = served.client.create_patch(name="a patch", tasks=[task])["patch"]
    lease = served.lease(started["job_id"])
    _note(served, lease, "started", attempt=1, owner="a test")
    for step in (1, 2):
        _note(served, lease, "fine-tuning", step=step, loss=1.0 / step, learning_rate=0.1, images_per_second=9.0)
    _note(served, lease, "started", attempt=2, owner="a test")
    for step in (2, 3):
        _note(served, lease, "fine-tuning", step=step, loss=0.25 * step, learning_rate=0.1, anchor_loss=0.5)
    _note(served, lease, "fine-tuning", step=1, loss=7.0)
    for alpha in (0.0, 0.25):
        _note(served, lease, "alpha evaluated", alpha=alpha, profile="flat", accuracies={task: 2 * alpha})
    return str(started["id"])


def _note(served: Served, lease: Lease, message: str, **data: object) -> None:
    with served.world.services.database.write() as session:
        Jobs(session).note(lease, message, data=data)


def test_steps_count_once_and_a_second_fine_tuning_is_a_run_of_its_own(
    served: Served, patch: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    assert run("log", patch, "--csv", path, PAINTBOX_URL=served.url).status == 0
    rows = [row for row in csv.DictReader(io.StringIO(path.read_text()))]
    losses = [(row["run"], float(row["x"]), float(row["value"])) for row in rows if row["series"] == "loss"]
    assert losses == [("1", 1, 1.0), ("1", 2, 0.5), ("1", 3, 0.75), ("2", 1, 7.0)]
    found = [(float(row["x"]), float(row["value"])) for row in rows if row["run"] == "alpha"]
    assert found == [(0.0, 0.0), (0.25, 0.5)]
    assert rows == [{**each, "x": row["x"], "value": row["value"]} for each, row in
                    zip(run("log", patch, "--json", PAINTBOX_URL=served.url).json, rows, strict=True)]  # fmt: skip
    shown = run("log", patch, PAINTBOX_URL=served.url).out.splitlines()
    assert len(shown) == 1 + len(rows)


def test_tensorboard_reads_what_is_written(served: Served, patch: str, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    assert run("log", patch, "--tensorboard", folder, PAINTBOX_URL=served.url).status == 0
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "alpha"]
    (file,) = (folder / "1").iterdir()
    values = {(value.tag, event.step): value.simple_value for event in _events(file) for value in event.summary.value}
    assert {key: value for key, value in values.items() if key[0] == "loss"} == {
        ("loss", 1): 1.0, ("loss", 2): 0.5, ("loss", 3): 0.75,
    }  # fmt: skip
    (file,) = (folder / "alpha").iterdir()
    assert [event.step for event in _events(file) if event.summary.value] == [0, 250]


def _events(file: Path) -> Iterator[Event]:
    """The records of a file: length, its checksum, content, its checksum."""
    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def test_a_file_that_cannot_be_written_is_told(served: Served, patch: str, tmp_path: Path) -> None:
    done = run("log", patch, "--csv", tmp_path / "none" / "log.csv", PAINTBOX_URL=served.url)
    assert (done.status, "cannot be written" in done.err) == (2, True)


def test_each_trial_has_a_search_of_its_own(served: Served) -> None:
    task = add_ready_dataset(served.world.services, ["cat", "dog"], splits=("train", "validation", "test"))
    started = served.client.create_patch(name="trials", tasks=[task], finetune={"tune": 2})["patch"]
    lease = served.lease(started["job_id"])
    for number in (1, 2):
        for step in (1, 2):
            _note(served, lease, "fine-tuning", step=step, loss=float(number))
        _note(served, lease, "alpha evaluated", alpha=0.5, accuracies={task: number / 4})
        _note(served, lease, "trial judged", number=number, learning_rate=0.1, iterations=2, alpha=0.5, patching=0.5)
    rows = run("log", started["id"], "--json", PAINTBOX_URL=served.url).json
    assert [(row["run"], row["value"]) for row in rows if row["series"].startswith("accuracy")] == [
        ("alpha 1", 0.25),
        ("alpha 2", 0.5),
    ]
    assert [row["run"] for row in rows if row["series"] == "loss"] == ["1", "1", "2", "2"]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # in MLflow's own store
def test_mlflow_reads_what_is_written(served: Served, patch: str, tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="needs the extra mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)  # artifacts of a database lie in the working directory
        done = run("log", patch, "--mlflow", uri, PAINTBOX_URL=served.url)
        assert (done.status, "experiment paintbox" in done.err) == (0, True), done.err
        client = tracking.MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("paintbox")
        (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "a patch"
    assert found.data.tags["paintbox.patch_id"] == patch
    assert found.data.params["method"] == "single"
    assert found.data.params["alpha.rule"] == "combined"

    def history(key: str) -> list[tuple[int, float]]:
        return [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, key)]

    assert history("1/loss") == [(1, 1.0), (2, 0.5), (3, 0.75)]
    assert history("2/loss") == [(1, 7.0)]
    (series,) = [key for key in found.data.metrics if key.startswith("alpha/accuracy/")]
    assert history(series) == [(0, 0.0), (250, 0.5)]
    assert found.info.status == "RUNNING"


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_a_run_of_mlflow_holds_the_figures_and_the_report_of_a_finished_patch(served: Served, tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="needs the extra mlflow")
    done = add_patch(served.world)
    report = served.client.patch(done.id).report
    assert report is not None
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)
        assert run("log", done.id, "--mlflow", uri, PAINTBOX_URL=served.url).status == 0
        client = tracking.MlflowClient(tracking_uri=uri)
        (found,) = client.search_runs([client.get_experiment_by_name("paintbox").experiment_id])
        files = {each.path for each in client.list_artifacts(found.info.run_id)}
        stored = json.loads(Path(client.download_artifacts(found.info.run_id, "report.json", tmp_path)).read_text())
    assert files == {"report.json", "report.html"}
    assert stored == report.to_dict()
    assert found.info.status == "FINISHED"
    assert (found.data.metrics["alpha"], found.data.metrics["version"]) == (report.alpha, report.version_id)
    shown = [value for key, value in found.data.metrics.items() if key.startswith("test/patched/")]
    assert shown == [task.test.patched.accuracy for task in report.tasks]


def test_names_that_mlflow_refuses_are_spelled_otherwise() -> None:
    assert mlflow_runs._key("test", "../a//b: 5 %") == "test/.._a__b_ 5 _"
    assert mlflow_runs._key("test", "..") == "test/_"
    assert mlflow_runs._key("") == "_"


def test_without_mlflow_the_extra_is_named(served: Served, patch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    done = run("log", patch, "--mlflow", "sqlite:///mlflow.db", PAINTBOX_URL=served.url)
    assert (done.status, "paintbox[mlflow]" in done.err) == (2, True)


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_a_version_is_registered_once_with_its_export_and_card_and_aliases_are_mirrored(
    served: Served, tmp_path: Path
) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="needs the extra mlflow")
    report = served.client.patch((done := add_patch(served.world)).id).report
    assert report is not None
    version = report.version_id
    assert version is not None
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    arguments = ("log", done.id, "--mlflow", uri, "--mlflow-model", "it's a model")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)
        served.client.activate(version, alias="candidate")
        assert run(*arguments, PAINTBOX_URL=served.url).status == 0
        client = tracking.MlflowClient(tracking_uri=uri)
        (stored,) = client.search_model_versions("")
        files = {each.path for each in client.list_artifacts(stored.run_id, "model")}
        card = Path(client.download_artifacts(stored.run_id, "model/README.md", tmp_path)).read_text()
        assert stored.source == f"runs:/{stored.run_id}/model"
        assert "model/open_clip_model.safetensors" in files
        assert (stored.tags["paintbox.version"], stored.description) == (str(version), card)
        model = client.get_registered_model("it's a model")
        assert {name: str(number) for name, number in model.aliases.items()} == {"candidate": str(stored.version)}
        served.client.delete_alias("candidate")
        served.client.activate(version, alias="v1")  # a name that MLflow reserves
        served.client.activate(version, alias="champion")
        assert run(*arguments, PAINTBOX_URL=served.url).status == 0
        assert len(client.search_model_versions("")) == 1
        aliases = client.get_registered_model("it's a model").aliases
        assert set(aliases) == {"champion"}


def test_a_model_needs_a_store_and_a_version(served: Served, patch: str, tmp_path: Path) -> None:
    assert run("log", patch, "--mlflow-model", "m", PAINTBOX_URL=served.url).status == 2
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run("log", patch, "--mlflow", uri, "--mlflow-model", "m", PAINTBOX_URL=served.url)
    assert (done.status, "no version" in done.err) == (2, True)
