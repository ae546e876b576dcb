import copy
import hashlib

import pytest
import torch

from paint_core.errors import ProbeError
from paint_core.evaluation import check_probe, probe_features, probe_images
from paint_core.models import BaseModel


def test_the_pictures_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(probe_images(64).numpy().tobytes()).hexdigest()
    assert digest == "c9e1859bb169f6df75b94c6a56b95b047a6f373a49d885fbcfecbc369e455ca5"


@pytest.mark.parametrize("size", [1, 7, 32, 224])
def test_the_pictures_fit_any_size_and_differ(size: int) -> None:
    images = probe_images(size)
    assert images.shape == (4, size, size, 3)
    assert images.dtype == torch.uint8
    if size >= 7:
        assert len({image.numpy().tobytes() for image in images}) == 4


def test_the_same_model_passes_and_a_damaged_one_does_not(starter_base: BaseModel) -> None:
    expected = probe_features(starter_base.visual, starter_base)
    assert expected.shape == (4, starter_base.embed_dim)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(4))
    check_probe(probe_features(copy.deepcopy(starter_base.visual), starter_base), expected)
    damaged = copy.deepcopy(starter_base.visual)
    with torch.no_grad():
        for parameter in damaged.parameters():
            parameter.mul_(1.2)
    with pytest.raises(ProbeError, match="cosine"):
        check_probe(probe_features(damaged, starter_base), expected)


def test_features_of_another_shape_or_not_finite_are_refused() -> None:
    good = torch.nn.functional.normalize(torch.ones(4, 8), dim=-1)
    with pytest.raises(ProbeError, match="right base"):
        check_probe(good[:, :4], good)
    with pytest.raises(ProbeError):
        check_probe(good * torch.nan, good)
