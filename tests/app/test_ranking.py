"""Ranking against an oracle that sorts everything."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.inference.classify.ranking import rank

LEVELS = [-0.5, 0.0, 0.125, 0.25, 0.7]  # few, so that there are ties


@given(
    rows=st.integers(1, 7).flatmap(
        lambda size: st.lists(st.lists(st.sampled_from(LEVELS), min_size=size, max_size=size), min_size=1, max_size=3)
    ),
    top_k=st.none() | st.integers(1, 9),
    threshold=st.none() | st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0]),
)
def test_the_wanted_predictions_are_a_prefix_of_a_stable_sort(
    rows: list[list[float]], top_k: int | None, threshold: float | None
) -> None:
    cosines = torch.tensor(rows)
    scores = cosines.softmax(dim=1).numpy()
    classnames = tuple(f"label {index}" for index in range(cosines.shape[1]))
    ranked = rank(classnames, scores, cosines.numpy(), top_k=top_k, threshold=threshold)
    assert [each["index"] for each in ranked] == list(range(len(rows)))
    for row, score, result in zip(cosines.tolist(), scores.tolist(), ranked, strict=True):
        order = sorted(range(len(row)), key=lambda label: -row[label])[:top_k]
        assert result["predictions"] == [
            {"label": classnames[label], "score": score[label], "cosine": row[label]}
            for label in order
            if threshold is None or score[label] >= threshold
        ]


def test_what_is_left_out_costs_nothing() -> None:
    (result,) = rank(("a", "b"), np.array([[0.6, 0.4]], np.float32), np.array([[0.2, 0.1]], np.float32), threshold=0.7)
    assert result == {"index": 0, "predictions": []}
