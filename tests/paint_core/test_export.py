"""An exported model is the model: for open_clip, and for us as a new base."""

import copy
from pathlib import Path

import open_clip
import torch

from paint_core.evaluation import encode
from paint_core.export import write_model
from paint_core.models import BaseModel, load_base
from paint_core.probe import probe_images
from paint_core.weights import fingerprint


def _moved(base: BaseModel) -> torch.nn.Module:
    visual = copy.deepcopy(base.visual)
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return visual


def test_unmodified_open_clip_loads_it_and_gives_the_same_features(starter_base: BaseModel, tmp_path: Path) -> None:
    visual = _moved(starter_base)
    write_model(tmp_path, starter_base, visual)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    images = probe_images(starter_base.image_size)
    expected = encode(visual, images, starter_base.preprocess)
    with torch.no_grad():
        got = model.eval().encode_image(starter_base.preprocess.normalise(images))
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(expected, encode(starter_base.visual, images, starter_base.preprocess), atol=1e-3)
    assert transform.transforms[0].size == starter_base.image_size


def test_it_loads_as_a_new_base_with_the_same_weights(tiny_base: BaseModel, tmp_path: Path) -> None:
    visual = _moved(tiny_base)
    write_model(tmp_path, tiny_base, visual)
    again = load_base(f"local-dir:{tmp_path}")
    assert fingerprint(again.visual.state_dict()) == fingerprint(visual.state_dict())
    assert again.preprocess == tiny_base.preprocess
    assert again.fingerprint != tiny_base.fingerprint
    assert again.logit_scale == tiny_base.logit_scale


def test_the_unpatched_base_comes_back_with_its_fingerprint(tiny_base: BaseModel, tmp_path: Path) -> None:
    write_model(tmp_path, tiny_base, tiny_base.visual)
    assert load_base(f"local-dir:{tmp_path}").fingerprint == tiny_base.fingerprint


def test_weights_that_share_memory_are_written_each(tiny_base: BaseModel, tmp_path: Path) -> None:
    visual = copy.deepcopy(tiny_base.visual)
    norms = [each for each in visual.modules() if isinstance(each, torch.nn.LayerNorm)]
    norms[1].weight = norms[0].weight
    write_model(tmp_path, tiny_base, visual)
    again = load_base(f"local-dir:{tmp_path}")
    assert fingerprint(again.visual.state_dict()) == fingerprint(visual.state_dict())
