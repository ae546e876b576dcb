"""Comparing what another package computes with an exported model, with what the model itself computes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from paint_core.errors import ProbeError
from paint_core.evaluation import check_probe, probe_images
from paint_core.models import BaseModel
from paint_core.models.heads import encode_texts

TEXTS = ("a photo of a cat", "two hands holding a letter", "an icon of a train in the snow", "red")
"""Written as every tokenizer wants them: in lower case, without punctuation."""

ImageEncoder = Callable[[NDArray[np.uint8]], Tensor]
"""Pixels, uint8 [B, S, S, 3], to features, float32 [B, D] of any length."""

TextEncoder = Callable[[Sequence[str]], Tensor]
"""Texts to features, float32 [B, D] of any length."""


def prove(
    base: BaseModel, probe: Tensor, encode_images: ImageEncoder, encode_own_texts: TextEncoder, package: str
) -> float:
    """The lowest cosine between features of the opened model and of the written one.

    Args:
        base: the written model.
        probe: float32 [4, D], unit rows: the features of the probe images that were stored with the version.
        encode_images: by the other package.
        encode_own_texts: by the other package, with the tokenizer of the written files.
        package: its name, for the message.

    Raises:
        ProbeError: a cosine is below 0.999.
    """
    images = F.normalize(encode_images(probe_images(base.image_size).numpy()).float(), dim=-1)
    texts = F.normalize(encode_own_texts(TEXTS).float(), dim=-1)
    expected = encode_texts(base, TEXTS).cpu()
    for features, wanted, tower in ((images, probe, "image"), (texts, expected, "text")):
        try:
            check_probe(features, wanted)
        except ProbeError as error:
            raise ProbeError(f"{package} computes other features with the exported {tower} tower: {error}") from error
    return float(torch.cat([(images * probe).sum(dim=-1), (texts * expected).sum(dim=-1)]).min())
