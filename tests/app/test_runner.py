"""How a tower is run: as it is on a CPU, in captured shapes on a GPU."""

import pytest
import torch
import torch.nn.functional as F

from app.serving.batcher import Batcher
from app.serving.line import Pace
from app.serving.model import ServedModel
from app.serving.runner import SHAPES, EagerRunner, GraphRunner, build_runner, shape_for
from paint_core.evaluation import encode
from paint_core.models import BaseModel, load_base
from paint_core.probe import probe_images

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


def test_a_batch_is_padded_to_the_next_captured_shape_and_never_to_twice_its_size() -> None:
    assert [shape_for(size) for size in (1, 2, 3, 5, 16, 17, 64)] == [1, 2, 4, 8, 16, 32, 64]
    assert all(size <= shape_for(size) < 2 * size for size in range(1, SHAPES[-1] + 1))


def test_a_cpu_runs_the_tower_without_padding(base: BaseModel) -> None:
    sizes: list[int] = []
    hook = base.visual.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    runner = build_runner(base.visual, base.preprocess, base.device)
    assert isinstance(runner, EagerRunner)
    images = probe_images(base.image_size, num_images=5)
    staged = runner.stage(5)
    staged.copy_(images)
    features = runner.launch(staged)()
    hook.remove()
    assert sizes == [5]
    expected = F.normalize(encode(base.visual, images, base.preprocess), dim=-1)
    torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.99)])
def test_captured_shapes_give_each_image_its_own_features(precision: str, least: float) -> None:
    base = load_base("starter", device="cuda")
    runner = GraphRunner(base.visual, base.preprocess, base.device, precision)  # type: ignore[arg-type]
    images = probe_images(base.image_size, num_images=64)
    expected = F.normalize(encode(base.visual, images, base.preprocess, device="cuda"), dim=-1).cpu()
    for size in (64, 1, 3, 17, 2):  # smaller ones after larger ones: rows beyond hold old pixels
        staged = runner.stage(size)
        staged.copy_(images[:size])
        features = torch.from_numpy(runner.launch(staged)())
        assert float((features * expected[:size]).sum(dim=1).min()) > least


@pytest.mark.gpu
@needs_gpu
def test_two_models_keep_their_own_weights_while_batches_overlap() -> None:
    base = load_base("starter", device="cuda")
    other = torch.nn.Sequential(base.visual, torch.nn.Linear(base.embed_dim, base.embed_dim).cuda())
    models = [
        ServedModel(number, base, visual.eval(), base.device, base.logit_scale, base.logit_bias)
        for number, visual in enumerate((base.visual, other))
    ]
    images = probe_images(base.image_size, num_images=40)
    expected = [F.normalize(encode(model.visual, images, base.preprocess, device="cuda"), dim=-1) for model in models]
    batcher = Batcher(pace=Pace(max_images=16))
    futures = [(which, batcher.submit(models[which], images)) for _ in range(5) for which in (0, 1)]
    for which, future in futures:
        features = future.result(60).features
        assert float((features * expected[which].cpu()).sum(dim=1).min()) > 0.99
    batcher.close()
