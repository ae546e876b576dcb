from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from paint_core.config.precision import has_bf16
from paint_core.evaluation import choose_precision, encode
from paint_core.evaluation.scoring import autocast
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel
from tests.paint_core import tiny

WITHOUT, WITH = {"avx2": True, "avx512_bf16": False}, {"avx512_bf16": True}


@pytest.mark.parametrize("wanted", ["bf16", "auto"])
def test_bf16_is_used_only_where_the_processor_has_instructions_for_it(tiny_base: BaseModel, wanted: Any) -> None:
    def choose(capabilities: dict[str, bool]) -> tuple[str, str]:
        used = choose_precision(tiny_base.visual, tiny_base.preprocess, wanted, "cpu", capabilities)
        return used.precision, used.reason

    assert choose(WITH) == ("bf16", "")
    precision, reason = choose(WITHOUT)
    assert precision == "fp32"
    assert "no bf16 instructions" in reason
    assert has_bf16(torch.device("cpu"), {"amx_bf16": True})


def test_fp32_needs_no_reason(tiny_base: BaseModel) -> None:
    used = choose_precision(tiny_base.visual, tiny_base.preprocess, "fp32", "cpu", WITHOUT)
    assert (used.precision, used.reason) == ("fp32", "")


class Cancelling(nn.Module):
    """A tower whose features are small differences of large numbers, which bf16 rounds away."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 8)

    def forward(self, pixels: Tensor) -> Tensor:
        large: Tensor = self.linear(pixels.mean(dim=(2, 3)) + 1e4)
        return large - self.linear(torch.full_like(pixels[:, :, 0, 0], 1e4))


def test_a_tower_that_computes_wrong_in_bf16_is_evaluated_in_fp32(tiny_base: BaseModel) -> None:
    torch.manual_seed(0)
    used = choose_precision(Cancelling(), tiny_base.preprocess, "bf16", "cpu", WITH)
    assert used.precision == "fp32"
    assert "cosine" in used.reason


class CountCasts(TorchDispatchMode):
    """Counts the conversions to bf16, by the shape of the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.shapes[tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("learns", [True, False])
def test_bf16_casts_each_weight_once_and_changes_no_bit_of_the_features(learns: bool) -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(3, 5, 7), nn.Flatten(), nn.Linear(5 * 26 * 26, 11)).requires_grad_(learns)
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    preprocess = Preprocess({**tiny.PREPROCESS_CFG, "size": 32})
    with CountCasts() as counted:
        features = encode(tower, images, preprocess, batch_size=2, precision="bf16")
    assert (counted.shapes[5, 3, 7, 7], counted.shapes[11, 3380]) == (1, 1)
    with torch.inference_mode(), autocast(torch.device("cpu"), "bf16"):
        expected = torch.cat([tower(preprocess.normalise(part, torch.device("cpu"))) for part in images.split(2)])
    assert torch.equal(features, expected.float())
    assert all(parameter.requires_grad == learns for parameter in tower.parameters())
