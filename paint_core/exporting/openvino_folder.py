"""Both towers of a model for OpenVINO, read from their ONNX graphs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paint_core.exporting.onnx_folder import (
    IMAGE_NAME,
    TEXT_NAME,
    read_tokens,
    write_preparation,
    write_towers,
)
from paint_core.exporting.proof import prove
from paint_core.models import BaseModel
from paint_core.programs.program import Program

_NAMES = {IMAGE_NAME: "image.xml", TEXT_NAME: "text.xml"}


def write_openvino(folder: Path, base: BaseModel, program: Program) -> None:
    """Writes `image.xml`, `text.xml` and a `.bin` of weights beside each, `preprocess.json` and `tokenizer.json`.

    Args:
        folder: one that exists.
        program: of the base's image tower.

    Raises:
        ExportError: the text tower or the tokenizer cannot be written.
    """
    import openvino

    core = openvino.Core()  # which reads ONNX itself; `convert_model` would report that it was used
    with tempfile.TemporaryDirectory(dir=folder, prefix=".onnx-") as name:
        graphs = Path(name)
        write_towers(graphs, base, program)
        for source, target in _NAMES.items():
            openvino.save_model(core.read_model(str(graphs / source)), str(folder / target), compress_to_fp16=False)
    write_preparation(folder, base)


def prove_openvino(folder: Path, base: BaseModel, probe: Tensor) -> float:
    """The lowest cosine between features that OpenVINO computes from a folder, and the model's own.

    Raises:
        ProbeError: one is below 0.999.
    """
    import openvino

    core = openvino.Core()

    def run(name: str, inputs: NDArray[np.uint8] | NDArray[np.int64]) -> Tensor:
        compiled = core.compile_model(str(folder / _NAMES[name]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return torch.from_numpy(np.array(compiled(inputs)[0]))

    def encode_images(images: NDArray[np.uint8]) -> Tensor:
        return run(IMAGE_NAME, images)

    def encode_texts(texts: Sequence[str]) -> Tensor:
        return run(TEXT_NAME, read_tokens(folder, base, texts))

    return prove(base, probe, encode_images, encode_texts, "OpenVINO")
