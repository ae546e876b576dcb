"""From a classify request to sorted predictions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from torch import Tensor

from app.classify.schemas import Classification, ClassifyOptions, ImageResult, Prediction
from app.errors import EdgeError, ImageRefusedError, LabelsRefusedError
from app.services import Services
from app.serving.model import ServedModel
from app.serving.routing import is_in_share
from app.serving.scoring import scores
from app.serving.shadow import Answered
from app.settings import AppSettings
from paint_core.errors import PaintCoreError
from registry.contract import ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS, DatasetState
from registry.datasets import Datasets
from registry.errors import RequestRefusedError


async def classify(
    services: Services, images: Sequence[bytes], options: ClassifyOptions, key: str = ""
) -> tuple[Classification, Answered | None]:
    """Return the predictions for every image, all by one version: the one that is served at this moment, or the canary.

    Args:
        services: The application's services.
        images: Encoded images.
        options: Labels and the rest.
        key: Who asks; the same one is answered by the same of the two.

    Returns:
        Predictions, best first; and what the shadow may be asked too, if `active` answered.

    Raises:
        ModelNotLoadedError: No version is served.
        ImageRefusedError: An image cannot be used; the first such is named.
        LabelsRefusedError: The labels cannot be used.
        QueueFullError: Too many images are waiting.
    """
    model, alias = _choose(services, key)
    _check_images(images, services.settings)
    classnames, templates = await _label_set(services, options)
    templates = options.templates or templates or model.base.default_templates
    _check_labels(classnames, templates, services.settings)
    started = time.perf_counter()
    try:
        scored = await services.engine.score(model, images, classnames, templates)
    except (EdgeError, PaintCoreError):  # what was asked is to blame, or the queue is full
        raise
    except Exception:
        services.metrics.count_failure(model.version_id)
        raise
    services.metrics.count_images(model.version_id, len(images), time.perf_counter() - started)
    shares = scores(scored.cosines, model.scale, model.bias, multi_label=False)
    answer = Classification(
        version=model.version_id,
        alias=alias,
        templates=list(templates),
        results=await run_in_threadpool(_rank, classnames, shares, scored.cosines, options.top_k),
        timing_ms=scored.timing_ms,
    )
    if alias != ACTIVE_ALIAS or services.engine.beside(SHADOW_ALIAS) is None:
        return answer, None  # nothing is kept for a comparison that will not be made
    return answer, Answered(model, images, scored.pixels, classnames, templates, scored.cosines.argmax(dim=1))


def _choose(services: Services, key: str) -> tuple[ServedModel, str]:
    """Return who answers, and by the name of which alias."""
    served, canary = services.engine.require_served(), services.engine.beside(CANARY_ALIAS)
    if canary is not None and is_in_share(key, services.settings.canary_share):
        return canary, CANARY_ALIAS
    return served, ACTIVE_ALIAS


async def _label_set(services: Services, options: ClassifyOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classnames and the templates that come with them, if any do."""
    if options.candidate_labels is not None:
        return options.candidate_labels, ()
    assert options.dataset is not None
    return await run_in_threadpool(_dataset_labels, services, options.dataset)


def _dataset_labels(services: Services, identifier: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with services.database.read() as session:
        row = Datasets(session).get(identifier)
    if row.state != DatasetState.READY:
        raise RequestRefusedError(
            "dataset_not_ready", f"Data set {identifier} is {row.state}.", f"Wait until job {row.job_id} has succeeded."
        )
    return tuple(row.classnames or ()), tuple(row.templates or ())


def _check_images(images: Sequence[bytes], settings: AppSettings) -> None:
    if not images:
        raise ImageRefusedError("no_images", 0, "is missing", "Send one image or more as `images`.")
    if len(images) > settings.max_images_per_request:
        limit = settings.max_images_per_request
        raise ImageRefusedError(
            "too_many_images", limit, f"is one too many ({len(images)} sent)", "Send them in parts."
        )
    for index, image in enumerate(images):
        if len(image) > settings.max_image_bytes:
            raise ImageRefusedError(
                "image_too_large", index, f"is larger than {settings.max_image_bytes} bytes", "Send a smaller one."
            )


def _check_labels(classnames: tuple[str, ...], templates: tuple[str, ...], settings: AppSettings) -> None:
    if not classnames:
        raise LabelsRefusedError("no_labels", "There are no labels.", "Send one or more as `candidate_labels`.")
    twice = [label for label, count in Counter(classnames).items() if count > 1]
    if twice:
        raise LabelsRefusedError("duplicate_label", f"The label {twice[0]!r} is there twice.", "Send each label once.")
    if len(classnames) > settings.max_labels or len(classnames) * len(templates) > settings.max_prompts:
        raise LabelsRefusedError(
            "too_many_labels",
            f"{len(classnames)} labels with {len(templates)} templates each are too many.",
            f"Send at most {settings.max_labels} labels and {settings.max_prompts} prompts.",
        )


def _rank(classnames: tuple[str, ...], scores: Tensor, cosines: Tensor, top_k: int | None) -> list[ImageResult]:
    orders = cosines.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    return [
        ImageResult(index=index, predictions=_predictions(classnames, *rows))
        for index, rows in enumerate(zip(orders.tolist(), scores.tolist(), cosines.tolist(), strict=True))
    ]


def _predictions(
    classnames: tuple[str, ...], order: list[int], scores: list[float], cosines: list[float]
) -> list[Prediction]:
    return [Prediction(label=classnames[label], score=scores[label], cosine=cosines[label]) for label in order]
