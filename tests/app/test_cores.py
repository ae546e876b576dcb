"""How many cores torch takes: as many as are said, while they are, and afterwards as before."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from app.models.served_model import ServedModel
from app.runtime.cores import take_cores
from app.serving.batch_policy import BatchPolicy
from app.serving.head_cache import HeadCache
from paint_core.models import load_base
from tests.app.workers import open_workers, submit
from tests.support.patterns import patterns


@pytest.fixture
def num_threads() -> Iterator[int]:
    """A number of threads that nothing under test would choose."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(before)


def of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_takes_cores_for_itself_only(num_threads: int) -> None:
    taken, looked = threading.Barrier(5), threading.Barrier(5)
    found: dict[int, int] = {}

    def take(num_cores: int) -> None:
        take_cores(num_cores)
        taken.wait(30)
        found[num_cores] = torch.get_num_threads()
        looked.wait(30)

    threads = [threading.Thread(target=take, args=(num_cores,)) for num_cores in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    taken.wait(30)
    others = (torch.get_num_threads(), of_a_new_thread())
    looked.wait(30)
    for thread in threads:
        thread.join()
    assert found == {1: 1, 2: 2, 3: 3, 4: 4}
    assert others == (num_threads, num_threads)


def test_a_thread_may_take_cores_again(num_threads: int) -> None:
    for num_cores in (1, 2, num_threads, 1):
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(_taken, 2, num_cores).result(30) == [2, num_cores]
    assert (torch.get_num_threads(), of_a_new_thread()) == (num_threads, num_threads)


def _taken(*numbers: int) -> list[int]:
    found = []
    for number in numbers:
        take_cores(number)
        found.append(torch.get_num_threads())
    return found


def test_an_engine_at_work_leaves_torch_as_it_was(num_threads: int) -> None:
    base = load_base("starter")
    heads = HeadCache(100, num_cores=2)
    with open_workers(BatchPolicy(max_images=8, num_cores=2)) as workers:
        for image_seconds in (0.0, 60.0):  # on one core, and on both
            model = ServedModel(1, base, base.visual)
            model.runner.image_seconds = image_seconds
            submit(workers, model, patterns(base.image_size, 3)).result(30)
        assert len(heads.get(base, ("a", "b"), ("{}",), Future()).result(30)) == 2
        assert (torch.get_num_threads(), of_a_new_thread()) == (num_threads, num_threads)
    heads.close()
