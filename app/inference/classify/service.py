"""From a classify request to its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from app.http.errors import EdgeError, OutOfMemoryError
from app.inference.choosing import VersionChooser
from app.inference.classify.ranking import rank
from app.inference.classify.schemas import ClassifyOptions
from app.inference.image_requests import check_images
from app.inference.label_sets.known import KnownLabels
from app.inference.routing import Judged, judge
from app.labels.checks import check_given, check_size, warn_of
from app.labels.stored import Labels, LabelSource, StoredLabels
from app.metrics.metrics import Metrics
from app.models.served_model import ServedModel
from app.models.shadow import Answered
from app.sampling.sampler import Sampler
from app.serving.engine import Engine
from app.settings import AppSettings
from contract.versions import ACTIVE_ALIAS, SHADOW_ALIAS
from paint_core.errors import PaintCoreError

_QUICK_COSINES, _QUICK_PREDICTIONS = 8192, 256


@dataclass(frozen=True, eq=False)
class Classified:
    """Images that one version has looked at.

    Attributes:
        model: The version.
        alias: By which name it was found; None: by its id.
        labels: What the images may show, and the prompts.
        judged: What it says.
    """

    model: ServedModel
    alias: str | None
    labels: Labels
    judged: Judged


@dataclass(frozen=True, eq=False)
class Answer:
    """What a classify request is answered.

    Attributes:
        version_id: The version that answered.
        json: The body, as `app.inference.classify.schemas.Classification` says.
        offer: What the shadow may be asked too; None: nothing.
        keep: Offers the images to the sampler; None: nothing may be kept.
    """

    version_id: int
    json: bytes
    offer: Answered | None
    keep: Callable[[], None] | None = None


@dataclass(frozen=True)
class Classifier:
    """Classifies images.

    Attributes:
        settings: Hold the limits.
        engine: Scores the images.
        chooser: Chooses the version that answers.
        labels: The stored ones.
        metrics: Count what is answered.
        sampler: Keeps images to be labelled.
    """

    settings: AppSettings
    engine: Engine
    chooser: VersionChooser
    labels: StoredLabels
    metrics: Metrics
    sampler: Sampler

    async def answer(
        self,
        images: Sequence[bytes],
        options: ClassifyOptions,
        key: str,
        caller: str,
        started: float,
        owner: str | None = None,
    ) -> Answer:
        """Return the answer to a request.

        Args:
            images: Encoded images.
            options: Labels and the rest.
            key: Who asks; the same one is answered by the same of `active` and the canary.
            caller: Whose turn it takes.
            started: When the request came, by `time.monotonic()`.
            owner: Name of the key that asks.

        Returns:
            What is sent, and what may be done afterwards. Errors as for `classify`.
        """
        classified = await self.classify(images, options, key, caller, options.deadline(started))
        if _is_quick(classified, options):
            body = _render(classified, options)
        else:
            body = await run_in_threadpool(_render, classified, options)
        offer, keep = self.offer_to_shadow(images, options, classified), None
        if self.sampler.is_on and options.keep:
            offer = None if offer is None else replace(offer, owner=owner, may_be_kept=True)
            if options.version is None:
                names, scores = classified.labels.classnames, partial(classified.judged.scores, multi_label=False)
                keep = partial(self.sampler.offer_answer, images, names, scores, classified.model.version_id, owner)
        return Answer(classified.model.version_id, body, offer, keep)

    async def classify(
        self,
        images: Sequence[bytes],
        options: ClassifyOptions,
        key: str = "",
        caller: str = "",
        deadline: float | None = None,
    ) -> Classified:
        """Return what one version says of every image: the one that the request names, the served one, or the canary.

        Args:
            images: Encoded images.
            options: Labels and the rest.
            key: Who asks; the same one is answered by the same of `active` and the canary.
            caller: Whose turn it takes.
            deadline: When the answer is worth nothing any more, by `time.monotonic()`; None: never.

        Returns:
            The version, the labels and the cosines.

        Raises:
            ModelNotLoadedError: No version is served.
            NotFoundError: There is no such version, label set or data set.
            ImageRefusedError: An image cannot be used; the first such is named.
            LabelsRefusedError: The labels cannot be used.
            QueueFullError: Too many images or texts are waiting.
            OutOfMemoryError: The device had no memory left.
            DeadlineExceededError: The deadline has passed.
        """
        check_images(images, self.settings)
        model, alias = await self.chooser.choose(options.version, key, deadline)
        named = await self._find_labels(options)
        labels = Labels(named.classnames, options.prompts or named.templates or model.base.default_templates)
        check_size(len(labels.classnames), len(labels.templates), self.settings)
        started = time.perf_counter()
        try:
            judged = await judge(
                self.engine, model, images, labels.classnames, labels.templates, caller=caller, deadline=deadline
            )
        except Exception as error:
            if isinstance(error, EdgeError | PaintCoreError) and not isinstance(error, OutOfMemoryError):
                raise  # what was asked is to blame, or the queue is full
            self.metrics.count_failure(model.version_id)
            raise
        self.metrics.count_images(model.version_id, len(images), time.perf_counter() - started)
        return Classified(model, alias, labels, judged)

    def offer_to_shadow(
        self, images: Sequence[bytes], options: ClassifyOptions, classified: Classified
    ) -> Answered | None:
        """Return what the shadow may be asked too; None: nothing, since no comparison will be made.

        Args:
            images: Encoded images.
            options: What was asked.
            classified: What was answered.

        Returns:
            For `app.models.shadow.Shadow.offer`.
        """
        is_own = classified.judged.route in (None, "patched")  # not what the base said for it
        is_traffic = options.version is None and classified.alias == ACTIVE_ALIAS and is_own
        if not is_traffic or self.chooser.versions.serving(SHADOW_ALIAS) is None:
            return None
        labels, scored = classified.labels, classified.judged.scored
        best = scored.cosines.argmax(dim=1)
        return Answered(classified.model, images, scored.pixels, labels.classnames, labels.templates, best)

    async def _find_labels(self, options: ClassifyOptions) -> Labels:
        """Return the labels, which have been checked, and the templates that come with them, if any do."""
        if options.candidate_labels is not None:
            if not isinstance(options.candidate_labels, KnownLabels):
                check_given(options.candidate_labels)
            return Labels(options.candidate_labels, ())
        if options.label_set is not None:
            return await self.labels.get(LabelSource.LABEL_SET, options.label_set)
        assert options.dataset is not None
        return await self.labels.get(LabelSource.DATASET, options.dataset)


def _is_quick(classified: Classified, options: ClassifyOptions) -> bool:
    """Return whether rendering takes less time than handing it to a thread, some tens of microseconds."""
    num_images, num_labels = classified.judged.scored.cosines.shape
    num_predictions = num_images * min(options.top_k or num_labels, num_labels)
    return num_images * num_labels <= _QUICK_COSINES and num_predictions <= _QUICK_PREDICTIONS


def _render(classified: Classified, options: ClassifyOptions) -> bytes:
    model, labels, judged = classified.model, classified.labels, classified.judged
    scores, cosines = judged.scores(multi_label=options.multi_label), judged.cosines()
    top_k, threshold = options.top_k, options.threshold
    content = {
        "version": model.version_id,
        "alias": classified.alias,
        "precision": model.precision.precision,
        "templates": labels.templates,
        "results": rank(labels.classnames, scores, cosines, top_k=top_k, threshold=threshold),
        "timing_ms": judged.scored.timing_ms,
    }
    if judged.route is not None:
        content["route"] = judged.route
    warnings = warn_of(labels.classnames, multi_label=options.multi_label)
    return to_json(content | {"warnings": warnings} if warnings else content)
