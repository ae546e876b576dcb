"""How many cores torch uses in a thread.

OpenMP gives each thread that computes with several cores helpers of its own, which live as long as the thread. Between
layers helpers spin, but only while the process has no more of them than cores; else all sleep and are woken for each
layer. On two cores, ViT-B/32's forward pass of one image then takes 81 ms instead of 57. So threads of the service
compute on one core each, and only one that stays, or one that ends soon, uses more.

Torch keeps the number per thread, and a thread takes the process's number when it first computes or asks. But
`torch.set_num_threads` sets both the caller's and the process's: a thread that has not computed yet would get the
number that another one set for itself, and would sum in another order.
"""

from __future__ import annotations

import threading

import torch

_one_at_a_time = threading.Lock()


def take_cores(num_cores: int) -> None:
    """Use so many cores for what the calling thread computes from now on; other threads keep their number."""
    if torch.get_num_threads() == num_cores:
        return
    with _one_at_a_time:
        known, is_set = threading.Event(), threading.Event()

        def put_back() -> None:
            of_the_process = torch.get_num_threads()  # as this thread has not asked before
            known.set()
            is_set.wait()
            torch.set_num_threads(of_the_process)

        thread = threading.Thread(target=put_back, name="paintbox-put-back", daemon=True)
        thread.start()
        known.wait()
        try:
            torch.set_num_threads(num_cores)
        finally:
            is_set.set()
            thread.join()
