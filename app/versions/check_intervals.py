"""How sure the change of a measured task is."""

from __future__ import annotations

import pyarrow.compute as pc

from app.versions.check_schemas import Interval
from paint_core.evaluation.statistics import paired_difference
from registry.blobs import BlobStore
from registry.errors import RegistryError
from registry.evidence import MeasuredTask
from registry.predictions import read_predictions


def find_interval(task: MeasuredTask, blobs: BlobStore) -> Interval:
    """Return the 95 % interval of a task's change in points; None: only accuracies are known.

    It is the recorded one, or else computed from the images that were lost and gained.
    """
    if task.change is not None:
        return task.change.low_points, task.change.high_points
    counts = _recorded_counts(task) or _counted(task, blobs)
    if counts is None:
        return None
    difference = paired_difference(*counts, task.patched.total)
    return difference.low, difference.high


def _recorded_counts(task: MeasuredTask) -> tuple[int, int] | None:
    """Return the numbers of images gained and lost, if they were recorded."""
    gained, lost = task.patched.gained, task.patched.lost
    return None if gained is None or lost is None else (gained, lost)


def _counted(task: MeasuredTask, blobs: BlobStore) -> tuple[int, int] | None:
    """Count the images gained and lost in the stored answers, if there are any."""
    if task.predictions is None:
        return None
    try:
        tables = [read_predictions(blobs.fetch(sha256)).table for sha256 in task.predictions]
    except RegistryError:  # the accuracies are in the database
        return None
    was_right, is_right = (pc.equal(table["predicted"], table["label"]) for table in tables)
    gained, lost = pc.and_not(is_right, was_right), pc.and_not(was_right, is_right)
    return pc.sum(gained).as_py() or 0, pc.sum(lost).as_py() or 0
