"""Drops are computed exactly: one that is just the limit is within it."""

from typing import Any

import pytest

from contract.evaluation import Evaluation
from registry.acceptance import supported_drops, too_much


def _evaluation(patched: float, limit: Any) -> Evaluation:
    task = {"dataset_id": "ds_1", "name": "food", "role": "supported", "zero_shot": {"correct": 80, "total": 100}}
    tasks = [task | {"patched": {"correct": patched, "total": 100}}]
    return Evaluation.of_stored({"split": "validation", "max_supported_drop": limit, "tasks": tasks})


@pytest.mark.parametrize(("patched", "is_refused"), [(78, False), (77, True), (77.9, False), (77.8, True)])
def test_counts_are_whole_or_over_folds_a_mean(patched: float, is_refused: bool) -> None:
    limit = 2.0 if isinstance(patched, int) else 2.1
    assert bool(too_much(supported_drops(_evaluation(patched, {"ds_1": limit})))) is is_refused
