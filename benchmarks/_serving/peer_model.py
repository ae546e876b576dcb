"""What every peer serves: open_clip's own model and transform, and the features of a label set computed once.

Written as a careful user of these frameworks would: inference mode, threads that decode, a cache of heads. Nothing of
Paintbox is imported.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

TEMPLATE = "a photo of a {}."


class Classifier:
    """A zero-shot classifier.

    Args:
        folder: open_clip's folder of the model.
    """

    def __init__(self, folder: str) -> None:
        self._model, self.transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        self._model.eval()
        self._dtype = torch.bfloat16 if os.environ.get("PEER_DTYPE") == "bf16" else torch.float32
        self._model.visual.to(self._dtype)
        self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self.pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        self.head = lru_cache(64)(self._build_head)

    def decode(self, image: bytes) -> Tensor:
        """Return the picture as the model reads it: [3, S, S]."""
        pixels: Tensor = self.transform(Image.open(io.BytesIO(image)))
        return pixels

    def decode_all(self, images: Sequence[bytes]) -> Tensor:
        """Return pictures [B, 3, S, S], decoded by a thread a core."""
        return torch.stack(list(self.pool.map(self.decode, images)))

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """Return unit features [B, D]."""
        return F.normalize(self._model.encode_image(pixels.to(self._dtype)).float(), dim=-1)

    @torch.inference_mode()
    def rank(self, features: Tensor, labels: tuple[str, ...], top_k: int) -> list[list[dict[str, Any]]]:
        """Return the best labels of each image with score and cosine."""
        cosines = features @ self.head(labels).T
        scores = (self._model.logit_scale.exp() * cosines).softmax(dim=-1)
        best = cosines.topk(min(top_k, len(labels)), dim=-1).indices
        rows = zip(best.tolist(), scores.tolist(), cosines.tolist(), strict=True)
        return [
            [{"label": labels[index], "score": score[index], "cosine": cosine[index]} for index in order]
            for order, score, cosine in rows
        ]

    @torch.inference_mode()
    def _build_head(self, labels: tuple[str, ...]) -> Tensor:
        tokens = self._tokenizer([TEMPLATE.format(label) for label in labels])
        return F.normalize(self._model.encode_text(tokens), dim=-1)
