"""One queue per model, for images that wait to be decoded or forwarded. Models, callers and requests take turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from app.runtime.round_robin import RoundRobin
from app.serving.batch_policy import BatchPolicy
from app.serving.model import Model
from app.serving.request import Batch, InferenceRequest

_COST_PER_MEGAPIXEL = 4


class ModelQueues:
    """Images by model; those of low priority are taken when there are no others. The owner's lock guards it.

    Args:
        policy: How large batches are.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._normal: dict[Model, RoundRobin[InferenceRequest]] = {}  # in the order of their turns
        self._low: dict[Model, RoundRobin[InferenceRequest]] = {}

    def __len__(self) -> int:
        """Return how many images wait."""
        return self.num_normal + sum(map(len, self._low.values()))

    def __iter__(self) -> Iterator[InferenceRequest]:
        """Iterate over the requests."""
        for queue in (*self._normal.values(), *self._low.values()):
            yield from queue

    @property
    def num_normal(self) -> int:
        """Images that wait, without those of low priority."""
        return sum(map(len, self._normal.values()))

    def add(self, request: InferenceRequest, indices: Iterable[int]) -> None:
        """Add images of a request."""
        queues = self._low if request.low_priority else self._normal
        queue = queues.get(request.model)
        if queue is None:
            turn = max(1, self._policy.max_batch(request.model) // 2)
            queue = queues[request.model] = RoundRobin(turn, caller_of, _cost_of)
        queue.add(request, indices)

    def next(self) -> tuple[Model, int] | None:
        """Return the model that `take` takes from, and how many of its images wait; None: no image waits."""
        queues = self._normal or self._low
        return next(((model, len(queue)) for model, queue in queues.items()), None)

    def take(self, max_images: int, held: Iterable[tuple[InferenceRequest, list[int]]] = ()) -> Batch:
        """Take images of one model, as many as cost no more to decode than a batch of ordinary photographs.

        `held` are those that the batch holds already. Abandoned requests are dropped, so the result may be empty.
        """
        queues = self._normal or self._low
        model, queue = next(iter(queues.items()))
        batch: dict[InferenceRequest, list[int]] = {}
        num_images, cost = 0, _cost_of_batch(held)
        while num_images < max_images and cost < self._policy.max_images:
            taken = queue.take(max_images - num_images)
            if taken is None:
                break
            request, indices = taken
            if request.is_abandoned():
                queue.drop(request)
                continue
            batch.setdefault(request, []).extend(indices)
            num_images += len(indices)
            cost += _cost_of_batch([(request, indices)])
        del queues[model]
        if len(queue):
            queues[model] = queue  # at the end: the other models come first
        return list(batch.items())


def caller_of(request: InferenceRequest) -> str:
    """Return in whose turns a request is."""
    return request.caller


def _cost_of_batch(batch: Iterable[tuple[InferenceRequest, list[int]]]) -> int:
    return sum(_cost_of(request, index) for request, indices in batch for index in indices)


def _cost_of(request: InferenceRequest, index: int) -> int:
    return max(1, round(_COST_PER_MEGAPIXEL * request.costs[index])) if request.costs else 1
