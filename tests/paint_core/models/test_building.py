"""A base holds what open_clip would have loaded, and its float32 weights stay in their file."""

import logging
import os
import re
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn

from paint_core import starter
from paint_core.evaluation import encode, probe_images
from paint_core.models import BaseModel, load_base
from tests.paint_core import tiny, towers


def everything(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers, also those that no state dict names."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def mappings(path: Path) -> list[dict[str, int]]:
    """The fields, in kB, of each stretch of memory of this process that is this file."""
    stretches = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    return [
        {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", stretch, flags=re.MULTILINE)}
        for stretch in stretches
        if str(path) in stretch
    ]


@pytest.mark.parametrize("family", ["vit", "resnet", "starter"])
def test_a_base_holds_what_open_clip_would_have_loaded(family: str, tmp_path: Path) -> None:
    if family == "starter":
        folder, base = starter.model_dir(), load_base("starter")
    else:
        folder, base = tmp_path, towers.random_base(tmp_path, towers.VIT if family == "vit" else towers.RESNET)
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    expected, actual = everything(theirs), everything(base.model)
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor.to(actual[name].dtype), rtol=0, atol=0, msg=name)
        assert actual[name].dtype == (torch.float32 if tensor.is_floating_point() else tensor.dtype)
    images = probe_images(base.image_size)
    torch.testing.assert_close(
        encode(base.visual, images, base.preprocess), encode(theirs.visual, images, base.preprocess)
    )


def test_open_clip_is_kept_from_warning_of_weights_that_come_next(
    tiny_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_base(f"local-dir:{tiny_dir}")
    assert caplog.records == []


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_float32_weights_are_the_file_itself_however_often_they_are_loaded(tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path, tiny.state_dict())
    bases = [load_base(f"local-dir:{folder}") for _ in range(2)]
    assert all(base.is_mapped for base in bases)
    found = mappings(folder / "open_clip_model.safetensors")
    assert len(found) >= 2
    embedding_kilobytes = 49408 * 16 * 4 // 1024
    assert sum(each["Rss"] for each in found) >= 2 * embedding_kilobytes
    assert sum(each["Anonymous"] for each in found) == 0  # no page is this process's own
    pages = [base.model.get_parameter("token_embedding.weight") for base in bases]
    assert pages[0].data_ptr() != pages[1].data_ptr()
    assert torch.equal(*pages)


def test_float16_weights_are_converted_and_said_to_be(starter_base: BaseModel) -> None:
    assert not starter_base.is_mapped
    assert mappings(starter.model_dir() / "open_clip_model.safetensors") == []


def test_a_file_renamed_over_a_loaded_one_changes_nothing_for_who_has_it(tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "model", tiny.state_dict())
    base = load_base(f"local-dir:{folder}")
    images = probe_images(base.image_size)
    before = encode(base.visual, images, base.preprocess).clone()
    other = tiny.write_model(tmp_path / "other", tiny.state_dict(seed=1))
    os.replace(other / "open_clip_model.safetensors", folder / "open_clip_model.safetensors")
    assert torch.equal(encode(base.visual, images, base.preprocess), before)
    assert load_base(f"local-dir:{folder}").fingerprint != base.fingerprint


def test_writing_into_mapped_weights_never_reaches_the_file(tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path, tiny.state_dict())
    stored = (folder / "open_clip_model.safetensors").read_bytes()
    base = load_base(f"local-dir:{folder}")
    with torch.no_grad():
        base.model.get_parameter("visual.proj").fill_(0.0)
    assert (folder / "open_clip_model.safetensors").read_bytes() == stored
