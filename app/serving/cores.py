"""How many cores a computation of torch takes.

OpenMP gives each thread that computes with several cores helpers of its own, which stay as long as the thread. At the
end of each layer helpers look for the next one for a while, but only as long as the process has no more of them than
cores: then all sleep and are woken layer by layer. On two cores, ViT-B/32's forward of one image takes 57 ms or 81. So
threads of the service compute by themselves, and only one that stays, or one that ends soon, takes more cores.

A thread of torch has a number of cores of its own. It takes the process's when it first computes, or asks. But
`torch.set_num_threads` says both, the caller's and the process's: a thread that has not computed yet would get what
another one said for itself, and its sums would be of another order.
"""

from __future__ import annotations

import threading

import torch

_one_at_a_time = threading.Lock()


def take_cores(num_cores: int) -> None:
    """Let what the calling thread computes from now on take so many cores, and leave all other threads theirs.

    Args:
        num_cores: How many.
    """
    if torch.get_num_threads() == num_cores:
        return
    with _one_at_a_time:
        known, said = threading.Event(), threading.Event()

        def put_back() -> None:
            of_the_process = torch.get_num_threads()  # as this thread has not asked before
            known.set()
            said.wait()
            torch.set_num_threads(of_the_process)

        thread = threading.Thread(target=put_back, name="paintbox-put-back", daemon=True)
        thread.start()
        known.wait()
        try:
            torch.set_num_threads(num_cores)
        finally:
            said.set()
            thread.join()
