"""From the bytes of an image to what the image tower reads, in two halves that together equal open_clip's own.

The first half (decode, resize, crop, RGB) runs on the CPU and ends in uint8, which is small enough to keep: data sets
are cached at that point. The second half (scale, normalise) runs on the device, on whole batches.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.transform import MaybeConvertMode, MaybeToTensor, PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Resize
from torchvision.transforms.functional import pil_modes_mapping

from paint_core.errors import ImageDecodeError, ModelRefError
from paint_core.images.decoding import DECODER, DEFAULT_MAX_PIXELS, as_eight_bits, open_picture
from paint_core.images.rendering import as_shown, orientation_of, to_srgb

_LEAST_REDUCED = 1.5
"""Sides that a JPEG decoded at reduced scale keeps for the model's own resize, as a multiple of the model's. Over 120
photographs the starter's features had a cosine of at least 0.9997 with those of the plain path, and 0.9977 at 1.0."""
_SWAPPED = 4
"""EXIF orientations above it exchange the sides of the image."""
_FLIPPED = {2: (True, False), 3: (True, True), 4: (False, True), 6: (True, False), 7: (True, True), 8: (False, True)}
"""Orientations that show the last column or row first."""


class Preprocess:
    """A model's preprocessing; equal configurations give equal objects, and it can be pickled to a process pool."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Splits open_clip's evaluation transform of this configuration.

        Args:
            config: open_clip's `preprocess_cfg` (`size`, `mean`, `std`, `interpolation`, `resize_mode`, ...).
        """
        cfg = PreprocessCfg(**{**config, "size": _square(config.get("size", 224))})
        self.size: int = cfg.size[0]
        self.config: dict[str, Any] = {
            **{key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
            "size": list(cfg.size),
        }
        self.mean = tuple(float(value) for value in cfg.mean)
        self.std = tuple(float(value) for value in cfg.std)
        self._resize_mode = cfg.resize_mode
        steps = image_transform_v2(cfg, is_train=False).transforms
        border = next(index for index, step in enumerate(steps) if isinstance(step, MaybeToTensor))
        self._to_square = Compose([step for step in steps[:border] if not isinstance(step, MaybeConvertMode)])
        self._resize = next((step for step in steps[:border] if isinstance(step, Resize)), None)

    @cached_property
    def config_json(self) -> str:
        """The configuration in one canonical line, for fingerprints."""
        return json.dumps(self.config, sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Preprocess) and self.config_json == other.config_json

    def __hash__(self) -> int:
        return hash(self.config_json)

    def decode(
        self,
        image_bytes: bytes,
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        reduced: bool = False,
        decoder: int = DECODER,
    ) -> NDArray[np.uint8]:
        """The image as the model sees it, before normalisation.

        Uses the first frame, as a viewer shows it: see `rendering.py`.

        Args:
            image_bytes: a JPEG, PNG, WebP, GIF, BMP or TIFF file.
            max_pixels: limit on width times height, before and after resizing; never above Pillow's own limit
                (about 89 million).
            reduced: whether a JPEG that is much larger than the model's input may be decoded at a half, a quarter or an
                eighth of its size, which costs less and moves features by a cosine of less than 0.001. For serving:
                training and measurements decode the whole image.
            decoder: version of the rules. 1 reads pixels as open_clip does, for earlier data sets: not rotated, not on
                white, and the higher eight of 16 bits.

        Returns:
            uint8 [S, S, 3].
        """
        with open_picture(image_bytes, max_pixels=max_pixels) as image:
            self._require_small(image.size, max_pixels)
            if decoder != DECODER:
                return np.array(self._to_square(as_eight_bits(image)).convert("RGB"), dtype=np.uint8)
            square = self._reduce(image) if reduced else None
            if square is None:
                square = self._to_square(as_shown(image))
            return np.array(to_srgb(square, image.info.get("icc_profile")), dtype=np.uint8)

    def normalise(
        self, images: Tensor, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The input batch of the image tower.

        Args:
            images: uint8 [B, S, S, 3], or float [B, S, S, 3] in 0..255 (an augmented batch).

        Returns:
            [B, 3, S, S], in memory channels-last.
        """
        batch = images.to(device) if device is not None else images
        batch = batch.permute(0, 3, 1, 2).to(torch.float32).div(255)
        mean = torch.tensor(self.mean, device=batch.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=batch.device).view(1, 3, 1, 1)
        return batch.sub_(mean).div_(std).to(dtype)

    def _reduce(self, image: Image.Image) -> Image.Image | None:
        """The square of a JPEG decoded at a fraction of its size, in the colours of the file; None: it is not to be."""
        if self._resize is None or self._resize_mode != "shortest":
            return None
        size = image.size
        least = int(_LEAST_REDUCED * self.size)
        drafted = image.draft(None, (least, least))  # None keeps the image's own mode
        if drafted is None or image.size == size:
            return None
        # The last row and column of a reduced JPEG may lie partly outside the picture: only the drafted box is inside.
        inside = drafted[1][2:]
        shown, turn = as_shown(image), orientation_of(image)
        swaps, flips = turn > _SWAPPED, _FLIPPED.get(turn, (False, False))
        if swaps:
            size, inside = size[::-1], inside[::-1]
        outside = [whole - end if flip else 0.0 for whole, end, flip in zip(shown.size, inside, flips, strict=True)]
        spans = [self._span(side, min(size), end) for side, end in zip(size, inside, strict=True)]
        (left, right), (top, bottom) = ((skip + a, skip + b) for skip, (a, b) in zip(outside, spans, strict=True))
        box = (left, top, right, bottom)
        return shown.resize((self.size, self.size), pil_modes_mapping[self._resize.interpolation], box=box)

    def _span(self, side: int, short: int, end: float) -> tuple[float, float]:
        """What torchvision's Resize and CenterCrop leave of a side, on a scale that goes up to `end`."""
        resized = self.size * side // short
        start = round((resized - self.size) / 2)
        return start * end / resized, min(end, (start + self.size) * end / resized)

    def _require_small(self, size: tuple[int, int], max_pixels: int) -> None:
        # The short side is resized to S before the crop, so a long thin strip would grow without bound.
        resized = self.size * self.size * max(size) // max(1, min(size))
        # The long side is resized to S, and nothing may be left of the short one (open_clip rounds as this does).
        vanishes = self._resize_mode == "longest" and round(self.size * min(size) / max(size)) < 1
        if vanishes or (self._resize_mode == "shortest" and resized > max_pixels):
            width, height = size
            raise ImageDecodeError(f"{width} x {height} has an extreme aspect ratio: crop the image")


def _square(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    if height != width:
        raise ModelRefError(f"the model expects {height} x {width} images: use a model with square input")
    return (int(height), int(width))
