"""From wrong answers to a better model: feedback, a data set, a patch, and its activation, with every real part."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paint_core.starter import supported_archives
from paintbox_client.client import Client
from tests.app.world import World, open_world, serve
from tests.builders import WORDS, digit_pngs, write_zip
from tests.paintbox_client.inside import run
from tests.support.forking import Forks
from tests.support.working import working

DIGITS = (0, 1, 4)
LABELS = [WORDS[digit] for digit in DIGITS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("corrections")) as opened:
        yield opened


def _write_food(path: Path) -> Path:
    """Write what the starter knows of six kinds of food."""
    with zipfile.ZipFile(supported_archives()["food"]) as archive:
        names = [name for name in archive.namelist() if name.startswith(("val", "test")) and name.endswith(".png")]
        kinds = sorted({name.split("/")[1] for name in names})[:6]
        return write_zip(path, {name: archive.read(name) for name in names if name.split("/")[1] in kinds})


def _report_wrong_answers(client: Client) -> int:
    """Send the images that the active version answers wrongly, with their right labels."""
    images = {image: WORDS[digit] for digit in DIGITS for image in digit_pngs(digit)[:45]}
    results = client.classify(list(images), LABELS, top_k=1).results
    wrong = 0
    for (image, label), result in zip(images.items(), results, strict=True):
        answer = result.predictions[0].label
        if answer != label:
            client.send_feedback(image, label=label, predicted=answer)
            wrong += 1
    return wrong


def test_wrong_answers_become_a_better_model_in_one_line(world: World, forks: Forks, tmp_path: Path) -> None:
    with serve(world) as url, Client(url) as client, working(world, forks):

        def improve(*options: object) -> Any:
            settings = ("finetune.iterations=15", "finetune.batch_size=24", "alpha.grid_step=0.25")
            chosen = [text for setting in settings for text in ("--set", setting)]
            return run("improve", "--yes", *chosen, *options, PAINTBOX_URL=url)

        client.wait_for_job(client.upload_dataset(_write_food(tmp_path / "food.zip")).job_id)
        num_wrong = _report_wrong_answers(client)
        assert num_wrong > 45
        refused = improve("--activate", "if-certified")
        assert refused.status == 2
        assert "needs supported tasks" in refused.err
        limits = ("--set", "alpha.max_mean_drop=20", "--set", "alpha.max_supported_drop=25")
        done = improve("--name", "mistakes", "--supported", "food", "--activate", "if-certified", *limits, "--json")
        assert done.status == 0, done.err
        report = done.json["report"]
        assert report["activation"]["asked"] == "if_certified"
        (corrected,) = [task for task in report["tasks"] if task["role"] == "patching"]
        assert corrected["test"]["patched"]["correct"] > corrected["test"]["zero_shot"]["correct"]
        assert report["certificate"]["stance"] == "certified"
        assert report["activation"]["accepted"], report["activation"]["reason"]
        assert client.active().version == report["version_id"] > 1
        used = client.feedback(1000, state="used")
        assert {each.dataset_id for each in used} == {client.find("dataset", "mistakes")}
        assert len(used) == num_wrong - client.dataset(used[0].dataset_id).num_rejected
