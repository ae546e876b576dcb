"""From a classify request to sorted predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from torch import Tensor

from app.classify.schemas import Classification, ClassifyOptions, ImageResult, Prediction
from app.errors import ImageRefusedError, LabelsRefusedError
from app.services import Services
from app.settings import AppSettings
from registry.contract import ACTIVE_ALIAS, DatasetState
from registry.datasets import Datasets
from registry.errors import RequestRefusedError


async def classify(services: Services, images: Sequence[bytes], options: ClassifyOptions) -> Classification:
    """Return the predictions for every image, all by the version that is served at this moment.

    Args:
        services: The application's services.
        images: Encoded images.
        options: Labels and the rest.

    Returns:
        Predictions, best first.

    Raises:
        ModelNotLoadedError: No version is served.
        ImageRefusedError: An image cannot be used; the first such is named.
        LabelsRefusedError: The labels cannot be used.
        QueueFullError: Too many images are waiting.
    """
    model = services.engine.require_served()
    _check_images(images, services.settings)
    classnames, templates = await _label_set(services, options)
    templates = options.templates or templates or model.base.default_templates
    _check_labels(classnames, templates, services.settings)
    scored = await services.engine.score(model, images, classnames, templates)
    services.metrics.count_images(model.version_id, len(images))
    return Classification(
        version=model.version_id,
        alias=ACTIVE_ALIAS,
        templates=list(templates),
        results=await run_in_threadpool(_rank, classnames, scored.scores, scored.cosines, options.top_k),
        timing_ms=scored.timing_ms,
    )


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
