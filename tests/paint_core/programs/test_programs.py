"""A tower's program computes what the tower computes, with any weights, and the same bits whatever the batch."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paint_core.models import BaseModel, load_base
from paint_core.programs import Program
from paint_core.programs.conversion import convert
from paint_core.programs.program import quantise
from tests.paint_core import tiny
from tests.support.patterns import patterns


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """With matrices large enough for int8."""
    vision = {"image_size": 32, "layers": 2, "width": 128, "head_width": 32, "patch_size": 16}
    config = {**tiny.MODEL_CFG, "vision_cfg": vision}
    folder = tmp_path_factory.mktemp("models") / "wide"
    return load_base(f"local-dir:{tiny.write_model(folder, tiny.state_dict(0, config), model_cfg=config)}")


@pytest.fixture(scope="module")
def wide_program(wide_base: BaseModel) -> Program:
    return convert(wide_base.visual, wide_base.preprocess)


@pytest.fixture(scope="module")
def program(tiny_base: BaseModel) -> Program:
    return convert(tiny_base.visual, tiny_base.preprocess)


def _other_weights(visual: nn.Module, seed: int) -> nn.Module:
    other = copy.deepcopy(visual)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
    return other.eval()


@torch.inference_mode()
def _expected(visual: nn.Module, base: BaseModel, images: Tensor) -> Tensor:
    return F.normalize(visual(base.preprocess.normalise(images)), dim=-1)


def test_one_program_serves_all_weights_of_an_architecture(tiny_base: BaseModel, program: Program) -> None:
    images = patterns(tiny_base.image_size, 7)
    towers = [tiny_base.visual, *(_other_weights(tiny_base.visual, seed) for seed in (1, 2))]
    forwards = [program.forward(tower) for tower in towers]  # side by side, each with its own
    for tower, forward in zip(towers, forwards, strict=True):
        torch.testing.assert_close(forward(images), _expected(tower, tiny_base, images), atol=1e-5, rtol=1e-4)
    assert not torch.equal(forwards[0](images), forwards[1](images))


def test_in_float32_an_image_has_the_same_bits_in_every_batch_and_with_any_number_of_threads() -> None:
    base = load_base("starter")
    program = convert(base.visual, base.preprocess)
    images = patterns(base.image_size, 33)
    narrow, wide = program.forward(base.visual), program.forward(base.visual, num_threads=2)
    alone = torch.cat([narrow(image.unsqueeze(0)) for image in images])
    for size in (2, 3, 8, 33):
        assert torch.equal(narrow(images[:size]), alone[:size])
        assert torch.equal(wide(images[:size]), alone[:size])


def test_a_program_is_the_same_after_it_was_stored(tiny_base: BaseModel, program: Program, tmp_path: Path) -> None:
    program.save(tmp_path)
    images = patterns(tiny_base.image_size, 2)
    stored = Program.load(tmp_path)
    for precision in ("fp32", "int8"):
        first, second = (each.forward(tiny_base.visual, precision)(images) for each in (program, stored))  # type: ignore[arg-type]
        assert torch.equal(first, second)
    assert not any(b"/" + name in stored.graph for name in (b"root", b"home", b"work")), "a graph names no folder"


def test_quantised_matrices_are_off_by_at_most_half_a_step() -> None:
    matrix = torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
    for is_transposed in (False, True):
        rounded, scales = (torch.from_numpy(each) for each in quantise(matrix, is_transposed))
        columns = matrix.T if is_transposed else matrix
        assert rounded.shape == columns.shape
        assert scales.shape == columns.shape[1:]
        assert bool(((rounded * scales - columns).abs() <= 0.5001 * scales).all())
        assert int(rounded.abs().amax()) == 127
    zeros, scales = quantise(torch.zeros(4, 3), False)
    assert not zeros.any()
    assert (scales > 0).all()


def test_int8_keeps_the_direction_of_features_and_takes_less_memory(
    wide_base: BaseModel, wide_program: Program
) -> None:
    names = {"in_proj_weight", "out_proj.weight", "c_fc.weight", "c_proj.weight"}
    assert all(any(each.endswith(name) for each in wide_program.quantised) for name in names)
    images = patterns(wide_base.image_size, 9)
    tower = _other_weights(wide_base.visual, 3)
    exact, rough = (wide_program.forward(tower, precision)(images) for precision in ("fp32", "int8"))  # type: ignore[arg-type]
    torch.testing.assert_close(exact, _expected(tower, wide_base, images), atol=1e-5, rtol=1e-4)
    assert 0.99 < float((exact * rough).sum(dim=1).min()) < 0.9999999
    assert wide_program.num_bytes(tower, "int8") < 0.5 * wide_program.num_bytes(tower, "fp32")


class _Moody(nn.Module):
    """A tower whose way depends on how many images it sees, which no program can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean(dim=(2, 3)) * self.weight
        return means + 1 if bool(images.sum() > 0) else -means


def test_a_tower_that_cannot_be_converted_is_refused(tiny_base: BaseModel) -> None:
    with pytest.raises(Exception, match=r".+"):
        convert(_Moody(), tiny_base.preprocess)


def test_a_program_takes_no_other_architecture(tiny_base: BaseModel, program: Program) -> None:
    shallow = copy.deepcopy(tiny_base.visual)
    for name, parameter in list(shallow.named_parameters())[-1:]:
        owner, _, leaf = name.rpartition(".")
        shape = [size + 1 for size in parameter.shape]
        setattr(shallow.get_submodule(owner), leaf, nn.Parameter(torch.zeros(shape), requires_grad=False))
    with pytest.raises(RuntimeError, match="ONNX Runtime cannot run the tower"):
        program.forward(shallow)
