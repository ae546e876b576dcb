"""How many cores torch takes: as many as are said, while they are, and afterwards as before."""

import threading
from collections.abc import Iterator

import pytest
import torch

from app.serving.cores import compute_apart, computing_with
from app.serving.heads import HeadCache
from app.serving.line import Pace
from app.serving.model import ServedModel
from paint_core.models import load_base
from paint_core.probe import probe_images
from tests.app.crewed import open_crew


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


def test_a_thread_computes_with_what_is_said_and_then_as_before(num_threads: int) -> None:
    with computing_with(2):
        assert torch.get_num_threads() == 2
    assert (torch.get_num_threads(), of_a_new_thread()) == (num_threads, num_threads)


def test_what_is_computed_apart_comes_back_or_raises_and_changes_nothing(num_threads: int) -> None:
    assert compute_apart(2, torch.get_num_threads) == 2
    with pytest.raises(ZeroDivisionError):
        compute_apart(2, lambda: 1 // 0)
    assert (torch.get_num_threads(), of_a_new_thread()) == (num_threads, num_threads)


def test_what_an_engine_is_made_of_leaves_torch_as_it_was(num_threads: int) -> None:
    base = load_base("starter")
    model = ServedModel(1, base, base.visual, torch.device("cpu"), base.logit_scale, base.logit_bias)
    heads = HeadCache(num_cores=2)
    with open_crew(Pace(max_images=8, shared_cores=2)) as crew:
        crew.submit(model, probe_images(base.image_size, num_images=3)).result(30)
        assert len(heads.get(base, ("a", "b"), ("{}",)).result(30)) == 2
        assert of_a_new_thread() == 1
    heads.close()
    assert (torch.get_num_threads(), of_a_new_thread()) == (num_threads, num_threads)
