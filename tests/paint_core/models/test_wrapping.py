"""Bases from models in memory, and the two towers of a CoCa."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import torch

from paint_core.errors import ArgumentError, ModelRefError
from paint_core.evaluation import probe_images
from paint_core.models import BaseModel, load_base, write_model
from tests.paint_core import tiny


def coca(folder: Path) -> Path:
    """A CoCa of a few thousand weights, as open_clip builds it."""
    config: dict[str, Any] = {
        **tiny.MODEL_CFG,
        "vision_cfg": {
            **tiny.MODEL_CFG["vision_cfg"],
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": {**tiny.MODEL_CFG["text_cfg"], "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        "custom_text": True,
    }
    known = {name: value for name, value in config.items() if name != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = open_clip.CoCa(**known).state_dict()
    return tiny.write_model(
        folder, {name: each.contiguous().clone() for name, each in weights.items()}, model_cfg=config
    )


def test_the_towers_of_a_coca_are_a_base_and_export_without_its_decoder(tmp_path: Path) -> None:
    folder = coca(tmp_path / "coca")
    base = load_base(folder)
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    pixels = base.preprocess.normalise(probe_images(base.image_size))
    with torch.inference_mode():
        torch.testing.assert_close(base.visual(pixels), theirs.encode_image(pixels, normalize=False))
        tokens = base.tokenizer(["a red one", "two"])
        expected = theirs.encode_text(tokens, normalize=False)
        torch.testing.assert_close(base.model.encode_text(tokens), expected)  # type: ignore[operator]
    write_model(tmp_path / "exported", base, base.visual)
    assert load_base(tmp_path / "exported").fingerprint == base.fingerprint
    names = safetensors.torch.load_file(tmp_path / "exported" / "open_clip_model.safetensors")
    assert not any(name.startswith("text_decoder") for name in names)


def test_a_model_in_memory_becomes_a_base_of_its_own(tiny_dir: Path, tiny_base: BaseModel) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_dir}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_dir}")
    base = BaseModel.from_open_clip(model, tokenizer, transform, model_cfg=tiny.MODEL_CFG)
    assert base.fingerprint == tiny_base.fingerprint
    with torch.no_grad():
        model.visual.proj.zero_()
    assert not torch.equal(base.visual.proj, model.visual.proj)  # type: ignore[arg-type]
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert "BaseModel('in memory'" in repr(base)
    assert len(repr(base)) < 200


def test_a_model_in_memory_without_a_configuration_is_a_base_that_is_not_exported(
    tiny_dir: Path, tmp_path: Path
) -> None:
    model = open_clip.create_model(f"local-dir:{tiny_dir}")
    base = BaseModel.from_open_clip(model, open_clip.get_tokenizer(f"local-dir:{tiny_dir}"))
    assert (base.embed_dim, base.image_size) == (16, 32)
    with pytest.raises(ModelRefError, match="model_cfg"):
        write_model(tmp_path, base, base.visual)


def test_what_is_no_model_of_open_clip_or_is_prepared_otherwise_is_refused(tiny_dir: Path) -> None:
    model, training, _ = open_clip.create_model_and_transforms(f"local-dir:{tiny_dir}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_dir}")
    with pytest.raises(ModelRefError, match="CustomTextCLIP"):
        BaseModel.from_open_clip(model.visual, tokenizer)
    with pytest.raises(ModelRefError, match="third result"):
        BaseModel.from_open_clip(model, tokenizer, training)
    with pytest.raises(ArgumentError, match="model is a str"):
        BaseModel.from_open_clip("ViT-B-32", tokenizer)  # type: ignore[arg-type]
