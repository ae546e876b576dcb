"""How far an index of the base's embeddings stays usable with a new version."""

from __future__ import annotations

import torch
from torch import Tensor

from contract.report import EmbeddingCompatibility, TaskCompatibility
from paint_core.evaluation.compatibility import NEIGHBOURS, compare_embeddings
from worker.steps.prepare import PatchJob
from worker.steps.validation_features import ValidationFeatures

MOST_IMAGES = 2000
"""Of a task; of more, so many are taken at equal distances."""


def measure_compatibility(features: ValidationFeatures, job: PatchJob) -> EmbeddingCompatibility | None:
    """Return the comparison over the validation images of all tasks; None: there is only one image.

    Args:
        features: Of the tasks to improve and the supported ones.
        job: Names their data sets.
    """
    old = {name: _some(features.before(name)) for name in features.tasks}
    new = [_some(features.after(name)) for name in features.tasks]
    compared = compare_embeddings(torch.cat(list(old.values())), torch.cat(new))
    num_images = len(compared.cosine)
    if num_images < 2:
        return None
    counts = [len(each) for each in old.values()]
    cosines, recalls = (torch.split(each, counts) for each in (compared.cosine, compared.recall))
    parts = zip(old, cosines, recalls, strict=True)
    return EmbeddingCompatibility(
        neighbours=min(NEIGHBOURS, num_images - 1),
        num_images=num_images,
        mean_cosine=float(compared.cosine.mean()),
        recall=float(compared.recall.mean()),
        tasks=tuple(
            TaskCompatibility(
                dataset_id=name,
                name=job.datasets[name].name,
                num_images=len(cosine),
                mean_cosine=float(cosine.mean()),
                recall=float(recall.mean()),
            )
            for name, cosine, recall in parts
        ),
    )


def _some(features: Tensor) -> Tensor:
    if len(features) <= MOST_IMAGES:
        return features
    return features[torch.linspace(0, len(features) - 1, MOST_IMAGES).long()]
