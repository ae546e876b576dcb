"""The formats that a model can be exported in, and writing one."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from paint_core.errors import ExportError
from paint_core.exporting.onnx_folder import prove_onnx, write_onnx
from paint_core.exporting.openvino_folder import prove_openvino, write_openvino
from paint_core.exporting.transformers_folder import map_model, prove_transformers, write_transformers
from paint_core.models import BaseModel, build_head, write_model
from paint_core.programs.program import Program

ExportFormat = Literal["open_clip", "transformers", "onnx", "openvino"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
HEAD_NAME, LABELS_NAME = "head.npy", "labels.json"

_TRACED = ("onnx", "openvino")
_NEEDED: dict[ExportFormat, tuple[str, ...]] = {
    "open_clip": (),
    "transformers": ("transformers",),
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino", "onnxruntime", "onnx", "onnxscript"),
}
_EXTRA = {"transformers": "transformers", "onnx": "onnx", "openvino": "openvino"}


@dataclass(frozen=True)
class Label:
    """A classname, and the templates with `{}` that make its prompts."""

    name: str
    templates: tuple[str, ...]


def require_exportable(base: BaseModel, chosen: ExportFormat) -> None:
    """Refuses a format that does not work for a model here, as far as can be told without writing it.

    Raises:
        ExportError: it does not; the message names formats that do.
    """
    refusal = _refusal(base, chosen)
    if refusal is not None:
        raise ExportError(refusal, _others(base, chosen))


def write_export(
    folder: Path,
    base: BaseModel,
    chosen: ExportFormat,
    probe: Tensor,
    *,
    program: Program | None = None,
    labels: Sequence[Label] = (),
) -> float:
    """Writes a model and compares it, opened by the package that the format is for, with the model itself.

    Args:
        folder: one that exists and is empty.
        base: the model, on the CPU in float32.
        chosen: the format.
        probe: float32 [4, D], unit rows: features of the probe images, stored when the version was registered.
        program: of the base's image tower; `onnx` and `openvino` need it.
        labels: with `onnx` and `openvino`, whose head is written as `head.npy` [C, D] with `labels.json`; may be empty.

    Returns:
        The lowest cosine of the comparison.

    Raises:
        ExportError: the format does not work for this model.
        ProbeError: the package computes other features.
    """
    require_exportable(base, chosen)
    try:
        return _write(folder, base, chosen, probe, program, labels)
    except ExportError as error:
        usable = [each for each in _others(base, chosen) if chosen == "transformers" or each not in _TRACED]
        raise ExportError(error.reason, usable) from error


def _write(
    folder: Path, base: BaseModel, chosen: ExportFormat, probe: Tensor, program: Program | None, labels: Sequence[Label]
) -> float:
    if chosen == "open_clip":
        write_model(folder, base, base.visual)
        return 1.0
    if chosen == "transformers":
        write_transformers(folder, base)
        return prove_transformers(folder, base, probe)
    if program is None:
        raise ExportError("torch cannot write this image tower as ONNX")
    write_head(folder, base, labels)
    if chosen == "onnx":
        write_onnx(folder, base, program)
        return prove_onnx(folder, base, probe)
    write_openvino(folder, base, program)
    return prove_openvino(folder, base, probe)


def write_head(folder: Path, base: BaseModel, labels: Sequence[Label]) -> None:
    """Writes the zero-shot head of these labels, if there are any: unit rows, in their order."""
    if not labels:
        return
    rows = [build_head(base, [label.name], label.templates) for label in labels]
    np.save(folder / HEAD_NAME, torch.cat(rows).cpu().numpy(), allow_pickle=False)
    told = [{"name": label.name, "templates": label.templates} for label in labels]
    (folder / LABELS_NAME).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def usable_formats(base: BaseModel) -> tuple[ExportFormat, ...]:
    """The formats that work for a model here, as far as can be told without writing it."""
    return tuple(each for each in FORMATS if _refusal(base, each) is None)


def _others(base: BaseModel, chosen: ExportFormat) -> list[str]:
    return [each for each in usable_formats(base) if each != chosen]


def _refusal(base: BaseModel, chosen: ExportFormat) -> str | None:
    if missing := [name for name in _NEEDED[chosen] if importlib.util.find_spec(name) is None]:
        return f"{', '.join(missing)} not installed on this machine; install paintbox[{_EXTRA[chosen]}]"
    if chosen == "transformers":
        try:
            map_model(base)
        except ExportError as error:
            return error.reason
    return None
