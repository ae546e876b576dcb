"""Task vectors in 16, 8 or 4 bits: what is read back, how far it is off, and files that are not to be trusted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.models import BaseModel
from paint_core.weights import StoredTaskVector, Term, load_task_vector, mix, rounded, save_task_vector
from paint_core.weights.packing import FORMS, pack, unpack

SMALL = (16, 8, 4)
some_bits: Any = st.sampled_from(SMALL)


def like(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


BASE = like(scale=(), bias=(300,), linear=(7, 45), kernel=(3, 5, 3, 3), nothing=(4, 0))


def update(seed: int = 0, size: float = 1e-3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(tensor.shape, generator=generator) for name, tensor in BASE.items()}


@given(some_bits, st.integers(0, 100), st.sampled_from([1e-30, 1e-3, 1e30]))
def test_what_is_read_back_is_the_rounded_task_vector_bit_for_bit(bits: Any, seed: int, size: float) -> None:
    tau = update(seed, size)
    read = load_task_vector(save_task_vector(tau, {"base": "f"}, bits), BASE, base_fingerprint="f")
    expected = rounded(tau, bits)
    assert all(torch.equal(read[name], expected[name]) for name in BASE)
    assert all(torch.equal(read[name], tau[name]) for name in ("scale", "bias"))


@given(st.sampled_from([16, 8]), st.integers(0, 100))
def test_no_number_is_off_by_more_than_half_a_step_of_its_block(bits: Any, seed: int) -> None:
    tensor = torch.randn(5, 101, generator=torch.Generator().manual_seed(seed))
    codes, scales = pack(tensor, bits)
    block = FORMS[bits].block
    error = (unpack("w", codes, scales, (5, 101)) - tensor).reshape(-1).abs()
    assert len(scales) == -(-505 // block)
    assert bool((error <= 0.505 * scales.repeat_interleave(block)[:505]).all())
    # The largest number of a block is its own integer, so a block is as wide as before.
    first = tensor.reshape(-1)[:block]
    assert scales[0] * (2 ** (bits - 1) - 1) == pytest.approx(float(first.abs().max()), rel=1e-6)


@given(st.integers(0, 100), st.sampled_from([1e-30, 1e-3, 1e30]))
def test_four_bits_round_no_block_worse_than_with_its_largest_number_as_the_largest_integer(
    seed: int, size: float
) -> None:
    tensor = torch.randn(8, 320, generator=torch.Generator().manual_seed(seed)) * size
    blocks = (tensor / size).reshape(-1, FORMS[4].block)
    steps = blocks.abs().amax(dim=1, keepdim=True) / 7
    plain = ((blocks / steps).round() * steps - blocks).square().sum(dim=1)
    read = unpack("w", *pack(tensor, 4), (8, 320))
    errors = ((read / size).reshape_as(blocks) - blocks).square().sum(dim=1)
    assert bool((errors <= 1.15 * plain).all())  # a scale of 8 significant bits moves numbers across half steps
    assert errors.sum() < 0.8 * plain.sum()


def test_four_bits_keep_a_normal_vector_within_nine_percent() -> None:
    tensor = torch.randn(64, 1024, generator=torch.Generator().manual_seed(3))
    assert float((rounded({"w": tensor}, 4)["w"] - tensor).norm() / tensor.norm()) < 0.09


@pytest.mark.parametrize("name", ["linear", "kernel"])
def test_four_bits_of_an_earlier_release_are_read_as_they_were(name: str, tmp_path: Path) -> None:
    tau = update()
    tensors = safetensors.torch.load(save_task_vector(tau, {}, 4))
    numbers = tau[name].numel()
    codes = torch.randint(-7, 8, (numbers,), generator=torch.Generator().manual_seed(0))
    scales = torch.rand(-(-numbers // 128)) * 1e-3
    padded = torch.nn.functional.pad(codes, (0, numbers % 2)) + 8
    tensors[f"codes:{name}"] = (padded[0::2] + 16 * padded[1::2]).to(torch.uint8)
    tensors[f"scales:{name}"] = scales
    data = safetensors.torch.save(tensors, metadata={})
    (tmp_path / "tau").write_bytes(data)
    expected = (codes.float() * scales.repeat_interleave(128)[:numbers]).reshape(tau[name].shape)
    assert torch.equal(load_task_vector(data, BASE)[name], expected)
    assert torch.equal(StoredTaskVector(tmp_path / "tau", BASE)[name], expected)


@pytest.mark.parametrize("bits", SMALL)
def test_zeros_stay_zeros(bits: Any) -> None:
    tau = update() | {"linear": torch.zeros(7, 45)}
    tau["kernel"][0] = 0
    read = rounded(tau, bits)
    assert not read["linear"].any()
    assert not read["kernel"][0].any()
    assert read["kernel"][1].any()


def test_32_bits_round_nothing_and_other_numbers_are_refused() -> None:
    tau = update()
    assert all(rounded(tau, 32)[name] is tau[name] for name in tau)
    assert save_task_vector(tau, {}) == save_task_vector(tau, {}, 32)
    with pytest.raises(ConfigError, match="use 32, 16, 8 or 4"):
        rounded(tau, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", SMALL)
def test_a_version_is_exactly_what_its_packed_file_says(bits: Any, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    theta_0 = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in BASE.items()}
    tau = update(size=0.1)
    (tmp_path / "tau").write_bytes(save_task_vector(tau, {}, bits))
    stored = StoredTaskVector(tmp_path / "tau", theta_0)
    lazily, at_once = mix(theta_0, [Term(stored, 0.7)]), mix(theta_0, [Term(rounded(tau, bits), 0.7)])
    assert all(torch.equal(lazily[name], at_once[name]) for name in theta_0)
    assert stored.shapes == {name: tuple(tensor.shape) for name, tensor in theta_0.items()}


def test_four_bits_take_at_most_15_percent_of_the_bytes(starter_base: BaseModel) -> None:
    tau = {name: torch.randn_like(tensor) for name, tensor in starter_base.visual.state_dict().items()}
    sizes = {bits: len(save_task_vector(tau, {}, bits)) for bits in (32, 16, 8, 4)}  # type: ignore[arg-type]
    assert sizes[4] <= 0.15 * sizes[32]
    assert sizes[8] <= 0.27 * sizes[32]
    assert sizes[16] <= 0.52 * sizes[32]


def _set(key: str, tensor: Tensor | None) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        if tensor is None:
            del tensors[key]
        else:
            tensors[key] = tensor

    return change


def _code(position: int, value: int) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["codes:linear"][position] = value

    return change


def _earlier_with_code(value: int) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["scales:linear"] = torch.ones(3)
        tensors["codes:linear"] = torch.full((158,), 0x88, dtype=torch.uint8)
        tensors["codes:linear"][0] = value

    return change


HOSTILE: dict[str, Callable[[dict[str, Tensor]], None]] = {
    "no scales": _set("scales:linear", None),
    "no codes": _set("codes:linear", None),
    "stored twice": _set("linear", torch.zeros(7, 45)),
    "too few codes": _set("codes:linear", torch.zeros(3, dtype=torch.uint8)),
    "too many codes": _set("codes:linear", torch.zeros(10_000, dtype=torch.uint8)),
    "codes of another kind": _set("codes:linear", torch.zeros(158, dtype=torch.int64)),
    "codes in another shape": _set("codes:linear", torch.zeros(2, 79, dtype=torch.uint8)),
    "too few scales": _set("scales:linear", torch.ones(9, dtype=torch.bfloat16)),
    "as many scales as an earlier release, of another kind": _set("scales:linear", torch.ones(3, dtype=torch.bfloat16)),
    "as many scales as now, of an earlier release": _set("scales:linear", torch.ones(10)),
    "scales of another kind": _set("scales:linear", torch.ones(10).double()),
    "an unknown tensor": _set("codes:other", torch.zeros(4, dtype=torch.uint8)),
    "a bias as codes": _set("codes:bias", torch.zeros(150, dtype=torch.uint8)),
}
LATER: dict[str, Callable[[dict[str, Tensor]], None]] = {
    "a scale is not a number": _set("scales:linear", torch.tensor([1.0, torch.nan] * 5).bfloat16()),
    "a scale is infinite": _set("scales:linear", torch.tensor([1.0, torch.inf] * 5).bfloat16()),
    "a scale of an earlier release is negative": _set("scales:linear", torch.tensor([1.0, -1.0, 1.0])),
    "a code that packing never gave, of an earlier release": _earlier_with_code(0x80),
    "something in the unused half of the last byte": _code(-1, 0x98),
}


@pytest.mark.parametrize("change", [*HOSTILE.values(), *LATER.values()], ids=[*HOSTILE, *LATER])
def test_a_damaged_or_hostile_file_is_refused(change: Callable[[dict[str, Tensor]], None], tmp_path: Path) -> None:
    tensors = safetensors.torch.load(save_task_vector(update(), {}, 4))
    change(tensors)
    data = safetensors.torch.save(tensors)
    with pytest.raises(WeightsMismatchError):
        load_task_vector(data, BASE)
    (tmp_path / "tau").write_bytes(data)
    with pytest.raises(WeightsMismatchError):
        StoredTaskVector(tmp_path / "tau", BASE)["linear"]


def test_a_lazy_file_refuses_wrong_sizes_before_it_reads_any_number(tmp_path: Path) -> None:
    for change in HOSTILE.values():
        tensors = safetensors.torch.load(save_task_vector(update(), {}, 4))
        change(tensors)
        (tmp_path / "tau").write_bytes(safetensors.torch.save(tensors))
        with pytest.raises(WeightsMismatchError):
            StoredTaskVector(tmp_path / "tau", BASE)
