"""FiftyOne, both ways: a field of its samples as a data set, and answers as a field of its samples.

Example:
    import fiftyone as fo
    dataset = from_fiftyone(client, fo.load_dataset("pets"), "ground_truth")
    to_fiftyone(client, fo.load_dataset("pets"), "paintbox", labels=["cat", "dog"])
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from paintbox_client.errors import InputError
from paintbox_client.resources.datasets import Dataset

if TYPE_CHECKING:
    from paintbox_client.client import Client

_BATCH = 64
_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}


def from_fiftyone(client: Client, samples: Any, field: str, name: str | None = None, **options: Any) -> Dataset:
    """Return the data set of a classification field, with the job that ingests it.

    Samples without a label are left out. The tags `train`, `val`, `validation` and `test` of samples are the splits,
    if all of them have one. Images are named after their samples' ids.

    Args:
        client: Of the service.
        samples: A data set or view of FiftyOne, of images.
        field: Its field of `Classification`.
        name: Display name; default: the FiftyOne data set's.
        **options: Of `Client.upload_dataset`, such as `templates`.

    Raises:
        InputError: No sample has such a label, or a sample is in several splits.
    """
    with TemporaryDirectory(prefix="paintbox-") as scratch:
        folder = Path(scratch)
        rows = [_link(folder, sample, label) for sample, label in _labelled(samples, field)]
        if not rows:
            raise InputError(f"No sample has a label in the field {field!r}.", "Name a field of Classification labels.")
        if not all(row["split"] for row in rows):
            rows = [{key: value for key, value in row.items() if key != "split"} for row in rows]
        with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return client.upload_dataset(folder, name or str(samples.name), layout="imagefolder-metadata", **options)


def _labelled(samples: Any, field: str) -> Iterator[tuple[Any, str]]:
    for sample in samples.iter_samples():
        label = getattr(sample[field], "label", None)
        if isinstance(label, str) and label:
            yield sample, label


def _link(folder: Path, sample: Any, label: str) -> dict[str, str]:
    """Put a link to a sample's image into a folder, and return its row of the table."""
    path = Path(sample.filepath)
    name = f"{sample.id}{path.suffix.lower()}"
    (folder / name).symlink_to(path.resolve())
    splits = {_SPLITS[tag] for tag in sample.tags if tag in _SPLITS}
    if len(splits) > 1:
        raise InputError(f"The sample {sample.id} has the tags of several splits.", "Keep one of them.")
    return {"file_name": name, "label": label, "split": next(iter(splits), "")}


def to_fiftyone(client: Client, samples: Any, field: str = "paintbox", **options: Any) -> int:
    """Store the best label of each image as a `Classification` in a field, and return the version that answered.

    Args:
        client: Of the service.
        samples: A data set or view of FiftyOne, of images.
        field: Created if needed; its labels have the score as `confidence`.
        **options: Of `Client.classify`: `labels`, `label_set` or `dataset`, and `templates`, `version`, …

    Raises:
        InputError: There is no sample.
    """
    import fiftyone

    version: int | None = None
    for batch in _batches(samples.iter_samples()):
        given = options if version is None else {**options, "version": version}  # one version for all
        found = client.classify([sample.filepath for sample in batch], top_k=1, **given)
        version = found.version
        for sample, result in zip(batch, found.results, strict=True):
            best = result.predictions[0]
            sample[field] = fiftyone.Classification(label=best.label, confidence=best.score)
            sample.save()
    if version is None:
        raise InputError("There is no sample.", "Give a data set or view with images.")
    return version


def _batches(samples: Iterable[Any]) -> Iterator[list[Any]]:
    waiting = iter(samples)
    while batch := list(islice(waiting, _BATCH)):
        yield batch
