"""BentoML with its adaptive batching. `python -m bentoml serve _serving.peer_bentoml:Classify --port PORT`.

Its batches take one argument only, so the labels are known at the start (`PEER_LABELS`), which spares it their parsing.
"""

from __future__ import annotations

import json
import os
from typing import Any

import bentoml
import torch
from PIL.Image import Image

from _serving.peer_model import Classifier

_LABELS = tuple(json.loads(os.environ["PEER_LABELS"]))


@bentoml.service(traffic={"timeout": 120}, logging={"access": {"enabled": False}})
class Classify:
    """Classifies images of several requests at once."""

    def __init__(self) -> None:
        self._classifier = Classifier(os.environ["PEER_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def classify(self, images: list[Image]) -> list[list[dict[str, Any]]]:
        """Classify images, decoded side by side."""
        pixels = torch.stack(list(self._classifier.pool.map(self._classifier.transform, images)))
        return self._classifier.rank(self._classifier.features(pixels), _LABELS, 5)
