"""From scores to the predictions that are answered, and no more than those: a request may have thousands of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

JsonObject = dict[str, Any]

_FEW_LABELS = 100
"""Labels that Python sorts as quickly as numpy."""


def rank(
    classnames: tuple[str, ...],
    scores: NDArray[np.float32],
    cosines: NDArray[np.float32],
    *,
    top_k: int | None = None,
    threshold: float | None = None,
) -> list[JsonObject]:
    """Return the predictions of each image, best first; labels of equal cosine are in the order of `classnames`.

    Args:
        classnames: C labels.
        scores: [B, C].
        cosines: [B, C], in the same order as the scores of each image.
        top_k: Most predictions of an image; None: all.
        threshold: Least score; None: any.

    Returns:
        B objects like `app.inference.classify.schemas.ImageResult`.
    """
    num_wanted = min(top_k or len(classnames), len(classnames))
    rows = zip(scores, cosines, strict=True)
    return [
        {"index": index, "predictions": _predictions(classnames, *row, num_wanted, threshold)}
        for index, row in enumerate(rows)
    ]


def _predictions(
    classnames: tuple[str, ...],
    scores: NDArray[np.float32],
    cosines: NDArray[np.float32],
    num_wanted: int,
    threshold: float | None,
) -> list[JsonObject]:
    if len(cosines) <= _FEW_LABELS:
        return _few_predictions(classnames, scores.tolist(), cosines.tolist(), num_wanted, threshold)
    order = _largest(cosines, num_wanted)
    if threshold is not None:
        order = order[scores[order].astype(np.float64) >= threshold]  # as the client compares what it gets
    rows = zip(order.tolist(), scores[order].tolist(), cosines[order].tolist(), strict=True)
    return [{"label": classnames[label], "score": score, "cosine": cosine} for label, score, cosine in rows]


def _few_predictions(
    classnames: tuple[str, ...], scores: list[float], cosines: list[float], num_wanted: int, threshold: float | None
) -> list[JsonObject]:
    """Return the same without numpy, whose sorting releases Python's lock: the event loop would wait for it again."""
    order = sorted(range(len(cosines)), key=cosines.__getitem__, reverse=True)[:num_wanted]  # ties as they stand
    return [
        {"label": classnames[label], "score": scores[label], "cosine": cosines[label]}
        for label in order
        if threshold is None or scores[label] >= threshold
    ]


def _largest(values: NDArray[np.float32], num_wanted: int) -> NDArray[np.intp]:
    """Return where the largest values are, largest first and ties as they stand, so that fewer are a prefix of more."""
    if num_wanted == len(values):
        return np.argsort(-values, kind="stable")
    least = np.partition(values, -num_wanted)[-num_wanted]
    places = np.flatnonzero(values >= least)
    return places[np.argsort(-values[places], kind="stable")][:num_wanted]
