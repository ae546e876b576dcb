"""How many cores a computation of torch takes.

OpenMP gives each thread that computes with several cores helpers of its own, which stay as long as the thread. At the
end of each layer helpers look for the next one for a while, but only as long as the process has no more of them than
cores: then all sleep and are woken layer by layer. On two cores, ViT-B/32's forward of one image takes 57 ms or 81. So
threads of the service compute by themselves, and only one that stays, or one that ends soon, takes more cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

import torch

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


@contextmanager
def computing_with(num_cores: int) -> Iterator[None]:
    """Let what this thread computes take so many cores, and afterwards as many as before.

    torch gives threads that are started later the number that any thread said last.

    Args:
        num_cores: How many.

    Yields:
        None: The calling thread computes with them meanwhile.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(num_cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute_apart(num_cores: int, work: Callable[[*_Arguments], _Result], *args: *_Arguments) -> _Result:
    """Return what a function returns, or raise what it raises, computed by a thread that ends with it.

    Args:
        num_cores: How many cores it takes.
        work: The function.
        *args: Of it.

    Returns:
        Its result.
    """
    result: Future[_Result] = Future()

    def run() -> None:
        try:
            with computing_with(num_cores):
                result.set_result(work(*args))
        except BaseException as error:  # an edge: it is raised where it is waited for
            result.set_exception(error)

    thread = threading.Thread(target=run, name="paintbox-compute", daemon=True)
    thread.start()
    thread.join()
    return result.result()
