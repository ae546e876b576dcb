"""Images of many requests go through the model together, never two models in one batch."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from app.serving.batcher import Batcher
from app.serving.model import MAX_BATCH_IMAGES, ServedModel
from paint_core.evaluation import encode
from paint_core.models import BaseModel, load_base
from paint_core.probe import probe_images
from tests.app.gate import Gate


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher()
    yield batcher
    batcher.close()


def _served(base: BaseModel, visual: torch.nn.Module, version_id: int = 1) -> ServedModel:
    return ServedModel(version_id, base, visual, torch.device("cpu"), base.logit_scale, base.logit_bias)


def test_each_request_gets_its_own_images_features(base: BaseModel, batcher: Batcher) -> None:
    images = probe_images(base.image_size, num_images=9)
    model = _served(base, base.visual)
    parts = [images[:2], images[2:3], images[3:9]]
    futures = [batcher.submit(model, part) for part in parts]
    expected = F.normalize(encode(base.visual, images, base.preprocess), dim=-1)
    features = torch.cat([each.result(30).features for each in futures])
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_what_waits_while_the_device_works_is_forwarded_together_up_to_the_limit(
    base: BaseModel, batcher: Batcher
) -> None:
    gate = Gate(base.visual)
    model = _served(base, gate)
    images = probe_images(base.image_size, num_images=30)
    first = batcher.submit(model, images[:1])
    assert gate.entered.wait(30)
    waiting = [batcher.submit(model, images) for _ in range(3)]
    gate.opened.set()
    assert [len(each.result(30).features) for each in [first, *waiting]] == [1, 30, 30, 30]
    assert gate.batch_sizes == [1, 64, 26]
    assert max(gate.batch_sizes) <= MAX_BATCH_IMAGES


def test_a_batch_never_holds_two_models(base: BaseModel, batcher: Batcher) -> None:
    old, new = Gate(base.visual), Gate(base.visual)
    new.opened.set()
    images = probe_images(base.image_size, num_images=2)
    models = {"old": _served(base, old), "new": _served(base, new, 2)}
    futures = [batcher.submit(models["old"], images[:1])]
    assert old.entered.wait(30)
    futures += [batcher.submit(models[name], images) for name in ("old", "new", "old", "new")]
    old.opened.set()
    for future in futures:
        future.result(30)
    assert old.batch_sizes == [1, 4]  # the later two images join, past those of the other model
    assert new.batch_sizes == [4]


def test_a_forward_that_fails_fails_its_requests_only(base: BaseModel, batcher: Batcher) -> None:
    broken = _served(base, torch.nn.Linear(3, 3))
    images = probe_images(base.image_size, num_images=1)
    with pytest.raises(RuntimeError):
        batcher.submit(broken, images).result(30)
    assert len(batcher.submit(_served(base, base.visual), images).result(30).features) == 1


def test_closing_finishes_what_is_queued(base: BaseModel) -> None:
    batcher = Batcher()
    future = batcher.submit(_served(base, base.visual), probe_images(base.image_size))
    batcher.close()
    assert len(future.result(0).features) == 4
    with pytest.raises(RuntimeError):
        batcher.submit(_served(base, base.visual), probe_images(base.image_size))
