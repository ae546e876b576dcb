"""A folder of transformers holds the model: its own classes compute the same features from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from paint_core.errors import ExportError, ProbeError
from paint_core.exporting import require_exportable, write_export
from paint_core.models import BaseModel
from paint_core.models.heads import encode_texts
from tests.paint_core import tiny
from tests.paint_core.exporting.models import clip, probe_of, siglip
from tests.paint_core.models.test_hostile_bases import WITH_TOKENIZER
from tests.paint_core.towers import FASTVIT, RESNET, random_base

transformers = pytest.importorskip("transformers")

CLIPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quick_gelu": {"quick_gelu": True},
    "text of its own": {"custom_text": True},
    "deeper and wider": {"vision": {"layers": 3, "mlp_ratio": 2.0}, "text": {"layers": 2, "context_length": 16}},
    "gelu by tanh": {"vision": {"act_kwargs": {"approximate": "tanh"}}},
    "squashed": {"preprocess": {"resize_mode": "squash", "interpolation": "bilinear"}},
}

ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu by tanh": "gelu_pytorch_tanh"}


@pytest.mark.parametrize("name", CLIPS)
def test_clip_model_computes_the_features_of_images_and_texts(name: str, tmp_path: Path) -> None:
    base = clip(tmp_path / "base", **CLIPS[name])
    _export(base, tmp_path / "out")
    model = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    assert model.config.vision_config.hidden_act == ACTIVATIONS.get(name, "gelu")
    _check_features(model, base, tmp_path / "out")
    assert model.logit_scale.exp().item() == pytest.approx(base.logit_scale)


def test_siglip_model_computes_the_features_of_images_and_texts(tmp_path: Path) -> None:
    base = siglip(tmp_path / "base")
    _export(base, tmp_path / "out")
    model = transformers.SiglipModel.from_pretrained(tmp_path / "out").eval()
    _check_features(model, base, tmp_path / "out")
    assert model.logit_bias.item() == base.logit_bias == -10
    assert model.config.text_config.hidden_act == "gelu_pytorch_tanh"


def test_every_weight_is_read_and_none_is_missing(tmp_path: Path) -> None:
    _export(clip(tmp_path / "base"), tmp_path / "out")
    _, told = transformers.CLIPModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert {name: set(found) for name, found in told.items() if "keys" in name} == {
        name: set() for name in told if "keys" in name
    }


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda path: clip(path, vision={"pool_type": "avg"}), "class token"),
        (lambda path: clip(path, vision={"no_ln_pre": True}), "first layer norm"),
        (lambda path: clip(path, vision={"ls_init_value": 0.1}), "no place for visual.transformer.resblocks.0.ls_1"),
        (lambda path: clip(path, text={"no_causal_mask": True}, custom_text=True), "both directions"),
        (lambda path: clip(path, custom_text=True, init_logit_bias=-2.0), "logit bias"),
        (lambda path: clip(path, preprocess={"resize_mode": "longest"}), "longest"),
        (lambda path: random_base(path, RESNET), "ModifiedResNet"),
        (lambda path: random_base(path, FASTVIT), "FastVit (timm)"),
    ],
)
def test_what_transformers_has_no_model_for_is_refused_with_formats_that_work(
    build: Callable[[Path], BaseModel], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as refused:
        require_exportable(build(tmp_path / "base"), "transformers")
    assert said in refused.value.reason
    assert refused.value.usable[0] == "open_clip"
    assert "use open_clip" in str(refused.value)


def test_the_starter_is_refused(starter_base: BaseModel) -> None:
    with pytest.raises(ExportError, match=r"ConvNeXt \(timm\)"):
        require_exportable(starter_base, "transformers")


def test_another_kind_of_tokenizer_is_no_clip(tmp_path: Path) -> None:
    assert WITH_TOKENIZER
    base = siglip(tmp_path / "siglip")
    other = clip(tmp_path / "clip")
    object.__setattr__(other, "tokenizer", base.tokenizer)
    with pytest.raises(ExportError, match="no model"):
        require_exportable(other, "transformers")


def test_weights_that_are_not_those_of_the_version_are_not_handed_out(tmp_path: Path) -> None:
    base = clip(tmp_path / "base")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ProbeError, match="transformers computes other features"):
        write_export(out, base, "transformers", F.normalize(torch.ones(4, base.embed_dim), dim=-1))


def _export(base: BaseModel, out: Path) -> None:
    out.mkdir()
    assert write_export(out, base, "transformers", probe_of(base)) > 0.9999


def _check_features(model: Any, base: BaseModel, folder: Path) -> None:
    """Compare pictures of other sizes and texts of other lengths, by the processor of transformers itself."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    pictures = [tiny.noise((90, 90), seed=1), tiny.noise((70, 50), seed=2)]
    texts = ["a word5 word7", "red"]
    inputs = processor(text=texts, images=pictures, padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        found = model(**inputs)
    own = torch.stack([_pixels(base, picture) for picture in pictures])
    with torch.inference_mode():
        images = F.normalize(base.visual(base.preprocess.normalise(own)), dim=-1)
    assert float((found.image_embeds * images).sum(dim=1).min()) > 0.999
    assert float((found.text_embeds * encode_texts(base, texts)).sum(dim=1).min()) > 0.9999


def _pixels(base: BaseModel, picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(base.preprocess.decode(tiny.png(picture)))
