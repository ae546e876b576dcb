"""Finding what a model reference points at, without reading any weights: a configuration and one safetensors file.

open_clip itself falls back to pickles (`.bin`, `.pt`, `.pth`) in several places: for tags, for the Hub, and in a
folder whose pickle has a more usual name than its safetensors file. So the file is chosen here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import open_clip
import safetensors
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from paint_core.errors import ModelRefError, UnsafeWeightsError
from paint_core.models.model_config import (
    check_config,
    names_of_tokenizers,
    one_line,
    plain_text_config,
    read_json,
    without_decoder,
)

WEIGHT_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
TEXT_CONFIG_NAME = "hf_text_config.json"
"""Where an export keeps the configuration of a text model of transformers; open_clip itself asks the Hub for it."""

_CONFIG_NAME = "open_clip_config.json"
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npz", ".npy"}


@dataclass(frozen=True)
class Checkpoint:
    """A stored model.

    Attributes:
        config: `model_cfg` and `preprocess_cfg`, as in `open_clip_config.json`.
        weights: the safetensors file.
        tokenizer_source: the folder, or the repository, of the tokenizer that the configuration names; "" if none.
        text_config: the configuration of transformers of the text model that `config` names; None if it names none.
        ignored: prefixes of the names of tensors in the file that the model does not use.
    """

    config: Mapping[str, Any]
    weights: Path
    tokenizer_source: Path | str
    text_config: Mapping[str, Any] | None = None
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hub:
    """Access to the Hugging Face Hub.

    Attributes:
        cache_dir: its cache folder; None uses huggingface_hub's own.
        offline: use only the cache.
    """

    cache_dir: Path | None = None
    offline: bool = False

    def fetch(self, repo: str, filename: str) -> Path | None:
        """The file, from the cache if it is there, else downloaded; None if the repository has no such file.

        Raises:
            ModelRefError: the repository's name is wrong, or it cannot be reached.
        """
        try:
            # Not `hf_hub_download` with `local_files_only`, which asks the network for names of programs nevertheless.
            cached = try_to_load_from_cache(repo, filename, cache_dir=self.cache_dir)
            if isinstance(cached, str):
                return Path(cached)
            if self.offline:
                return None
        except HFValidationError as error:
            raise ModelRefError(f"{repo!r} is no repository name: write hf-hub:org/name") from error
        try:
            return Path(hf_hub_download(repo, filename, cache_dir=self.cache_dir))
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                return None
            raise ModelRefError(f"{repo} cannot be loaded ({error}): check name, access and network") from error


def find_in_dir(folder: Path) -> Checkpoint:
    """The checkpoint of a folder that open_clip loads as `local-dir:`.

    Args:
        folder: holds `open_clip_config.json` and one safetensors file (or one of the usual name).

    Raises:
        ModelRefError: no folder, no configuration or an excessive one, no weights, or several candidates.
    """
    if not folder.is_dir():
        raise ModelRefError(f"the folder {folder} does not exist: check the path")
    _require_plain_files(folder)
    weights = _pick([folder / name for name in WEIGHT_NAMES if (folder / name).is_file()][:1] or _all_safe(folder))
    config = _read_config(folder / _CONFIG_NAME)
    return _checkpoint(config, require_safetensors(weights), folder, Hub(offline=True), folder)


def find_on_hub(repo: str, hub: Hub) -> Checkpoint:
    """The checkpoint of a Hugging Face repository: from the local cache if it is there, else downloaded.

    Raises:
        ModelRefError: the repository or its configuration cannot be loaded.
    """
    config_path = hub.fetch(repo, _CONFIG_NAME)
    if config_path is None:
        raise ModelRefError(
            f"{repo} has no {_CONFIG_NAME}: use an open_clip repository, or go online if it is not cached"
        )
    config = _read_config(config_path)
    tokenizer = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name", "")
    if tokenizer not in ("", repo, *names_of_tokenizers()):
        raise ModelRefError(f"{repo} names the tokenizer of {tokenizer!r}: use a repository that brings its own")
    return _checkpoint(config, _fetch_weights(repo, WEIGHT_NAMES, hub), tokenizer, hub)


def find_by_tag(name: str, tag: str, hub: Hub) -> Checkpoint:
    """The checkpoint of an open_clip model name and pretrained tag.

    Tags that were trained with QuickGELU get it, regardless of the name (open_clip itself only warns).

    Args:
        name: one of `open_clip.list_models()`.
        tag: one of `open_clip.list_pretrained_tags_by_model(name)`.

    Raises:
        ModelRefError: no such name or tag, or it cannot be reached.
        UnsafeWeightsError: the tag's weights exist only as a pickle.
    """
    model_cfg = _builtin_model_cfg(name)
    tag_cfg = open_clip.get_pretrained_cfg(name, tag)
    if not tag_cfg:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise ModelRefError(f"{name} has no tag {tag!r}: use one of {known}")
    repo, _, filename = tag_cfg.get("hf_hub", "").rpartition("/")
    if not repo:
        raise UnsafeWeightsError(f"{name}:{tag} is published only as a pickle: use a tag that is on the Hub")
    names = (str(Path(filename).with_suffix(".safetensors")),) if filename else WEIGHT_NAMES
    if tag_cfg.get("quick_gelu"):
        model_cfg = {**model_cfg, "quick_gelu": True}
    config = _config(model_cfg, {key: value for key, value in tag_cfg.items() if key != "size"})
    return _checkpoint(config, _fetch_weights(repo, names, hub), _tokenizer_of(config), hub)


def published_at(name: str, tag: str) -> str | None:
    """The Hub's repository of an open_clip model name and pretrained tag; None: it has none."""
    repo, _, _ = (open_clip.get_pretrained_cfg(name, tag) or {}).get("hf_hub", "").rpartition("/")
    return repo or None


def find_by_file(name: str, path: Path, hub: Hub, preprocess_cfg: Mapping[str, Any] | None = None) -> Checkpoint:
    """The checkpoint of an open_clip model name and a local weights file.

    A file does not state its preprocessing. Where all published weights of the name agree, theirs is used.

    Args:
        name: one of `open_clip.list_models()`.
        path: a safetensors file.
        preprocess_cfg: differences from open_clip's default preprocessing; the name's activation is then not checked.
            None uses that of the published weights, or open_clip's defaults if there are none.

    Raises:
        ModelRefError: no such name or file, or its published weights differ in their preprocessing or activation.
    """
    if not path.is_file():
        raise ModelRefError(f"the file {path} does not exist: check the path")
    weights, model_cfg = require_safetensors(path), _builtin_model_cfg(name)
    config = _config(model_cfg, _published_preprocess(name, model_cfg) if preprocess_cfg is None else preprocess_cfg)
    return _checkpoint(config, weights, _tokenizer_of(config), hub)


def require_safetensors(path: Path) -> Path:
    """The same path, if its header is that of a safetensors file; a renamed pickle is refused.

    Raises:
        UnsafeWeightsError: it is another kind of file.
    """
    if path.suffix != ".safetensors":
        raise UnsafeWeightsError(f"{path.name} is not a safetensors file: convert it (pickles can execute code)")
    try:
        with safetensors.safe_open(str(path), framework="pt"):
            return path
    except (safetensors.SafetensorError, OSError) as error:
        raise UnsafeWeightsError(f"{path.name} is not a safetensors file ({one_line(error)}): convert it") from error


def _builtin_model_cfg(name: str) -> dict[str, Any]:
    if name not in open_clip.list_models():
        raise ModelRefError(f"open_clip has no model {name!r}: see open_clip.list_models()")
    return dict(open_clip.get_model_config(name))


def _published_preprocess(name: str, model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What all published weights of a name have in common."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    published = [dict(open_clip.get_pretrained_cfg(name, tag)) for tag in tags]
    folder = f"write an {_CONFIG_NAME} next to the file, and load local-dir:FOLDER"
    if any(cfg.get("quick_gelu") for cfg in published) and not model_cfg.get("quick_gelu"):
        other = f"{name}-quickgelu"
        hint = f"use {other}:FILE if it was, else " if other in open_clip.list_models() else ""
        raise ModelRefError(f"it is unknown whether a file of {name} was trained with QuickGELU: {hint}{folder}")
    known = {field.name for field in fields(PreprocessCfg)} - {"size"}
    merged = [_config({}, {key: cfg[key] for key in known & cfg.keys()})["preprocess_cfg"] for cfg in published]
    if any(each != merged[0] for each in merged):
        raise ModelRefError(f"the published weights of {name} have different preprocessing: {folder}")
    return merged[0] if merged else {}


def _checkpoint(
    config: dict[str, Any], weights: Path, tokenizer_source: Path | str, hub: Hub, folder: Path | None = None
) -> Checkpoint:
    """The checkpoint; of a CoCa its image and text towers, which its captioning decoder leaves as they are."""
    text_config = _find_text_model(config, hub, folder)
    towers = without_decoder(config["model_cfg"])
    if towers is config["model_cfg"]:
        return Checkpoint(config, weights, tokenizer_source, text_config)
    config = {**config, "model_cfg": towers}
    return Checkpoint(config, weights, tokenizer_source, text_config, ("text_decoder.",))


def _config(model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any]) -> dict[str, Any]:
    merged = merge_preprocess_dict(asdict(PreprocessCfg()), dict(preprocess_cfg))
    return {"model_cfg": dict(model_cfg), "preprocess_cfg": merged}


def _tokenizer_of(config: Mapping[str, Any]) -> str:
    return str(config["model_cfg"]["text_cfg"].get("hf_tokenizer_name", ""))


def _find_text_model(config: Mapping[str, Any], hub: Hub, folder: Path | None) -> Mapping[str, Any] | None:
    """The configuration of the text model that a configuration names: from the folder, or by its name from the Hub."""
    name = config["model_cfg"]["text_cfg"].get("hf_model_name")
    if not name:
        return None
    if folder is not None and (folder / TEXT_CONFIG_NAME).is_file():
        return plain_text_config(read_json(folder / TEXT_CONFIG_NAME))
    found = hub.fetch(name, "config.json")
    if found is None:
        raise ModelRefError(
            f"the configuration of the text model {name} is not in the cache of the Hub: load it once by an open_clip "
            f"name and tag, or add it to the folder as {TEXT_CONFIG_NAME}"
        )
    return plain_text_config(read_json(found))


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("model_cfg"), dict):
        raise ModelRefError(f"{path} is not an open_clip configuration with a `model_cfg`: export the model again")
    model_cfg, preprocess_cfg = config["model_cfg"], config.get("preprocess_cfg", {})
    if not isinstance(preprocess_cfg, dict):
        raise ModelRefError(f"preprocess_cfg of {path} is not an object: export the model again")
    merged = _config(model_cfg, preprocess_cfg)
    check_config(without_decoder(merged["model_cfg"]), merged["preprocess_cfg"])
    return merged


def _require_plain_files(folder: Path) -> None:
    """Refuses a folder with special files: reading a pipe or a device may never end. Links to files are fine."""
    strange = next((path for path in folder.iterdir() if not path.is_file() and not path.is_dir()), None)
    if strange is not None:
        raise ModelRefError(f"{strange.name} in {folder} is neither a file nor a folder: remove it")


def _all_safe(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLE_SUFFIXES)
    if not found and pickles:
        raise UnsafeWeightsError(f"{folder} contains only {pickles[0]}, which is not loaded: convert it to safetensors")
    return found


def _pick(candidates: list[Path]) -> Path:
    if len(candidates) != 1:
        raise ModelRefError(
            f"found {len(candidates)} safetensors files {[path.name for path in candidates[:3]]}: "
            f"keep one, or name it {WEIGHT_NAMES[0]}"
        )
    return candidates[0]


def _fetch_weights(repo: str, names: tuple[str, ...], hub: Hub) -> Path:
    for name in names:
        path = hub.fetch(repo, name)
        if path is not None:
            return require_safetensors(path)
    raise UnsafeWeightsError(f"{repo} offers no {' or '.join(names)}: pickles are not read, choose another model")
