"""A base model comes from strangers: its folder runs nothing, reaches nothing, and is refused in one clear line."""

import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from paint_core.errors import HeadError, ModelRefError, PaintCoreError
from paint_core.models import BaseModel, Hub, load_base
from paint_core.models.model_config import check_config
from tests.paint_core import tiny
from tests.paint_core.models.test_base import hub_cache

WITH_TOKENIZER = {"hf_tokenizer_name": "anything/at-all"}


def folder_with(path: Path, *, top: Any = None, vision: Any = None, text: Any = None, preprocess: Any = None) -> Path:
    """The tiny model's folder, its configuration changed."""
    config = copy.deepcopy({"model_cfg": tiny.MODEL_CFG, "preprocess_cfg": tiny.PREPROCESS_CFG})
    config["model_cfg"] |= top or {}
    config["model_cfg"]["vision_cfg"] |= vision or {}
    config["model_cfg"]["text_cfg"] |= text or {}
    config["preprocess_cfg"] |= preprocess or {}
    tiny.write_model(path, tiny.state_dict())
    (path / "open_clip_config.json").write_text(json.dumps(config))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PaintCoreError) as refused:
        load_base(f"local-dir:{path}")
    message = str(refused.value)
    assert len(message) < 1000
    assert message.isprintable()
    return message


def write_tokenizer(folder: Path, words: int = 20, **config: Any) -> Path:
    """Tokenizer files as transformers writes them, of a vocabulary of so many words."""
    vocabulary = {"[UNK]": 0, "[PAD]": 1, "a": 2} | {f"word{number}": number for number in range(3, words)}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    parts = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model, **parts}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return folder


def write_evil(folder: Path) -> Path:
    """Python that leaves a file behind, and a tokenizer that asks to run it."""
    ran = folder / "it ran"
    code = f"open({str(ran)!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as Evil\n"
    (folder / "evil.py").write_text(code)
    write_tokenizer(folder, tokenizer_class="Evil", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}))
    return ran


@pytest.mark.parametrize(
    "text",
    [
        {**WITH_TOKENIZER, "tokenizer_kwargs": {"trust_remote_code": True}},
        {**WITH_TOKENIZER, "tokenizer_kwargs": {"clean": "lower", "trust_remote_code": True}},
        WITH_TOKENIZER,
        {"hf_model_name": "."},
    ],
)
def test_python_in_a_folder_never_runs(tmp_path: Path, text: dict[str, Any]) -> None:
    pytest.importorskip("transformers")
    folder = folder_with(tmp_path / "x", text=text)
    ran = write_evil(folder)
    refusal(folder)
    assert not ran.exists()


def test_a_folder_brings_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    base = load_base(f"local-dir:{write_tokenizer(folder_with(tmp_path / 'x', text=WITH_TOKENIZER))}")
    assert base.tokenizer(["a word5 nothing"])[0, :4].tolist() == [2, 5, 0, 1]


def test_a_token_that_the_model_does_not_know_is_refused_before_it_is_looked_up(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    text = {**WITH_TOKENIZER, "vocab_size": 49408}
    base = load_base(f"local-dir:{write_tokenizer(folder_with(tmp_path / 'x', text=text), words=49_500)}")
    with pytest.raises(HeadError, match="other words"):
        base.tokenizer(["word49450"])


SAYS = """
import json, sys
reached = []
def watch(event, details):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        reached.append(f"{event} {details[1:]}")
sys.addaudithook(watch)
from paint_core.errors import PaintCoreError
from paint_core.models import load_base
for folder in sys.argv[1:]:
    try:
        load_base(f"local-dir:{folder}")
    except PaintCoreError:
        continue
    reached.append(f"loaded {folder}")
print(json.dumps(reached))
"""


def test_a_folder_reaches_no_network_whatever_it_names(tmp_path: Path) -> None:
    parts: list[dict[str, Any]] = [
        {"vision": {"timm_model_name": "hf-hub:evil/x"}},
        {"vision": {"timm_model_name": "hf_hub:evil/x"}},
        {"vision": {"timm_model_name": "local-dir:/tmp"}},
        {"vision": {"timm_model_name": "evil/x"}},
        {"vision": {"timm_model_name": "resnet18", "timm_model_pretrained": True}},
        {"text": {"hf_model_name": "evil/x"}},
        {"text": {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}},
        {"text": {"hf_model_name": "roberta-base", "hf_model_pretrained": True}},
        {"text": {"hf_tokenizer_name": "evil/x"}},
        {"text": {"hf_tokenizer_name": "https://evil/x"}},
        {"text": {"tokenizer_kwargs": {"reduction_mask": "syntax"}}},
    ]
    folders = [folder_with(tmp_path / str(number), **part) for number, part in enumerate(parts)]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub")}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", SAYS, *map(str, folders)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []


ODD: list[dict[str, Any]] = [
    {"vision": {"image_size": 100_000}},
    {"vision": {"image_size": [32, 100_000]}},
    {"vision": {"image_size": 1024, "patch_size": 1}},
    {"vision": {"layers": 10**9}},
    {"vision": {"layers": [10**9] * 4}},
    {"vision": {"width": 10**12}},
    {"vision": {"width": -1}},
    {"vision": {"width": True}},
    {"vision": {"width": 32.0}},
    {"vision": {"mlp_ratio": float("inf")}},
    {"vision": {"head_width": 0}},
    {"vision": {"head_width": 1024}},
    {"vision": {"patch_size": 0}},
    {"vision": {"patch_size": None}},
    {"vision": {"output_tokens": True}},
    {"vision": {"pool_type": "none"}},
    {"vision": {"act_kwargs": {"inplace": True}}},
    {"vision": {"norm_kwargs": {"eps": "1"}}},
    {"vision": {"timm_model_name": "no_such_model"}},
    {"vision": {"timm_model_name": 7}},
    {"vision": {"timm_model_name": "eva_giant_patch14_224"}},
    {"vision": None, "top": {"vision_cfg": []}},
    {"text": {"context_length": 10**9}},
    {"text": {"context_length": 1 << 11, "width": 8192}},
    {"text": {"vocab_size": 10**12}},
    {"text": {"vocab_size": 7}},
    {"text": {"heads": 3}},
    {"text": {"tokenizer_kwargs": None}},
    {"text": {"tokenizer_kwargs": {"additional_special_tokens": ["(a+)+b"]}}},
    {"text": {"tokenizer_kwargs": {"clean": "evil"}}},
    {"text": {"hf_model_name": ["a"]}},
    {"text": {"proj_type": "none"}},
    {"text": None, "top": {"text_cfg": 7}},
    {"top": {"embed_dim": 0}},
    {"top": {"embed_dim": 8}},
    {"top": {"embed_dim": "16"}},
    {"top": {"cast_dtype": "float16"}},
    {"top": {"init_logit_scale": "x" * 100_000}},
    {"top": {"x" * 100_000: 1}},
    {"top": {"\x1b[2J\n": 1}},
    {"top": {"multimodal_cfg": {}}},
    {"preprocess": {"size": 100_000}},
    {"preprocess": {"size": "x"}},
    {"preprocess": {"mode": "CMYK"}},
    {"preprocess": {"mean": [0.5, 0.5]}},
    {"preprocess": {"std": [0, 0, 0]}},
    {"preprocess": {"std": [float("nan")] * 3}},
    {"preprocess": {"interpolation": "nearest"}},
    {"preprocess": {"resize_mode": 7}},
]


@pytest.mark.parametrize("parts", ODD, ids=[json.dumps(each)[:60] for each in ODD])
def test_what_a_configuration_may_not_say_is_refused_in_one_line(tmp_path: Path, parts: dict[str, Any]) -> None:
    top = parts.pop("top", None) if None in parts.values() else None
    folder = folder_with(tmp_path / "x", **parts)
    if top is not None:  # in place of a whole part
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"] |= top
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    refusal(folder)


def test_a_model_is_not_allocated_beyond_the_weights_that_are_there(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "x", vision={"width": 8192, "layers": 200, "head_width": 64})
    with pytest.raises(ModelRefError, match="larger model than the weights"):
        load_base(f"local-dir:{folder}")


@pytest.mark.parametrize(("size", "is_allowed"), [([32], True), ([32, 32], True), ([32, 32, 32], False), ([], False)])
def test_the_size_of_images_is_one_side_or_two(size: list[int], is_allowed: bool) -> None:
    config = copy.deepcopy(tiny.MODEL_CFG)
    config["vision_cfg"]["image_size"] = size
    if is_allowed:
        check_config(config, tiny.PREPROCESS_CFG)
    else:
        with pytest.raises(ModelRefError, match="image_size"):
            check_config(config, tiny.PREPROCESS_CFG)


def test_every_configuration_of_open_clip_is_allowed() -> None:
    configs = [open_clip.get_model_config(name) for name in open_clip.list_models()]
    without_coca = [config for config in configs if "multimodal_cfg" not in config]
    assert len(without_coca) > 100
    for config in without_coca:
        check_config(config, {})


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"model_cfg": ' + b" " * (2 << 20) + b"1}", b"\xff\xfe", b"NaN"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = folder_with(tmp_path / "x")
    (folder / "open_clip_config.json").write_bytes(content)
    refusal(folder)


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "other"])
@pytest.mark.parametrize("make", ["pipe", "device", "dangling"])
def test_what_is_no_file_is_never_opened(tmp_path: Path, name: str, make: str) -> None:
    path = folder_with(tmp_path / "x") / name
    path.unlink(missing_ok=True)
    if make == "pipe":
        os.mkfifo(path)  # whoever opens it waits for ever
    else:
        path.symlink_to("/dev/zero" if make == "device" else tmp_path / "nowhere")
    assert name in refusal(path.parent)


def test_links_to_files_are_followed_as_the_cache_of_the_hub_has_them(tmp_path: Path, tiny_base: BaseModel) -> None:
    folder = folder_with(tmp_path / "x")
    for path in list(folder.iterdir()):
        (tmp_path / "blobs").mkdir(exist_ok=True)
        path.rename(tmp_path / "blobs" / path.name)
        path.symlink_to(tmp_path / "blobs" / path.name)
    assert load_base(f"local-dir:{folder}").fingerprint == tiny_base.fingerprint


@pytest.mark.parametrize(
    "parts",
    [
        {"text": {"hf_tokenizer_name": "evil/elsewhere"}},
        {"text": {"hf_tokenizer_name": "hf-hub:evil/x"}},
        {"vision": {"timm_model_name": "hf-hub:evil/x"}},
        {"vision": {"image_size": 100_000}},
        {"text": {**WITH_TOKENIZER, "tokenizer_kwargs": {"trust_remote_code": True}}},
    ],
)
def test_a_repository_passes_the_same_checks(tmp_path: Path, parts: dict[str, Any]) -> None:
    folder = folder_with(tmp_path / "x", **parts)
    with pytest.raises(ModelRefError):
        load_base("hf-hub:org/tiny", hub=Hub(hub_cache(tmp_path / "cache", "org/tiny", folder), offline=True))


STRANGE: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    3,
    10**9,
    1e300,
    "",
    "x",
    "hf-hub:a/b",
    [],
    [1, 2],
    {},
    {"a": 1},
    float("nan"),
]


def mutate(config: Any, chance: random.Random) -> None:
    """Change one thing somewhere in a configuration."""
    while True:
        key = chance.choice(sorted(config))
        if isinstance(config[key], dict) and config[key] and chance.random() < 0.9:
            config = config[key]
            continue
        how = chance.randrange(3)
        if how == 0:
            del config[key]
        elif how == 1:
            config[key] = chance.choice(STRANGE)
        else:
            config[chance.choice(["heads", "layers", "width", "pool_type", "proj_type", "new"])] = chance.choice(
                STRANGE
            )
        return


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_folder_loads_or_is_refused_by_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = folder_with(tmp_path / "x")
    good = (folder / "open_clip_config.json").read_text()
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    for _ in range(12):
        config, changed = json.loads(good), bytearray(weights)
        if chance.random() < 0.7:
            for _ in range(chance.randint(1, 3)):
                mutate(config, chance)
        else:
            for _ in range(chance.randint(1, 6)):
                changed[chance.randrange(3000)] = chance.randrange(256)
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        (folder / "open_clip_model.safetensors").write_bytes(changed)
        try:
            base = load_base(f"local-dir:{folder}")
        except PaintCoreError:
            continue
        assert torch.isfinite(base.model.state_dict()["visual.proj"]).all()
