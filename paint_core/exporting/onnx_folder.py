"""Both towers of a model as ONNX graphs with their weights, and how to prepare what they read.

The image tower is the program that also serves on CPUs: pixels in, unit features out, with the normalisation inside.
"""

import copy
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor, nn

from paint_core.errors import ExportError
from paint_core.exporting.bpe import describe_tokenizer, with_fixed_length
from paint_core.exporting.proof import prove
from paint_core.models import BaseModel
from paint_core.models.model_config import one_line
from paint_core.models.tokenizers import save_tokenizer, unbounded
from paint_core.programs.program import FEATURES, IMAGES, Program

TOKENS = "tokens"
IMAGE_NAME, TEXT_NAME = "image.onnx", "text.onnx"
FACTS_NAME, TOKENIZER_NAME = "preprocess.json", "tokenizer.json"
_MOST_IN_ONE_FILE_BYTES = 1 << 30
"""A protobuf message holds less than 2 GiB; larger weights go into a second file."""


def write_onnx(folder: Path, base: BaseModel, program: Program) -> None:
    """Writes `image.onnx`, `text.onnx`, `preprocess.json` and `tokenizer.json`.

    Args:
        folder: one that exists.
        program: of the base's image tower.

    Raises:
        ExportError: the text tower or the tokenizer cannot be written.
    """
    write_towers(folder, base, program)
    write_preparation(folder, base)


def write_towers(folder: Path, base: BaseModel, program: Program) -> None:
    """Writes `image.onnx` and `text.onnx`, each with its weights."""
    _save(_with_weights(program, base.visual), folder / IMAGE_NAME)
    _save(_trace_text(base), folder / TEXT_NAME)


def write_preparation(folder: Path, base: BaseModel) -> None:
    """Writes `preprocess.json` and `tokenizer.json`: what has to be done before the towers run."""
    tokenizer, length = _tokenizer(base, folder)
    (folder / TOKENIZER_NAME).write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n", encoding="utf-8")
    config = base.preprocess.config
    facts = {
        "image": {
            "input": f"{IMAGES}: uint8 [batch, {base.image_size}, {base.image_size}, 3], RGB, 0 to 255",
            "size": base.image_size,
            "resize_mode": config.get("resize_mode", "shortest"),
            "interpolation": "bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
            "fill_color": config.get("fill_color", 0),
            "normalisation": "in the graph; do not normalise",
            "mean": list(base.preprocess.mean),
            "std": list(base.preprocess.std),
        },
        "text": {
            "input": f"{TOKENS}: int64 [batch, {length}]",
            "context_length": length,
            "tokenizer": TOKENIZER_NAME,
        },
        "output": f"{FEATURES}: float32 [batch, {base.embed_dim}], rows of unit length",
        "logit_scale": base.logit_scale,
        "logit_bias": base.logit_bias,
    }
    (folder / FACTS_NAME).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def prove_onnx(folder: Path, base: BaseModel, probe: Tensor) -> float:
    """The lowest cosine between features that ONNX Runtime computes from a folder, and the model's own.

    Raises:
        ProbeError: one is below 0.999.
    """
    import onnxruntime as runtime

    def run(name: str, inputs: dict[str, NDArray[Any]]) -> Tensor:
        session = runtime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
        (features,) = session.run([FEATURES], inputs)
        return torch.from_numpy(features)

    def encode_images(images: NDArray[np.uint8]) -> Tensor:
        return run(IMAGE_NAME, {IMAGES: images})

    def encode_texts(texts: Sequence[str]) -> Tensor:
        return run(TEXT_NAME, {TOKENS: read_tokens(folder, base, texts)})

    return prove(base, probe, encode_images, encode_texts, "ONNX Runtime")


def read_tokens(folder: Path, base: BaseModel, texts: Sequence[str]) -> NDArray[np.int64]:
    """The tokens of texts, int64 [B, context], by the exported tokenizer, or open_clip's where nothing reads that."""
    if importlib.util.find_spec("tokenizers") is None:
        return np.asarray(base.tokenizer(list(texts)), dtype=np.int64)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    return np.array([each.ids for each in tokenizer.encode_batch(list(texts))], dtype=np.int64)


class _TextTower(nn.Module):
    """From tokens to unit features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.copy(model)
        self.model._modules = {name: each for name, each in model._modules.items() if name != "visual"}

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return F.normalize(features.float(), dim=-1)


def _trace_text(base: BaseModel) -> Any:
    from paint_core.programs.tracing import EXAMPLES, strip, trace

    example = base.tokenizer([f"example {number}" for number in range(EXAMPLES)])
    try:
        graph = trace(_TextTower(base.model).eval(), example, TOKENS, FEATURES)
    except Exception as error:  # whatever torch's exporter raises
        raise ExportError(f"torch cannot write this text tower as ONNX ({one_line(error)})") from error
    strip(graph)
    return graph


def _with_weights(program: Program, visual: nn.Module) -> Any:
    """The program's graph with the weights of a tower in it."""
    import onnx

    graph = onnx.load_model_from_string(program.graph)
    tensors = dict(visual.named_parameters()) | dict(visual.named_buffers())
    given = set(program.weights)
    for initializer in graph.graph.initializer:
        if initializer.name not in given:
            continue
        del initializer.external_data[:]
        initializer.data_location = onnx.TensorProto.DEFAULT
        initializer.raw_data = tensors[initializer.name].detach().cpu().contiguous().numpy().tobytes()
    return graph


def _save(graph: Any, path: Path) -> None:
    import onnx

    num_bytes = sum(len(each.raw_data) for each in graph.graph.initializer)
    is_large = num_bytes > _MOST_IN_ONE_FILE_BYTES
    onnx.save_model(graph, str(path), save_as_external_data=is_large, location=f"{path.name}.data")


def _tokenizer(base: BaseModel, folder: Path) -> tuple[dict[str, Any], int]:
    """The content of `tokenizer.json`, cutting and padding as open_clip does, and the length of its texts."""
    tokenizer = unbounded(base.tokenizer)
    if isinstance(tokenizer, SimpleTokenizer):
        return with_fixed_length(describe_tokenizer(tokenizer), tokenizer.context_length), tokenizer.context_length
    if not isinstance(tokenizer, HFTokenizer):
        raise ExportError("the tokenizer of this model is of a kind that has no files")
    save_tokenizer(tokenizer, folder)
    path = folder / TOKENIZER_NAME
    if not path.is_file():
        raise ExportError("the tokenizer of this model has no tokenizer.json, which other programs read")
    length, pad = int(tokenizer.context_length), tokenizer.tokenizer.pad_token_id
    return with_fixed_length(json.loads(path.read_text(encoding="utf-8")), length, int(pad or 0)), length
