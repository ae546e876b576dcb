"""A tower in fixed batch sizes: each image gets its own features, whatever the padded rows hold, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from app.models.served_model import ServedModel
from app.models.shaped import SHAPES, ShapedRunner, shape_for
from app.serving.batch_policy import BatchPolicy
from paint_core.evaluation import encode
from paint_core.models import BaseModel, load_base
from tests.app.workers import open_workers, submit
from tests.support.patterns import patterns


class StrictDevice:
    """A device with the memory of the CPU, which demands the order of contexts and events that a GPU needs.

    What is recorded writes into one output, as a captured graph does.
    """

    where = torch.device("cpu")

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.replayed: list[int] = []
        self.contexts: list[str] = []

    def record(self, forward: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        output = forward()
        self.recorded.append(len(output))

        def repeat() -> None:
            assert self.contexts == ["computing"]
            self.replayed.append(len(output))
            output.copy_(forward())

        return repeat, output

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.full(shape, 77, dtype=dtype)  # memory that nobody has cleared

    def event(self) -> Any:
        return _Mark(self)

    @contextmanager
    def copying(self) -> Iterator[None]:
        with self._context("copying"):
            yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        with self._context("computing"):
            yield

    @contextmanager
    def _context(self, name: str) -> Iterator[None]:
        self.contexts.append(name)
        yield
        self.contexts.pop()


class _Mark:
    """An event that must be recorded before it is waited for, in the right context."""

    def __init__(self, device: StrictDevice) -> None:
        self._device = device
        self._recorded_in: str | None = None

    def record(self) -> None:
        self._recorded_in = self._device.contexts[-1]

    def wait(self) -> None:
        assert (self._recorded_in, self._device.contexts[-1]) == ("copying", "computing")

    def synchronize(self) -> None:
        assert self._recorded_in == "computing"


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


def _run(runner: ShapedRunner, images: Tensor) -> Callable[[], Tensor]:
    staged = runner.stage(len(images))
    assert staged.shape == images.shape
    staged.copy_(images)
    result = runner.submit(staged)
    return lambda: torch.from_numpy(result())


def _expected(base: BaseModel, images: Tensor) -> Tensor:
    return F.normalize(encode(base.visual, images, base.preprocess), dim=-1)


def test_a_batch_is_padded_to_the_next_recorded_shape_and_never_to_twice_its_size() -> None:
    assert [shape_for(size) for size in (1, 2, 3, 5, 16, 17, 64)] == [1, 2, 4, 8, 16, 32, 64]
    assert all(size <= shape_for(size) < 2 * size for size in range(1, SHAPES[-1] + 1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_each_image_gets_its_own_features_whatever_the_rows_beyond_hold(
    base: BaseModel, dtype: torch.dtype, tolerance: float
) -> None:
    device = StrictDevice()
    runner = ShapedRunner(base.visual, base.preprocess, device, dtype)
    assert device.recorded == sorted(SHAPES, reverse=True), "the largest first: the others share its memory"
    assert runner.is_exact == (dtype is torch.float32)
    images = patterns(base.image_size, 20)
    expected = _expected(base, images)
    for size in (17, 1, 3, 9, 2):  # smaller ones after larger ones: rows beyond hold old pixels
        torch.testing.assert_close(_run(runner, images[:size])(), expected[:size], atol=tolerance, rtol=tolerance)
    assert device.replayed == [32, 1, 4, 16, 2]
    width = base.embed_dim
    assert _run(runner, images[:1])().shape == (1, width)


def test_two_batches_in_flight_keep_their_own_pixels_and_features(base: BaseModel) -> None:
    runner = ShapedRunner(base.visual, base.preprocess, StrictDevice(), torch.float32)
    images = patterns(base.image_size, 6)
    expected = _expected(base, images)
    first, second = _run(runner, images[:3]), _run(runner, images[3:])
    kept = first()
    torch.testing.assert_close(second(), expected[3:], atol=1e-4, rtol=1e-4)
    third = _run(runner, images[1:2])  # takes the slot of the first, whose features somebody holds
    torch.testing.assert_close(third(), expected[1:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(kept, expected[:3], atol=1e-4, rtol=1e-4)


def test_the_engine_stages_and_completes_batches_of_a_shaped_runner_in_order(base: BaseModel) -> None:
    """The workers of a GPU, with two batches in flight, over two versions."""
    other = torch.nn.Sequential(base.visual, torch.nn.Linear(base.embed_dim, base.embed_dim)).eval()
    models = [ServedModel(number, base, visual) for number, visual in enumerate((base.visual, other))]
    for model in models:
        model.__dict__["runner"] = ShapedRunner(model.visual, base.preprocess, StrictDevice(), torch.float32)
    images = patterns(base.image_size, 40)
    with torch.inference_mode():
        expected = [F.normalize(model.visual(base.preprocess.normalise(images)), dim=-1) for model in models]
    with open_workers(BatchPolicy(max_images=16)) as workers:
        futures = [(which, submit(workers, models[which], images)) for _ in range(3) for which in (0, 1)]
        for which, future in futures:
            torch.testing.assert_close(future.result(60).features, expected[which], atol=1e-4, rtol=1e-3)
