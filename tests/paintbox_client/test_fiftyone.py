"""FiftyOne, both ways, with the real package where it is installed (see `tests.support.neighbours`)."""

from pathlib import Path

import pytest

from paintbox_client import InputError
from paintbox_client.fiftyone_samples import from_fiftyone
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.support.neighbours import run_script

PNGS = [*digit_pngs(0)[:4], *digit_pngs(1)[:4]]
LABELS = ["digit zero", "digit one"]
BOTH_WAYS = """
import json
import fiftyone as fo
from paintbox_client import Client, InputError
from paintbox_client.fiftyone_samples import from_fiftyone, to_fiftyone

samples = fo.Dataset("digits")
for number in range(8):
    sample = fo.Sample(filepath=f"{number}.png", tags=["train" if number % 4 else "test"])
    sample["truth"] = None if number == 7 else fo.Classification(label="zero" if number < 4 else "one")
    samples.add_sample(sample)
refused = []
with Client() as client:
    dataset = from_fiftyone(client, samples, "truth", templates=["the digit {}"])
    version = to_fiftyone(client, samples, "answer", labels=["digit zero", "digit one"])
    for action in (lambda: from_fiftyone(client, samples, "filepath"),
                   lambda: to_fiftyone(client, samples.match_tags("none"), labels=["a", "b"])):
        try:
            action()
        except InputError as error:
            refused.append(str(error))
answers = [[each.label, each.confidence] for each in samples.values("answer")]
samples.delete()
print(json.dumps({"dataset": dataset.id, "version": version, "answers": answers, "refused": refused}))
"""


def test_samples_become_a_data_set_and_get_answers(served: Served, tmp_path: Path) -> None:
    for number, png in enumerate(PNGS):
        (tmp_path / f"{number}.png").write_bytes(png)
    variables = {"FIFTYONE_DATABASE_DIR": str(tmp_path / "db"), "FIFTYONE_DO_NOT_TRACK": "true"}
    found = run_script("fiftyone", BOTH_WAYS, folder=tmp_path, PAINTBOX_URL=served.url, **variables)
    dataset = served.client.dataset(found["dataset"])
    assert (dataset.name, dataset.state) == ("digits", "ingesting")
    assert found["version"] == served.client.active().version
    expected = served.client.classify(PNGS, labels=LABELS, top_k=1)
    assert [label for label, _ in found["answers"]] == [each.predictions[0].label for each in expected.results]
    scores = [each.predictions[0].score for each in expected.results]
    assert [score for _, score in found["answers"]] == pytest.approx(scores, abs=1e-4)
    assert len(found["refused"]) == 2


class Sample(dict[str, object]):
    """What the client uses of a sample, for what needs no database."""

    def __init__(self, identifier: str, path: Path, label: str | None, tags: tuple[str, ...] = ()) -> None:
        super().__init__(truth=None if label is None else type("Classification", (), {"label": label})())
        self.id, self.filepath, self.tags = identifier, str(path), tags


class Samples(list[Sample]):
    name = "digits"

    def iter_samples(self) -> "Samples":
        return self


def test_a_sample_in_two_splits_and_samples_without_labels_are_refused(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNGS[0])
    with pytest.raises(InputError, match="several splits"):
        from_fiftyone(served.client, Samples([Sample("1", path, "zero", ("train", "test"))]), "truth")
    with pytest.raises(InputError, match="No sample has a label"):
        from_fiftyone(served.client, Samples([Sample("1", path, None)]), "truth")
