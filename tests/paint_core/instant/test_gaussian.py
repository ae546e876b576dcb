"""Class statistics: they add up and come apart again, and leave-one-out needs no refitting."""

import pytest
import torch

from paint_core.errors import DatasetError
from paint_core.instant.gaussian import ClassStatistics, left_out_logits
from tests.paint_core.instant.test_kernel import draw


def test_statistics_of_two_uploads_add_up_to_those_of_both_and_come_apart_again() -> None:
    features, labels, _ = draw(30, 3, 1)
    first, second = (ClassStatistics.of(features[part], labels[part], 3) for part in (slice(17), slice(17, None)))
    both = ClassStatistics.of(features, labels, 3)
    for name in ("counts", "sums", "products"):
        torch.testing.assert_close(getattr(first + second, name), getattr(both, name), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(getattr(both - second, name), getattr(first, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_leave_one_out_equals_a_classifier_without_each_image(seed: int) -> None:
    features, labels, _ = draw(12, 3, seed)
    left_out = left_out_logits(features, labels, 3)
    for place in range(len(labels)):
        kept = torch.arange(len(labels)) != place
        weights, biases = ClassStatistics.of(features[kept], labels[kept], 3).classifier()
        torch.testing.assert_close(left_out[place], weights @ features[place] + biases, rtol=1e-8, atol=1e-8)


def test_a_class_without_images_has_no_classifier() -> None:
    features, labels, _ = draw(12, 3, 0)
    with pytest.raises(DatasetError, match="no image"):
        ClassStatistics.of(features, labels, 4).classifier()
    with pytest.raises(DatasetError, match="one image"):
        left_out_logits(features[:5], labels[:5], 3)
