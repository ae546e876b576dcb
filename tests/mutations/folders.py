"""Model folders that are broken, or made to run code or reach the network when they are loaded."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mutations import seeds
from tests.mutations.mutators import mutate_bytes, mutate_json

_CONFIG, _WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_EVIL = "import builtins\n\nbuiltins.code_of_folder_ran = True\n"
_HOSTILE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("text_cfg", {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}),
    ("text_cfg", {"hf_tokenizer_name": "."}),
    ("text_cfg", {"hf_tokenizer_name": "evil/tokenizer"}),
    ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True, "cache_dir": "/"}}),
    ("text_cfg", {"hf_model_name": "evil/model", "hf_model_pretrained": True}),
    ("text_cfg", {"hf_model_name": "roberta-base", "hf_model_config": {"trust_remote_code": True}}),
    ("text_cfg", {"context_length": 10**7}),
    ("text_cfg", {"vocab_size": 10**12}),
    ("text_cfg", {"layers": 10**6}),
    ("text_cfg", {"width": 10**6}),
    ("vision_cfg", {"timm_model_name": "hf-hub:evil/x"}),
    ("vision_cfg", {"timm_model_name": "local-dir:/tmp"}),
    ("vision_cfg", {"timm_model_name": "resnet50", "timm_model_pretrained": True}),
    ("vision_cfg", {"image_size": 100_000}),
    ("vision_cfg", {"layers": [10**6] * 4}),
    ("vision_cfg", {"patch_size": 0}),
    ("vision_cfg", {"width": 10**9}),
)
_HOSTILE_PREPROCESS: tuple[dict[str, Any], ...] = (
    {"size": 100_000},
    {"size": [32, -1]},
    {"size": []},
    {"mean": [1]},
    {"std": [0, 0, 0]},
    {"interpolation": "x"},
    {"resize_mode": 7},
    {"mode": "L"},
)


def write_mutated(folder: Path, source: random.Random) -> None:
    """Write one broken or hostile model folder.

    Args:
        folder: Is made. The code in it sets `builtins.code_of_folder_ran` if it is run.
        source: Decides everything.
    """
    folder.mkdir()
    siglip = source.random() < 0.3
    config, weights = seeds.model_config(siglip), seeds.weights(siglip)
    (folder / "evil.py").write_text(_EVIL)
    auto_map = {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"}
    (folder / "tokenizer_config.json").write_text(json.dumps(auto_map))
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}))
    changes: tuple[Callable[[], None], ...] = (
        lambda: _write(folder, mutate_json(config, source), weights),
        lambda: _write(folder, mutate_json(config, source), weights),
        lambda: _write(folder, _hostile(config, source), weights),
        lambda: _write(folder, config, _mutate_weights(weights, source)),
        lambda: _write_raw(folder, mutate_bytes(json.dumps(config).encode(), source, [weights[:500]]), weights),
        lambda: _replace(folder, config, weights, source),
    )
    source.choice(changes)()


def _hostile(config: dict[str, Any], source: random.Random) -> dict[str, Any]:
    changed = json.loads(json.dumps(config))
    for _ in range(source.randint(1, 2)):
        part, values = source.choice(_HOSTILE)
        changed["model_cfg"][part].update(values)
    if source.random() < 0.4:
        changed["preprocess_cfg"].update(source.choice(_HOSTILE_PREPROCESS))
    return dict(changed)


def _mutate_weights(weights: bytes, source: random.Random) -> bytes:
    """Mostly in the header, where lengths, shapes and offsets are."""
    if source.random() < 0.3:
        return mutate_bytes(weights, source, [weights[:4096]])
    end = 8 + int.from_bytes(weights[:8], "little")
    return mutate_bytes(weights[:end], source, [weights[:end]]) + weights[end:]


def _replace(folder: Path, config: dict[str, Any], weights: bytes, source: random.Random) -> None:
    """Put something that is no regular file, or another one, in the place of a file."""
    _write(folder, config, weights)
    path = folder / source.choice((_CONFIG, _WEIGHTS))
    path.unlink()
    makers: tuple[Callable[[], object], ...] = (
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/etc/passwd"),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"\x80\x04cos\nsystem\n"),
        lambda: path.write_bytes(b"[" * 200_000),
        lambda: (path.touch(), os.truncate(path, 1 << 33)),
    )
    source.choice(makers)()


def _write(folder: Path, config: Any, weights: bytes) -> None:
    _write_raw(folder, json.dumps(config).encode(), weights)


def _write_raw(folder: Path, config: bytes, weights: bytes) -> None:
    (folder / _CONFIG).write_bytes(config)
    (folder / _WEIGHTS).write_bytes(weights)
