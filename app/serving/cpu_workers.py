"""The workers of a CPU: one thread per core, each of which decodes and forwards batches of its own.

No layer of a forward pass waits for another thread, and no image is handed from thread to thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.serving.batch import complete, decode, submit
from app.serving.batch_queue import BatchQueue, Task
from app.serving.cores import take_cores
from app.serving.health import Health
from app.serving.image_queue import Batch, BatchPolicy
from app.serving.request import InferenceRequest


class CpuWorkers:
    """Threads that take batches from one queue.

    A forward pass on several cores runs in a thread of its own, which keeps its OpenMP helpers (`app.serving.cores`).

    Args:
        policy: How large batches are; `num_cores` is the number of threads.
        on_batch: Called with the number of images of each forward pass.
        health: Records failures of forward passes.
    """

    def __init__(
        self, policy: BatchPolicy, on_batch: Callable[[int], object] = int, health: Health | None = None
    ) -> None:
        self._queue = BatchQueue(policy)
        self._on_batch = on_batch
        self._health = health or Health()
        self._shared = ThreadPoolExecutor(1, thread_name_prefix="paintbox-cores")
        self._threads = [
            threading.Thread(target=self._run, name=f"paintbox-core-{number}", daemon=True)
            for number in range(policy.num_cores)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, request: InferenceRequest) -> None:
        """Queue the images of a request; `RuntimeError` once the workers are closed."""
        self._queue.put(request)

    def close(self) -> None:
        """Cancel what is not decoded, forward what is, and wait for the threads to end."""
        self._queue.close()
        for thread in self._threads:
            thread.join()
        self._shared.shutdown()

    def _run(self) -> None:
        take_cores(1)
        while (task := self._queue.next_task()) is not None:
            self._do(task)
            self._queue.end(task)
            del task  # or an idle thread would keep the last request and its model in memory

    def _do(self, task: Task) -> None:
        batch = decode(task.batch)
        self._queue.begin_forward(task)
        if batch and task.num_cores == 1:
            self._forward(batch)
        elif batch:
            self._shared.submit(self._forward_on, task.num_cores, batch).result()

    def _forward_on(self, num_cores: int, batch: Batch) -> None:
        take_cores(num_cores)
        self._forward(batch)

    def _forward(self, batch: Batch) -> None:
        in_flight = submit(batch, self._on_batch, self._health)
        if in_flight is not None:
            complete(in_flight, self._health)
