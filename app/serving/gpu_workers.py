"""The workers of a GPU: threads that decode, and one that owns the device.

It takes the next batch whenever the device is free; under load the queue fills meanwhile, so batches grow by
themselves. Two batches are in flight where the runner allows it: while the device computes one, the next one is put
together and sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.serving.batch import InFlightBatch, complete, submit
from app.serving.health import Health
from app.serving.image_queue import Batch, BatchPolicy, DecodeQueue, ModelQueues
from app.serving.request import InferenceRequest


class GpuWorkers:
    """Threads that decode into a second queue, from which the thread of the device takes batches.

    Args:
        policy: How large batches are and how long they wait.
        decode_threads: Threads that decode.
        on_batch: Called with the number of images of each forward pass.
        health: Records failures of forward passes.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        decode_threads: int,
        on_batch: Callable[[int], object] = int,
        health: Health | None = None,
    ) -> None:
        self._policy = policy
        self._on_batch = on_batch
        self._health = health or Health()
        self._lock = threading.Lock()
        self._decodable, self._forwardable = threading.Condition(self._lock), threading.Condition(self._lock)
        self._encoded, self._decoded = DecodeQueue(policy), ModelQueues(policy)
        self._num_decoding = 0
        self._since = 0.0  # when the oldest of the decoded images was decoded
        self._is_closing = False
        self._threads = [threading.Thread(target=self._forward, name="paintbox-forward", daemon=True)]
        self._threads += [
            threading.Thread(target=self._decode, name=f"paintbox-decode-{number}", daemon=True)
            for number in range(decode_threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, request: InferenceRequest) -> None:
        """Queue the images of a request; `RuntimeError` once the workers are closed."""
        with self._lock:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            if request.images:
                self._encoded.add(request)
                self._decodable.notify(request.num_images)
            else:
                self._add_decoded(request, range(request.num_images))

    def close(self) -> None:
        """Cancel what is not decoded, forward what is, and wait for the threads to end."""
        with self._lock:
            self._is_closing = True
            undecoded = list(self._encoded)
            self._decodable.notify_all()
            self._forwardable.notify_all()
        for request in undecoded:
            request.answer.cancel()
        for thread in self._threads:
            thread.join()

    def _decode(self) -> None:
        while (image := self._next_image()) is not None:
            ((request, indices),), is_large = image
            decoded = request.decode(indices)
            with self._lock:
                self._num_decoding -= 1
                if is_large:
                    self._encoded.end_large()
                    self._decodable.notify()
                self._add_decoded(request, decoded)
            del image, request  # or an idle thread would keep the last request and its model in memory

    def _next_image(self) -> tuple[Batch, bool] | None:
        with self._lock:
            while not self._is_closing:
                is_large = self._encoded.is_large_next()
                if is_large or self._encoded.next_small() is not None:
                    if image := self._encoded.take_large() if is_large else self._encoded.take_small(1):
                        self._num_decoding += 1
                        return image, is_large
                else:
                    self._decodable.wait()
            return None

    def _add_decoded(self, request: InferenceRequest, indices: list[int] | range) -> None:
        if indices:
            if not len(self._decoded):
                self._since = time.monotonic()
            self._decoded.add(request, indices)
        self._forwardable.notify()

    def _forward(self) -> None:
        in_flight: InFlightBatch | None = None
        while True:
            batch = self._next_batch(wait=in_flight is None)
            if batch is None and in_flight is None:
                return
            started = submit(batch, self._on_batch, self._health) if batch is not None else None
            if in_flight is not None:
                complete(in_flight, self._health)
            in_flight = started
            if in_flight is not None and in_flight.batch[0][0].model.runner.depth == 1:
                complete(in_flight, self._health)
                in_flight = None
            del batch, started  # or an idle thread would keep the last model in memory

    def _next_batch(self, *, wait: bool) -> Batch | None:
        """Return the next batch; None: there is none now, or, having waited, the workers are closed and all is done."""
        with self._lock:
            while True:
                waiting = self._decoded.next()
                now = time.monotonic()
                if waiting is not None and (waiting[1] >= self._policy.max_batch(waiting[0]) or self._is_due(now)):
                    self._since = now
                    if batch := self._decoded.take(self._policy.max_batch(waiting[0])):
                        return batch
                elif not wait or (self._is_closing and not self._num_decoding and waiting is None):
                    return None
                else:
                    left = self._since + self._policy.wait_seconds - now
                    self._forwardable.wait(left if waiting is not None and left > 0 else None)

    def _is_due(self, now: float) -> bool:
        """Return whether what is decoded should wait for nothing else."""
        is_decoding = self._num_decoding or self._encoded.num_normal
        if not self._decoded.num_normal:  # images of low priority wait for all others
            return not is_decoding
        return not is_decoding or self._is_closing or now - self._since >= self._policy.wait_seconds
