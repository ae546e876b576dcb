"""One zero-shot score, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.evaluation import Score, encode, score_features
from paint_core.evaluation.statistics import wilson_interval
from paint_core.models import BaseModel, build_head, prompts


@dataclass(frozen=True)
class Judgement:
    """A zero-shot score.

    Attributes:
        what: Pictures, and choice of names.
        score: Over pictures, one class for each name.
    """

    what: str
    score: Score

    def __str__(self) -> str:
        """Return one line with 95 % intervals."""
        score = self.score
        shares = ", ".join(
            f"top-{k} {100 * count / score.total:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            for k, count in ((1, score.correct), (5, score.correct_top5))
            for low, high in [wilson_interval(count, score.total)]
        )
        return f"{self.what}: {shares} of {score.total} pictures"


def score_names(
    base: BaseModel, names: Sequence[str], shown: Tensor, templates: Sequence[str] = prompts.STARTER
) -> Score:
    """Return the score with one class for each name that comes.

    Args:
        base: Of the features and the prompts.
        names: Of each picture.
        shown: uint8 [N, S, S, 3].
        templates: Of the prompts.
    """
    classes = sorted(set(names))
    head = build_head(base, classes, templates)
    labels = torch.tensor([classes.index(name) for name in names])
    features = encode(base.visual, shown, base.preprocess)
    return score_features(features, head, labels, scale=base.logit_scale, bias=base.logit_bias)
