"""How much processor time does an image take in each runtime and precision that can serve it, on one core?

PyTorch in fp32 and bf16, and ONNX Runtime in fp32 and int8, as `app.models.runner` runs them; OpenVINO's fp32 and bf16
where it is installed (`pip install openvino`). The same photographs, in turns in one process; with each way the lowest
cosine of a photograph's features with PyTorch's in fp32.

    OMP_NUM_THREADS=1 python benchmarks/runtimes.py [--quick] [--photos FOLDER] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _report import Figure, measure, medians, parser, report
from _serving.bodies import find_photos
from _serving.client import CHECKOUT
from _towers import load
from torch import Tensor, nn

from app.models.runner import build_runner
from paint_core.config.precision import ServingPrecision, has_bf16, has_int8
from paint_core.models import BaseModel
from paint_core.programs import Forward
from pipeline.programs import ProgramStore

BATCHES = {"starter": (1, 8, 16), "vitb32": (1, 8)}
"""Images of a batch."""


class _Whole(nn.Module):
    """A tower from pixels to unit features."""

    def __init__(self, base: BaseModel) -> None:
        super().__init__()
        self.visual = base.visual
        self._preprocess = base.preprocess

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.visual(self._preprocess.normalise(images)).float(), dim=-1)


def ways(base: BaseModel) -> dict[str, Forward]:
    """Return what can run the tower here, PyTorch in fp32 first."""
    program = ProgramStore().find(base)
    found: dict[str, Forward] = {"torch fp32": _served(base, "fp32", plain=True)}
    if has_bf16(base.device):
        found["torch bf16"] = _served(base, "bf16", plain=True)
    if program is not None:
        found["onnx fp32"] = _served(base, "fp32")
        if has_int8(base.device):
            found["onnx int8"] = _served(base, "int8")
    if find_spec("openvino") is not None:
        found |= {f"openvino {name}": _openvino(base, kind) for name, kind in (("fp32", "f32"), ("bf16", "bf16"))}
    return found


def _served(base: BaseModel, precision: ServingPrecision, *, plain: bool = False) -> Forward:
    runner = build_runner(base.visual, base, precision, None if plain else ProgramStore().find(base))
    return lambda images: torch.from_numpy(runner.submit(images)())


def _openvino(base: BaseModel, kind: str) -> Forward:
    openvino: Any = import_module("openvino")
    images = torch.zeros((3, base.image_size, base.image_size, 3), dtype=torch.uint8)
    model = openvino.convert_model(_Whole(base).eval(), example_input=images)
    model.reshape([-1, base.image_size, base.image_size, 3])
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": kind}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    return lambda images: torch.from_numpy(request.infer([images.numpy()])[0].copy())


def main() -> None:
    """Measure both towers."""
    arguments = parser(__doc__)
    arguments.add_argument("--photos", type=Path, metavar="FOLDER", help="photographs to encode")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    photos, source = find_photos(options.photos, CHECKOUT)
    print(source, flush=True)
    figures: list[Figure] = []
    samples = {}
    for tower, sizes in BATCHES.items():
        base = load(tower)
        forwards = ways(base)
        for size in sizes:
            decoded = [base.preprocess.decode(photo, reduced=True) for photo in photos[:size]]
            images = torch.stack([torch.from_numpy(each) for each in decoded])
            features = {name: forward(images) for name, forward in forwards.items()}
            runs: dict[str, Callable[[], object]] = {name: partial(run, images) for name, run in forwards.items()}
            found = measure(runs, 3 if options.quick else 9, time.process_time)
            middle, exact = medians(found), features["torch fp32"]
            for name, seconds in middle.items():
                cosine = float((features[name] * exact).sum(dim=1).min())
                print(f"{tower} x {size:2} {name:14} {1000 * seconds / size:8.3f} ms an image, cosine {cosine:.5f}")
                samples[f"{tower} x {size} {name}"] = found[name]
                if name != "torch fp32":
                    label = f"{tower}_{size}_{name.replace(' ', '_')}_over_torch_fp32"
                    figures.append(Figure(label, middle["torch fp32"] / seconds, "x"))
    report(figures, options.json, samples)


if __name__ == "__main__":
    main()
