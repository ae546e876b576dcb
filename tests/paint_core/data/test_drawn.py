"""Drawn images, for anchors without a pool."""

import pytest
import torch

from paint_core.data.drawn import draw_images
from paint_core.errors import DatasetError
from paint_core.evaluation import encode
from paint_core.models import BaseModel
from paint_core.training.anchoring import require_anchors


def test_they_are_a_function_of_size_and_seed() -> None:
    assert torch.equal(draw_images(6, 32), draw_images(6, 32))
    assert torch.equal(draw_images(3, 32), draw_images(6, 32)[:3])
    assert not torch.equal(draw_images(6, 32), draw_images(6, 32, seed=1))


@pytest.mark.parametrize("size", [1, 2, 7, 64, 224])
def test_every_size_can_be_drawn(size: int) -> None:
    images = draw_images(3, size)
    require_anchors(images, size)
    with pytest.raises(DatasetError):
        require_anchors(images, size + 1)


def test_no_two_are_alike_and_the_tower_tells_them_apart(starter_base: BaseModel) -> None:
    images = draw_images(60, starter_base.image_size)
    assert len({image.numpy().tobytes() for image in images}) == 60
    assert int(images.reshape(60, -1).float().std(dim=1).gt(1).sum()) > 50
    features = torch.nn.functional.normalize(encode(starter_base.visual, images, starter_base.preprocess), dim=-1)
    cosines = features @ features.T
    assert float(cosines.triu(1).sum() / (60 * 59 / 2)) < 0.6
