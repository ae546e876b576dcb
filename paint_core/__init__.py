"""Patching of open-vocabulary image classifiers as pure functions on tensors.

The numerical library: it loads CLIP models through open_clip, fine-tunes their image tower against a frozen zero-shot
head, interpolates between the weights before and after (PAINT, Ilharco et al., NeurIPS 2022, arXiv 2208.05592) and
chooses the mixing coefficient. It knows no web, database, queue or environment, prints nothing, and changes none of
its arguments. `docs/library.md` shows how to use it.

Names are imported when they are first used (PEP 562), so that `paint_core.starter` can be asked for its paths without
loading torch.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from paint_core.alpha import AlphaOptions, WeightPath, evaluate_curve, search_alpha
    from paint_core.config.finetune import FinetuneConfig
    from paint_core.data import LabelledImages, Task, decode_all, load_image_folder, split_off_validation
    from paint_core.errors import PaintCoreError
    from paint_core.evaluation import Score, encode, evaluate, predictions
    from paint_core.images.preprocess import Preprocess
    from paint_core.merging import merge
    from paint_core.models import BaseModel, Hub, build_head, encode_texts, load_base, write_model
    from paint_core.patching import PatchPlan, PatchResult, run_patch
    from paint_core.training.finetuning import finetune
    from paint_core.weights import (
        Term,
        load_task_vector,
        mix,
        mix_into,
        mixed_copy,
        save_task_vector,
        task_vector,
    )

__all__ = [
    "AlphaOptions",
    "BaseModel",
    "FinetuneConfig",
    "Hub",
    "LabelledImages",
    "PaintCoreError",
    "PatchPlan",
    "PatchResult",
    "Preprocess",
    "Score",
    "Task",
    "Term",
    "WeightPath",
    "__version__",
    "build_head",
    "decode_all",
    "encode",
    "encode_texts",
    "evaluate",
    "evaluate_curve",
    "finetune",
    "load_base",
    "load_image_folder",
    "load_task_vector",
    "merge",
    "mix",
    "mix_into",
    "mixed_copy",
    "predictions",
    "run_patch",
    "save_task_vector",
    "search_alpha",
    "split_off_validation",
    "task_vector",
    "write_model",
]

_NAMES_OF = {
    "alpha": ("AlphaOptions", "WeightPath", "evaluate_curve", "search_alpha"),
    "config.finetune": ("FinetuneConfig",),
    "data": ("LabelledImages", "Task", "decode_all", "load_image_folder", "split_off_validation"),
    "errors": ("PaintCoreError",),
    "evaluation": ("Score", "encode", "evaluate", "predictions"),
    "images.preprocess": ("Preprocess",),
    "merging": ("merge",),
    "models": ("BaseModel", "Hub", "build_head", "encode_texts", "load_base", "write_model"),
    "patching": ("PatchPlan", "PatchResult", "run_patch"),
    "training.finetuning": ("finetune",),
    "weights": ("Term", "load_task_vector", "mix", "mix_into", "mixed_copy", "save_task_vector", "task_vector"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("paintbox")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
