"""An exported model is the model: for open_clip, and for us as a new base."""

import copy
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from paint_core.errors import ModelRefError, WeightsMismatchError
from paint_core.evaluation import encode, probe_images
from paint_core.models import BaseModel, load_base, write_model
from paint_core.models.model_config import plain_text_config
from paint_core.weights import fingerprint
from tests.paint_core import tiny
from tests.paint_core.models.test_base import hub_cache
from tests.paint_core.models.test_hostile_bases import WITH_TOKENIZER, folder_with, write_tokenizer


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


def test_a_folder_that_is_not_there_is_made_and_may_be_a_text(tiny_base: BaseModel, tmp_path: Path) -> None:
    write_model(str(tmp_path / "new" / "model"), tiny_base, tiny_base.visual)
    assert load_base(tmp_path / "new" / "model").fingerprint == tiny_base.fingerprint


def test_another_kind_of_tower_is_not_written(tiny_base: BaseModel, starter_base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatchError, match="image tower"):
        write_model(tmp_path / "x", tiny_base, starter_base.visual)
    assert not (tmp_path / "x").exists()


def test_a_tokenizer_of_transformers_is_exported_and_loads_again_here_and_in_open_clip(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    base = load_base(write_tokenizer(folder_with(tmp_path / "here", text=WITH_TOKENIZER)))
    write_model(tmp_path / "exported", base, base.visual)
    for file in (tmp_path / "exported").glob("*.json"):
        assert str(tmp_path) not in file.read_text(encoding="utf-8")
    (tmp_path / "here").rename(tmp_path / "gone")
    again = load_base(tmp_path / "exported")
    texts = ["a word5 nothing", "word7"]
    assert torch.equal(again.tokenizer(texts), base.tokenizer(texts))
    assert again.fingerprint == base.fingerprint
    theirs = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'exported'}")
    assert torch.equal(theirs(texts), base.tokenizer(texts))


ROBERTA = {
    "model_type": "roberta",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 40,
    "max_position_embeddings": 20,
    "hidden_act": "gelu",
    "pad_token_id": 1,
}


def roberta(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """A model with a text tower of transformers, and a cache of the Hub that holds its configuration."""
    text = {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base", "hf_proj_type": "mlp"}
    config = {**tiny.MODEL_CFG, "text_cfg": {**text, "hf_pooler_type": "mean_pooler"}, "custom_text": True}
    (folder / "text").mkdir(parents=True)
    (folder / "text" / "config.json").write_text(json.dumps(ROBERTA | changes))
    built = copy.deepcopy(config)
    built["text_cfg"] |= {"hf_model_name": str(folder / "text"), "hf_model_pretrained": False}
    built.pop("custom_text")
    weights = open_clip.CustomTextCLIP(**built).state_dict()
    tiny.write_model(folder / "model", {k: v.contiguous().clone() for k, v in weights.items()}, model_cfg=config)
    write_tokenizer(folder / "model")
    return folder / "model", hub_cache(folder / "cache", "roberta-base", folder / "text")


def test_a_text_tower_of_transformers_is_exported_with_its_configuration(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model, cache = roberta(tmp_path)
    with pytest.raises(ModelRefError, match=r"hf_text_config\.json"):
        load_base(model)
    (model / "hf_text_config.json").write_text(json.dumps(ROBERTA))
    base = load_base(model)
    write_model(tmp_path / "exported", base, base.visual)
    again = load_base(tmp_path / "exported")
    assert again.fingerprint == base.fingerprint
    texts = ["a word5", "word7 word8"]
    with torch.inference_mode():
        ours, theirs = (each.model.encode_text(each.tokenizer(texts)) for each in (base, again))  # type: ignore[operator]
    torch.testing.assert_close(ours, theirs)
    assert cache.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "evil"}, "is not one of"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"hidden_size": 10**9}, "hidden_size"),
    ],
)
def test_a_text_configuration_that_asks_for_too_much_is_refused(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    pytest.importorskip("transformers")
    folder = folder_with(tmp_path / "x", text={"hf_model_name": "roberta-base"}, top={"custom_text": True})
    (folder / "hf_text_config.json").write_text(json.dumps(ROBERTA | changes))
    with pytest.raises(ModelRefError, match=named):
        load_base(folder)


def test_what_names_code_in_a_text_configuration_is_left_out() -> None:
    hostile = {"auto_map": {"AutoConfig": "evil.Evil"}, "_attn_implementation": "evil/kernels", "dtype": "evil"}
    assert plain_text_config(ROBERTA | hostile | {"attn_implementation": "evil/kernels"}) == ROBERTA


def test_files_that_are_missing_are_named_and_nothing_is_installed_in_vain(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelRefError, match=r"tokenizer\.json, into the folder") as refused:
        load_base(folder_with(tmp_path / "x", text=WITH_TOKENIZER))
    assert "install `transformers`" not in str(refused.value)
