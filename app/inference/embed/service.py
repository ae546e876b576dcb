"""From an embed request to its answer."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from app.inference.choosing import VersionChooser
from app.inference.embed.schemas import EmbedBody
from app.inference.image_requests import check_images
from app.models.served_model import ServedModel
from app.serving.engine import Engine
from app.settings import AppSettings
from registry.errors import RequestRefusedError


@dataclass(frozen=True)
class Embedder:
    """Embeds images and texts.

    Attributes:
        settings: Hold the limits.
        engine: Embeds them.
        chooser: Chooses the version that answers.
    """

    settings: AppSettings
    engine: Engine
    chooser: VersionChooser

    async def embed(self, asked: EmbedBody, caller: str, started: float) -> tuple[int, bytes]:
        """Return the version that answered, and the answer: unit embeddings of every image or text.

        The canary never answers unless it is named: embeddings that are kept together have to be of one version.

        Args:
            asked: Images or texts, and the rest.
            caller: Whose turn it takes.
            started: When the request came, by `time.monotonic()`.

        Returns:
            The version's id, and the body as `app.inference.embed.schemas.Embeddings` says.
        """
        _check(asked, self.settings)
        deadline = asked.deadline(started)
        model, alias = await self.chooser.choose(asked.version, None, deadline)
        features = await self._features(model, asked, caller, deadline)
        timing_ms = {"total": round(1000 * (time.monotonic() - started), 3)}
        precision = "fp32" if asked.texts is not None else model.precision.precision
        told = {"version": model.version_id, "alias": alias, "precision": precision, "dim": features.shape[1]}
        return model.version_id, await run_in_threadpool(_render, told, features, asked.encoding_format, timing_ms)

    async def _features(self, model: ServedModel, asked: EmbedBody, caller: str, deadline: float | None) -> Tensor:
        if asked.texts is not None:
            return await self.engine.embed_texts(model, asked.texts, caller=caller, deadline=deadline)
        assert asked.images is not None
        return await self.engine.embed_images(model, asked.images, caller=caller, deadline=deadline)


def _check(asked: EmbedBody, settings: AppSettings) -> None:
    if asked.texts is None:
        check_images(asked.images or (), settings)
    elif not asked.texts:
        raise RequestRefusedError("no_texts", "No texts were sent.", "Send at least one text as `texts`.")
    elif len(asked.texts) > settings.max_prompts:
        advice = f"Send at most {settings.max_prompts} at once."
        raise RequestRefusedError("too_many_texts", f"Too many texts: {len(asked.texts)}.", advice)


def _render(told: dict[str, Any], features: Tensor, encoding_format: str, timing_ms: dict[str, float]) -> bytes:
    rows = features.numpy()
    encoded = _in_base64(rows) if encoding_format == "base64" else rows.tolist()
    embeddings = [{"index": index, "embedding": embedding} for index, embedding in enumerate(encoded)]
    return to_json({**told, "embeddings": embeddings, "timing_ms": timing_ms})


def _in_base64(rows: NDArray[np.float32]) -> Sequence[str]:
    return [base64.b64encode(row.tobytes()).decode() for row in rows.astype("<f4", copy=False)]
