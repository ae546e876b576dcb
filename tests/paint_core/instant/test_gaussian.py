"""Class statistics: they add up, and leave-one-out needs no refitting."""

import pytest
import torch
from torch import Tensor

from paint_core.errors import DatasetError
from paint_core.instant.gaussian import ClassStatistics
from tests.paint_core.instant.test_kernel import draw


def distances(statistics: ClassStatistics, features: Tensor) -> Tensor:
    """(z - mu)^T Sigma^-1 (z - mu) by its definition, float64 [n, C]."""
    apart = features.double()[:, None] - statistics.means.double()
    return torch.einsum("ncd,de,nce->nc", apart, statistics.precision(), apart)


def test_statistics_of_two_uploads_add_up_to_those_of_both() -> None:
    features, labels, _ = draw(30, 3, 1)
    first, second = (ClassStatistics.of(features[part], labels[part], 3) for part in (slice(17), slice(17, None)))
    both = ClassStatistics.of(features, labels, 3)
    for name in ("counts", "means", "scatters"):
        torch.testing.assert_close(getattr(first + second, name), getattr(both, name), rtol=1e-5, atol=1e-6)
    moved = both.at(torch.tensor([2, 0, 3]), 5)
    assert moved.counts.tolist() == [int(both.counts[1]), 0, int(both.counts[0]), int(both.counts[2]), 0]
    assert moved.of_classes(moved.counts > 0).precision().allclose(both.precision(), rtol=1e-6)


def test_a_scatter_is_that_of_the_features_around_their_mean() -> None:
    features, labels, _ = draw(30, 3, 2)
    statistics = ClassStatistics.of(features, labels, 3)
    own = features[labels == 1]
    scatter = (own - own.mean(dim=0)).T @ (own - own.mean(dim=0))
    rows, columns = torch.triu_indices(features.shape[1], features.shape[1])
    torch.testing.assert_close(statistics.scatters[1], scatter[rows, columns].float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_leave_one_out_equals_statistics_without_each_image(seed: int) -> None:
    features, labels, _ = draw(15, 3, seed)
    statistics = ClassStatistics.of(features, labels, 3)
    judged = statistics.counts[labels] > 1
    logits, found = statistics.left_out(features[judged], labels[judged])
    for place, row in zip(judged.nonzero()[:, 0].tolist(), range(int(judged.sum())), strict=True):
        kept = torch.arange(len(labels)) != place
        others = ClassStatistics.of(features[kept], labels[kept], 3)
        expected = distances(others, features[place : place + 1])[0]
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)
        shares = (others.counts / others.counts.sum()).log()
        torch.testing.assert_close(logits[row], shares - expected / 2, rtol=1e-4, atol=1e-5)


def test_a_class_without_images_and_images_that_are_all_equal_have_no_precision() -> None:
    features, labels, _ = draw(12, 3, 0)
    with pytest.raises(DatasetError, match="no image"):
        ClassStatistics.of(features, labels, 4).precision()
    same = features[:1].repeat(6, 1)
    with pytest.raises(DatasetError, match="equal, or one"):
        ClassStatistics.of(same, torch.zeros(6, dtype=torch.int64), 1).precision()
    one_each = torch.arange(3)
    with pytest.raises(DatasetError, match="equal, or one"):
        ClassStatistics.of(features[:3], one_each, 3).precision()
