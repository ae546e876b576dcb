"""From a configuration to a tokenizer that reads local files, or those of a repository that is known, and runs no code.

`open_clip.get_tokenizer` hands what the configuration says to transformers, whose tokenizers run Python of the folder
that they are read from if it says so (open_clip issue 1146).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from torch import Tensor

from paint_core.errors import HeadError, ModelRefError
from paint_core.models.checkpoints import Hub
from paint_core.models.model_config import one_line

_MAX_FILE_BYTES = 128 << 20
_FILE_SUFFIXES = (".json", ".txt", ".model")
_OWN_VOCABULARY = 49_408


def build_tokenizer(text_cfg: Mapping[str, Any], source: Path | str, hub: Hub) -> Callable[[list[str]], Tensor]:
    """The tokenizer of a checked configuration: prompts to int64 tokens [B, context].

    Raises:
        ModelRefError: transformers is not installed, or the files cannot be used.
    """
    length = text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)
    options = text_cfg.get("tokenizer_kwargs", {})
    vocabulary = text_cfg.get("vocab_size", _OWN_VOCABULARY)
    if not text_cfg.get("hf_tokenizer_name"):
        own = SimpleTokenizer(context_length=length, **options)
        if vocabulary < own.vocab_size and not text_cfg.get("hf_model_name"):
            raise ModelRefError(f"vocab_size is {vocabulary}, CLIP's tokenizer has {own.vocab_size} tokens: correct it")
        return own  # type: ignore[no-any-return]
    try:
        if isinstance(source, Path):
            _require_small_files(source)
        found = HFTokenizer(
            str(source),
            context_length=length,
            cache_dir=hub.cache_dir,
            tokenizer_mode=text_cfg.get("tokenizer_mode"),
            trust_remote_code=False,
            local_files_only=isinstance(source, Path) or hub.offline,
            **options,
        )
    except ImportError as error:
        raise ModelRefError(
            f"the tokenizer cannot be loaded ({one_line(error)}): install `transformers`, or use a model with CLIP's "
            "tokenizer"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelRefError(_refusal(source, text_cfg["hf_tokenizer_name"], hub, error)) from error
    return found if text_cfg.get("hf_model_name") else _Bounded(found, vocabulary)


def save_tokenizer(tokenizer: object, folder: Path) -> None:
    """Writes a tokenizer's files, where it has some; CLIP's own needs none."""
    inner = unbounded(tokenizer)
    if isinstance(inner, HFTokenizer):
        inner.tokenizer.save_pretrained(str(folder))


def unbounded(tokenizer: object) -> object:
    """The tokenizer of open_clip itself, without the check of its tokens."""
    return tokenizer._tokenizer if isinstance(tokenizer, _Bounded) else tokenizer


def _refusal(source: Path | str, name: str, hub: Hub, error: Exception) -> str:
    if isinstance(source, Path):
        return (
            f"the tokenizer {name!r} cannot be loaded from {source} ({one_line(error)}): put its files, such as "
            "tokenizer.json, into the folder"
        )
    advice = "load the model once online" if hub.offline else "check the network"
    return (
        f"the tokenizer {name!r} cannot be loaded ({one_line(error)}): {advice}, or use a model with CLIP's tokenizer"
    )


class _Bounded:
    """A tokenizer whose tokens all have a row in the model's embedding; on a GPU any other ends the process."""

    def __init__(self, tokenizer: Callable[[list[str]], Tensor], vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary

    def __call__(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts))
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self._vocabulary:
            raise HeadError(
                "a text has a token that is not in the vocabulary of the model: use other words, or another model"
            )
        return tokens


def _require_small_files(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix in _FILE_SUFFIXES and path.stat().st_size > _MAX_FILE_BYTES:
            raise ModelRefError(f"{path} is larger than {_MAX_FILE_BYTES} bytes: use another model")
