"""CLIP's tokenizer as the files that transformers and the `tokenizers` library read."""

import json
from pathlib import Path
from typing import Any

from open_clip.tokenizer import SimpleTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PAD_ID = 0


def write_clip_tokenizer(folder: Path, tokenizer: SimpleTokenizer) -> None:
    """Writes `vocab.json`, `merges.txt`, `tokenizer.json` and `tokenizer_config.json` of a CLIPTokenizer."""
    described = describe_tokenizer(tokenizer)
    model = described["model"]
    _write(folder / "vocab.json", model["vocab"])
    lines = "\n".join(" ".join(merge) for merge in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", encoding="utf-8")
    _write(folder / "tokenizer.json", described)
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": tokenizer.context_length,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": END,
        },
    )


def describe_tokenizer(tokenizer: SimpleTokenizer) -> dict[str, Any]:
    """The content of `tokenizer.json`, without padding and truncation.

    It gives the tokens of open_clip's for plain text; open_clip also repairs broken Unicode and HTML entities first.
    """
    vocabulary = {_named(word, tokenizer): number for word, number in tokenizer.encoder.items()}
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(start, START), _special(end, END)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END, end],
            "cls": [START, start],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": END,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "vocab": vocabulary,
            "merges": [list(merge) for merge in tokenizer.bpe_ranks],
        },
    }


def with_fixed_length(described: dict[str, Any], length: int, pad_id: int = _PAD_ID) -> dict[str, Any]:
    """The content of a `tokenizer.json` that cuts and pads every text to one length, as open_clip does."""
    padding: dict[str, Any] = {"strategy": {"Fixed": length}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": pad_id, "pad_type_id": 0, "pad_token": "[PAD]"}
    truncation = {"direction": "Right", "max_length": length, "strategy": "LongestFirst", "stride": 0}
    return {**described, "padding": padding, "truncation": truncation}


def _named(word: str, tokenizer: SimpleTokenizer) -> str:
    number = tokenizer.encoder[word]
    return {tokenizer.sot_token_id: START, tokenizer.eot_token_id: END}.get(number, word)


def _special(number: int, content: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
