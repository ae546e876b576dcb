"""The workers of a GPU: threads that decode, and one that owns the device.

It takes the next batch whenever the device is free; under load the queue fills meanwhile, so batches grow by
themselves. Two batches are in flight where the runner allows it: while the device computes one, the next one is put
together and sent.
"""

from __future__ import annotations

import threading
import time

from app.serving.batch import BatchRunner, InFlightBatch, decode
from app.serving.batch_policy import BatchPolicy
from app.serving.batch_queue import BatchQueue
from app.serving.model import Model
from app.serving.model_queues import ModelQueues
from app.serving.request import Batch, InferenceRequest


class GpuWorkers:
    """Threads that decode image by image into a second queue, from which the thread of the device takes batches.

    Args:
        policy: How large batches are and how long they wait.
        decode_threads: Threads that decode.
        runner: Runs the batches.
    """

    def __init__(self, policy: BatchPolicy, decode_threads: int, runner: BatchRunner) -> None:
        self._policy = policy
        self._runner = runner
        self._encoded = BatchQueue(policy, decode_threads, max_part=1)
        self._decoded = ModelQueues(policy)
        self._changed = threading.Condition()
        self._since = 0.0  # when the oldest of the decoded images was decoded
        self._is_closing = False
        self._device = threading.Thread(target=self._forward, name="paintbox-forward", daemon=True)
        self._decoders = [
            threading.Thread(target=self._decode, name=f"paintbox-decode-{number}", daemon=True)
            for number in range(decode_threads)
        ]
        for thread in (self._device, *self._decoders):
            thread.start()

    def put(self, request: InferenceRequest) -> None:
        """Queue the images of a request; `RuntimeError` once the workers are closed."""
        if request.images:
            self._encoded.put(request)
        else:
            self._put_decoded([(request, list(range(request.num_images)))])

    def close(self) -> None:
        """Cancel what is not decoded, forward what is, and wait for the threads to end."""
        self._encoded.close()
        for thread in self._decoders:
            thread.join()
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._device.join()

    def _decode(self) -> None:
        while (task := self._encoded.next_task()) is not None:
            batch = decode(task.batch)
            self._encoded.end(task)
            self._put_decoded(batch)
            del task, batch  # or an idle thread would keep the last request and its model in memory

    def _put_decoded(self, batch: Batch) -> None:
        with self._changed:
            if self._is_closing:
                raise RuntimeError("the engine is closed")
            if not len(self._decoded):
                self._since = time.monotonic()
            for request, indices in batch:
                self._decoded.add(request, indices)
            self._changed.notify()

    def _forward(self) -> None:
        in_flight: InFlightBatch | None = None
        while True:
            batch = self._next_batch(wait=in_flight is None)
            if batch is None and in_flight is None:
                return
            started = self._runner.submit(batch) if batch is not None else None
            if in_flight is not None:
                self._runner.complete(in_flight)
            in_flight = started
            if in_flight is not None and in_flight.batch[0][0].model.runner.depth == 1:
                self._runner.complete(in_flight)
                in_flight = None
            del batch, started  # or an idle thread would keep the last model in memory

    def _next_batch(self, *, wait: bool) -> Batch | None:
        """Return the next batch; None: there is none now, or, having waited, the workers are closed and all is done."""
        with self._changed:
            while True:
                waiting = self._decoded.next()
                if waiting is not None and self._is_due(*waiting):
                    self._since = time.monotonic()
                    if batch := self._decoded.take(self._policy.max_batch(waiting[0])):
                        return batch
                elif not wait or (self._is_closing and waiting is None):
                    return None
                else:
                    left = self._since + self._policy.wait_seconds - time.monotonic()
                    self._changed.wait(left if waiting is not None and left > 0 else None)

    def _is_due(self, model: Model, num_images: int) -> bool:
        """Return whether the decoded images of a model should wait for nothing else."""
        if num_images >= self._policy.max_batch(model) or not self._encoded.is_busy():
            return True
        is_late = time.monotonic() - self._since >= self._policy.wait_seconds
        return is_late and self._decoded.num_normal > 0  # images of low priority wait for all others
