"""What a patch reported while it ran, as series of numbers: losses and rates by step, accuracies by alpha."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paintbox_client.errors import InputError
from paintbox_client.resources.jobs import JobEvent

if TYPE_CHECKING:
    from paintbox_client.client import Client

TRAINING = ("loss", "anchor_loss", "validation_accuracy", "learning_rate", "images_per_second")
SEARCH = "alpha"
_STEPS_PER_ALPHA = 1000
"""TensorBoard and MLflow have whole steps only: alpha 0.25 is step 250."""


class Sample(NamedTuple):
    """A number that was reported.

    Attributes:
        run: `1`, `2`, … for each fine-tuning in its order, with the data set's id for parts of a parallel patch;
            `alpha` for the search of alpha, `alpha 1`, `alpha 2`, … for those of trials.
        series: One of `TRAINING`, or `accuracy/` and a data set's name.
        x: Optimizer step, from 1, or alpha.
        value: The number.
        at: When it was reported, RFC 3339.
    """

    run: str
    series: str
    x: float
    value: float
    at: str


def read_log(client: Client, patch_id: str) -> list[Sample]:
    """Return what a patch and its parts reported so far, in the order of runs, series and `x`.

    Steps that were done again after an interruption count once, as the last attempt did them.
    """
    patch = client.patch(patch_id)
    report = patch.report
    names = {} if report is None else {task.dataset_id: task.name for task in report.tasks}
    events = list(_all_events(client, patch.job_id))
    samples = [*_training(events, "")]
    for event in events:
        if event.message == "part ended" and event.data is not None:
            part = str(event.data["part"])
            samples += _training(_all_events(client, str(event.data["job_id"])), f"{names.get(part, part)} ")
    samples += _search(events, names)
    last = {sample[:3]: sample for sample in samples}
    order = {run: place for place, run in enumerate(dict.fromkeys(sample.run for sample in last.values()))}
    return sorted(last.values(), key=lambda sample: (order[sample.run], sample.series, sample.x))


def format_csv(samples: Iterable[Sample]) -> str:
    """Return a line for each sample, under the names of the fields of `Sample`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Sample._fields)
    writer.writerows(samples)
    return file.getvalue()


def step_of(sample: Sample) -> int:
    """Return the whole step at which a sample is shown: 250 for alpha 0.25."""
    is_search = sample.run == SEARCH or sample.run.startswith(f"{SEARCH} ")
    return round(sample.x * (_STEPS_PER_ALPHA if is_search else 1))


def write_tensorboard(samples: Sequence[Sample], folder: Path) -> None:
    """Write samples for TensorBoard, a subfolder for each run; step 250 of a search is alpha 0.25.

    Raises:
        InputError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboardX is not installed.", "Install it: pip install 'paintbox[tensorboard]'; or use --csv."
        ) from None
    for run in dict.fromkeys(sample.run for sample in samples):
        with SummaryWriter(str(folder / _folder_name(run))) as writer:
            for sample in samples:
                if sample.run == run:
                    writer.add_scalar(sample.series, sample.value, step_of(sample))


def _all_events(client: Client, job_id: str) -> Iterator[JobEvent]:
    after = 0
    while page := client.job_events(job_id, after):
        yield from page
        after = page[-1].id


def _training(events: Iterable[JobEvent], prefix: str) -> Iterator[Sample]:
    """Yield the samples of fine-tuning; a new one begins where steps start over in the same attempt."""
    run, step, is_new_attempt = 1, 0, False
    for event in events:
        if event.message == "started":
            is_new_attempt = True
        if event.message != "fine-tuning" or event.data is None:
            continue
        now = int(event.data["step"])
        if now <= step and not is_new_attempt:
            run += 1
        step, is_new_attempt = now, False
        for series in TRAINING:
            value = event.data.get(series)
            if value is not None:
                yield Sample(f"{prefix}{run}", series, now, value, event.at)


def _search(events: Iterable[JobEvent], names: dict[str, str]) -> Iterator[Sample]:
    """Yield the samples of searches; where there are trials, what was evaluated before each is its own search."""
    waiting: list[Sample] = []
    for event in events:
        if event.data is None:
            continue
        if event.message == "trial judged":
            yield from (sample._replace(run=f"{SEARCH} {event.data['number']}") for sample in waiting)
            waiting = []
        if event.message == "alpha evaluated":
            for task, accuracy in event.data["accuracies"].items():
                series = f"accuracy/{names.get(task, task)}"
                waiting.append(Sample(SEARCH, series, event.data["alpha"], accuracy, event.at))
    yield from waiting


def _folder_name(run: str) -> str:
    """Return a plain name: a run is named after a data set, which may be called anything."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in run)
