"""How the adapters ask: as `POST /v1/classify` does, with the same canary and the same shadow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import BackgroundTasks, Depends, Header, Request

from app.access.callers import asker_of, turn_of
from app.http.dependencies import provided
from app.http.disconnects import cancelled_when_gone
from app.inference.classify.schemas import ClassifyOptions
from app.inference.classify.service import Classified, Classifier
from app.inference.image_requests import MAX_REQUEST_KEY, REQUEST_KEY, REQUEST_KEY_HEADER
from app.models.dependencies import ShadowDep
from app.models.shadow import Shadow


@dataclass(frozen=True)
class Asker:
    """Who asks, and what happens after they are answered.

    Attributes:
        classifier: Answers.
        shadow: Compares the version in shadow with what was answered.
        key: The same one is answered by the same of `active` and the canary.
        request: Whose body has been read.
        background: What is done once the answer is sent.
    """

    classifier: Classifier
    shadow: Shadow
    key: str
    request: Request
    background: BackgroundTasks

    async def ask(self, images: Sequence[bytes], options: ClassifyOptions, started: float) -> Classified:
        """Return what one version says of the images.

        Args:
            images: Encoded images.
            options: Labels and the rest.
            started: When the request came, by `time.monotonic()`.

        Returns:
            The version, the labels and the cosines; errors as for `Classifier.classify`.
        """
        async with cancelled_when_gone(self.request):
            classified = await self.classifier.classify(
                images, options, self.key, turn_of(self.request), options.deadline(started)
            )
        offer = self.classifier.offer_to_shadow(images, options, classified)
        if offer is not None:
            self.background.add_task(self.shadow.offer, offer)
        return classified


ClassifierDep = Annotated[Classifier, provided(Classifier)]


async def get_asker(
    classifier: ClassifierDep,
    shadow: ShadowDep,
    request: Request,
    background: BackgroundTasks,
    request_key: Annotated[
        str | None,
        Header(alias=REQUEST_KEY_HEADER, max_length=MAX_REQUEST_KEY, description=str(REQUEST_KEY["description"])),
    ] = None,
) -> Asker:
    """Return who asks."""
    return Asker(classifier, shadow, asker_of(request, request_key), request, background)


AskerDep = Annotated[Asker, Depends(get_asker)]
