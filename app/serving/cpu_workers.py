"""The workers of a CPU: one thread per core, each of which decodes and forwards batches of its own.

No layer of a forward pass waits for another thread, and no image is handed from thread to thread.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from app.runtime.cores import take_cores
from app.serving.batch import BatchRunner, decode
from app.serving.batch_policy import BatchPolicy
from app.serving.batch_queue import BatchQueue
from app.serving.request import Batch, InferenceRequest


class CpuWorkers:
    """Threads that take batches from one queue.

    A forward pass on several cores runs in a thread of its own, which keeps its OpenMP helpers (`app.runtime.cores`).

    Args:
        policy: How large batches are; `num_cores` is the number of threads.
        runner: Runs the batches.
    """

    def __init__(self, policy: BatchPolicy, runner: BatchRunner) -> None:
        self._queue = BatchQueue(policy)
        self._runner = runner
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
            batch = decode(task.batch)
            while added := self._queue.extend(task):
                batch += decode(added)
            self._queue.begin_forward(task)
            if batch and task.num_cores == 1:
                self._runner.run(batch)
            elif batch:
                self._shared.submit(self._run_on, task.num_cores, batch).result()
            self._queue.end(task)
            del task, batch, added  # or an idle thread would keep the last request and its model in memory

    def _run_on(self, num_cores: int, batch: Batch) -> None:
        take_cores(num_cores)
        self._runner.run(batch)
