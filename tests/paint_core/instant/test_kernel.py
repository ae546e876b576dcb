"""Kernel ridge regression: leave-one-out in closed form, and what it says far from its images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.errors import ConfigError, DatasetError
from paint_core.instant.kernel import fit_kernel, squared_distances


def draw(num_images: int, num_classes: int, seed: int, width: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Unit features, labels of which every class has some, and zero-shot probabilities."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % num_classes
    centres = torch.randn(num_classes, width, generator=source, dtype=torch.float64)
    features = F.normalize(centres[labels] + 0.7 * torch.randn(num_images, width, generator=source), dim=1)
    return features, labels, torch.randn(num_images, num_classes, generator=source).double().softmax(dim=1)


@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_equals_a_fit_without_each_image(seed: int) -> None:
    features, labels, prior = draw(13, 3, seed)
    fit = fit_kernel(features, labels, prior, gamma=2.0, ridge=0.1)
    right = 0
    for place in range(len(labels)):
        kept = torch.arange(len(labels)) != place
        rest = fit_kernel(features[kept], labels[kept], prior[kept], gamma=2.0, ridge=0.1)
        kernel = torch.exp(-2.0 * squared_distances(features[place : place + 1], features[kept]))
        answer = prior[place] + (kernel @ rest.weights[:, :-1])[0]
        right += int(answer.argmax() == labels[place])
        # The closed form, from the fit to all images.
        inverse = torch.linalg.inv(
            torch.exp(-2.0 * squared_distances(features, features)) + 0.1 * torch.eye(13).double()
        )
        residual = fit.weights[place, :-1] / inverse[place, place]
        torch.testing.assert_close(F.one_hot(labels[place], 3) - residual, answer, rtol=1e-9, atol=1e-9)
    assert (fit.num_right, fit.num_left_out) == (right, 13)


def test_the_best_of_several_widths_and_ridges_is_taken() -> None:
    features, labels, prior = draw(40, 4, 5)
    chosen = fit_kernel(features, labels, prior)
    fixed = fit_kernel(features, labels, prior, gamma=chosen.gamma, ridge=chosen.ridge)
    assert chosen.num_right == fixed.num_right
    assert chosen.num_right >= fit_kernel(features, labels, prior, gamma=1e3, ridge=10.0).num_right


def test_one_image_a_class_is_fitted_and_nothing_is_said_of_its_accuracy() -> None:
    features, labels, prior = draw(3, 3, 0)
    fit = fit_kernel(features, labels, prior)
    assert fit.accuracy is None
    assert (
        (prior + torch.exp(-fit.gamma * squared_distances(features, features)) @ fit.weights[:, :-1])
        .argmax(dim=1)
        .equal(labels)
    )


def test_equal_images_have_a_solution() -> None:
    features = F.normalize(torch.ones(4, 5).double(), dim=1)
    fit = fit_kernel(features, torch.tensor([0, 0, 1, 1]), torch.full((4, 2), 0.5).double())
    assert bool(torch.isfinite(fit.weights).all())


def test_what_cannot_be_fitted_is_refused() -> None:
    features, labels, prior = draw(6, 2, 0)
    with pytest.raises(DatasetError, match="do not fit"):
        fit_kernel(features, labels[:-1], prior)
    with pytest.raises(DatasetError, match=r"outside 0\.\.1"):
        fit_kernel(features, labels + 1, prior)
    with pytest.raises(ConfigError, match="gamma is 0"):
        fit_kernel(features, labels, prior, gamma=0.0)
