"""How a tower is run: as it is on a CPU, in captured shapes on a GPU."""

import pytest
import torch
import torch.nn.functional as F

from app.models.runner import CpuRunner, TowerRunner, build_runner
from app.models.served_model import ServedModel
from app.runtime.cores import take_cores
from app.serving.batch_policy import BatchPolicy
from paint_core.evaluation import encode
from paint_core.models import BaseModel, load_base
from pipeline.programs import ProgramStore
from tests.app.workers import open_workers, submit
from tests.app.world import mixed_tower, random_task_vector
from tests.support.patterns import patterns

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base("starter")


def test_a_cpu_runs_the_tower_without_padding(base: BaseModel) -> None:
    assert isinstance(build_runner(base.visual, base), CpuRunner)
    sizes: list[int] = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return F.normalize(base.visual(base.preprocess.normalise(images)), dim=-1)

    runner = CpuRunner(forward, base.image_size)
    images = patterns(base.image_size, 5)
    staged = runner.stage(5)
    staged.copy_(images)
    features = runner.submit(staged)()
    assert sizes == [5]
    expected = F.normalize(encode(base.visual, images, base.preprocess), dim=-1)
    torch.testing.assert_close(torch.from_numpy(features), expected, atol=1e-4, rtol=1e-4)


def test_a_program_runs_the_tower_of_any_version(base: BaseModel) -> None:
    program = ProgramStore().find(base)
    assert program is not None
    tower = mixed_tower(base, random_task_vector(base, 1), 1.0)
    images = patterns(base.image_size, 5)
    runner = build_runner(tower, base, program=program)
    assert runner.is_exact
    expected = F.normalize(encode(tower, images, base.preprocess), dim=-1)
    torch.testing.assert_close(_features(runner, images), expected, atol=1e-4, rtol=1e-3)


def test_a_slow_tower_takes_several_cores_for_one_image(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    program = ProgramStore().find(base)
    quick = build_runner(base.visual, base, program=program, num_cores=2)
    quick.widen()
    monkeypatch.setattr("app.models.runner._LEAST_SHARED_SECONDS", 0.0)
    slow = build_runner(base.visual, base, program=program, num_cores=2)
    assert not slow.can_share
    slow.widen()
    assert (quick.can_share, slow.can_share) == (False, True)
    assert slow.num_bytes == 2 * quick.num_bytes
    images = patterns(base.image_size, 3)
    take_cores(2)
    try:
        shared = _features(slow, images)
    finally:
        take_cores(1)
    assert torch.equal(shared, _features(slow, images)), "an image's bits do not depend on the number of cores"


def test_bfloat16_computes_with_a_copy_of_the_weights_that_is_cast_once(base: BaseModel) -> None:
    """On any processor: one without instructions for it computes the same in software."""
    tower = mixed_tower(base, random_task_vector(base, 1), 1.0)
    runner = build_runner(tower, base, "bf16")
    assert not runner.is_exact
    assert runner.num_bytes == 2 * sum(tensor.numel() for tensor in tower.state_dict().values())
    images = patterns(base.image_size, 3)
    features = _features(runner, images)
    expected = F.normalize(encode(tower, images, base.preprocess), dim=-1)
    assert float((features * expected).sum(dim=1).min()) > 0.999
    assert not torch.equal(features, expected)


def _features(runner: TowerRunner, images: torch.Tensor) -> torch.Tensor:
    staged = runner.stage(len(images))
    staged.copy_(images)
    return torch.from_numpy(runner.submit(staged)())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.99)])
def test_captured_shapes_give_each_image_its_own_features(precision: str, least: float) -> None:
    base = load_base("starter", device="cuda")
    runner = build_runner(base.visual, base, precision)  # type: ignore[arg-type]
    images = patterns(base.image_size, 64)
    expected = F.normalize(encode(base.visual, images, base.preprocess, device="cuda"), dim=-1).cpu()
    for size in (64, 1, 3, 17, 2):  # smaller ones after larger ones: rows beyond hold old pixels
        staged = runner.stage(size)
        staged.copy_(images[:size])
        features = torch.from_numpy(runner.submit(staged)())
        assert float((features * expected[:size]).sum(dim=1).min()) > least
    num_values = sum(tensor.numel() for tensor in base.visual.state_dict().values())
    assert runner.num_bytes >= (4 if precision == "fp32" else 2) * num_values  # of the tower that it has for itself


@pytest.mark.gpu
@needs_gpu
def test_two_models_keep_their_own_weights_while_batches_overlap() -> None:
    base = load_base("starter", device="cuda")
    other = torch.nn.Sequential(base.visual, torch.nn.Linear(base.embed_dim, base.embed_dim).cuda())
    models = [ServedModel(number, base, visual.eval()) for number, visual in enumerate((base.visual, other))]
    images = patterns(base.image_size, 40)
    expected = [F.normalize(encode(model.visual, images, base.preprocess, device="cuda"), dim=-1) for model in models]
    with open_workers(BatchPolicy(max_images=16)) as workers:
        futures = [(which, submit(workers, models[which], images)) for _ in range(5) for which in (0, 1)]
        for which, future in futures:
            features = future.result(60).features
            assert float((features * expected[which].cpu()).sum(dim=1).min()) > 0.99
