"""Both ends of the path, bit for bit, whatever the floats."""

import math
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from paint_core.errors import NonFiniteWeightsError, WeightsMismatchError
from paint_core.weights import Term, combine, mix, mix_into, snap, summing, task_vector

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
TINY = 2.0**-149


def as_float32(bits: int) -> float:
    number: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return number


any_bits = st.integers(0, 2**32 - 1).map(as_float32).filter(math.isfinite)
edges = st.sampled_from([0.0, -0.0, TINY, -TINY, 2.0**-126, 1.0, 1 + 2.0**-23, 1 - 2.0**-24, 2.0**24, 1e30, -1e30])


@st.composite
def ugly_pairs(draw: st.DrawFn) -> tuple[float, float]:
    """A number before and one after: unrelated, nearly equal, or nearly opposite."""
    before = draw(any_bits | edges)
    kind = draw(st.sampled_from(["unrelated", "near", "opposite"]))
    if kind == "unrelated":
        return before, draw(any_bits | edges)
    after = before * (1 if kind == "near" else -1) * (1 + draw(st.floats(-1e-3, 1e-3)))
    after = torch.tensor(after, dtype=torch.float32).item()
    return before, after if math.isfinite(after) else before


def bits(tensor: Tensor) -> list[int]:
    """What is in memory, so that -0.0 is not 0.0."""
    return tensor.reshape(-1).view(torch.uint8).tolist()


def ulp(tensor: Tensor) -> Tensor:
    """The distance to the next number of the same dtype away from zero, in float64."""
    size = tensor.abs()
    after = torch.nextafter(size.double(), torch.tensor(math.inf, dtype=torch.float64))
    if tensor.dtype == torch.float64:
        return after - size
    bits_of = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}[tensor.dtype]
    return (size.view(bits_of) + 1).view(tensor.dtype).double() - size.double()


def ends(pairs: list[tuple[float, float]], dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after of a dtype; what overflows in it is cut to half its range."""
    limit = torch.finfo(dtype).max / 2 if dtype != torch.float64 else torch.finfo(torch.float32).max / 2
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True)]
    before, after = (column.clamp(-limit, limit).to(dtype) for column in columns)
    return {"w": before}, {"w": after}


@pytest.mark.parametrize("dtype", DTYPES)
@given(pairs=st.lists(ugly_pairs(), min_size=1, max_size=30))
def test_alpha_one_gives_snapped_weights_bit_for_bit(dtype: torch.dtype, pairs: list[tuple[float, float]]) -> None:
    theta_0, theta_1 = ends(pairs, dtype)
    snapped = snap(theta_0, theta_1)
    mixed = mix(theta_0, [Term(task_vector(theta_0, snapped), 1.0)])
    assert bits(mixed["w"]) == bits(snapped["w"])
    assert mixed["w"].dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@given(pairs=st.lists(ugly_pairs(), min_size=1, max_size=30))
def test_alpha_zero_gives_theta_0_bit_for_bit(dtype: torch.dtype, pairs: list[tuple[float, float]]) -> None:
    theta_0, theta_1 = ends(pairs, dtype)
    assert bits(mix(theta_0, [Term(task_vector(theta_0, theta_1), 0.0)])["w"]) == bits(theta_0["w"])


@given(st.lists(ugly_pairs(), min_size=1, max_size=30))
def test_snapping_moves_nothing_by_more_than_one_ulp_of_the_larger_end(pairs: list[tuple[float, float]]) -> None:
    theta_0, theta_1 = ends(pairs, torch.float32)
    moved = (snap(theta_0, theta_1)["w"].double() - theta_1["w"].double()).abs()
    larger = torch.maximum(theta_0["w"].abs(), theta_1["w"].abs())
    assert bool((moved <= ulp(larger)).all())


@given(st.lists(ugly_pairs(), min_size=1, max_size=30))
def test_snapping_again_changes_nothing(pairs: list[tuple[float, float]]) -> None:
    theta_0, theta_1 = ends(pairs, torch.float32)
    once = snap(theta_0, theta_1)
    assert bits(snap(theta_0, once)["w"]) == bits(once["w"])
    assert bits(snap(theta_0, theta_0)["w"]) == bits(theta_0["w"])


@given(ugly_pairs())
def test_snapping_keeps_whatever_any_update_reaches(pair: tuple[float, float]) -> None:
    theta_0, theta_1 = ends([pair], torch.float32)
    before, after = theta_0["w"], theta_1["w"]
    update = after - before
    candidates = [update]
    for bound in (math.inf, -math.inf):
        candidate = update
        for _ in range(4):
            candidate = torch.nextafter(candidate, torch.tensor([bound]))
            candidates.append(candidate)
    reachable = any(bool(before + candidate == after) for candidate in candidates)
    assert bool(snap(theta_0, theta_1)["w"] == after) == reachable


def test_where_the_rounded_difference_misses_its_neighbour_hits() -> None:
    before, after = torch.tensor([-0.5 - 2.0**-24]), torch.tensor([1.0])
    assert before + (after - before) != after
    tau = task_vector({"w": before}, {"w": after})
    assert mix({"w": before}, [Term(tau, 1.0)])["w"] == after


def test_where_no_update_leads_to_theta_1_the_nearest_reachable_weight_is_kept() -> None:
    snapped = snap({"w": torch.tensor([1e8, 1.0])}, {"w": torch.tensor([1e-3, 1.5])})
    assert snapped["w"].tolist() == [0.0, 1.5]


def test_unchanged_weights_come_back_with_their_zeros_signs() -> None:
    theta = {"w": torch.tensor([0.0, -0.0, 1.0])}
    tau = task_vector(theta, theta)
    assert not tau["w"].any()
    for coefficient in (0.0, 0.5, 1.0):
        assert bits(mix(theta, [Term(tau, coefficient)])["w"]) == bits(theta["w"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_summed_in_float32(dtype: torch.dtype) -> None:
    # In half precision a hundred small updates vanish one by one; in float32 their sum does not.
    theta_0 = {"w": torch.full((3,), 256.0, dtype=dtype)}
    terms = [Term({"w": torch.full((3,), 0.05)}, 1.0)] * 100
    mixed = mix(theta_0, terms)["w"]
    assert mixed.dtype == dtype
    assert bits(mixed) == bits(torch.full((3,), 261.0).to(dtype))


@given(st.integers(0, 100), st.floats(-2, 2, width=32), st.sampled_from([0.0, 1.0, -0.7]))
def test_chunks_change_no_bit(seed: int, first: float, second: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = 2 * summing.CHUNK_NUMBERS + 3 + seed
    base, one, two = (torch.randn(size, generator=generator) for _ in range(3))
    expected = base.clone()
    for update, factor in ((one, first), (two, second)):
        expected += update * factor
    mixed = mix({"w": base}, [Term({"w": one}, first), Term({"w": two}, second)])["w"]
    assert torch.equal(mixed, expected)


def test_chunks_of_half_precision_change_no_bit_either() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(1000, 700, generator=generator).to(torch.bfloat16)
    update = torch.randn(1000, 700, generator=generator)
    mixed = mix({"w": base}, [Term({"w": update}, 0.3)])["w"]
    assert torch.equal(mixed, (base.float() + update * 0.3).to(torch.bfloat16))


def test_integer_and_boolean_buffers_stay_the_bases() -> None:
    theta_0 = {"w": torch.zeros(2), "steps": torch.tensor(3), "mask": torch.tensor([True, False])}
    theta_1 = {"w": torch.ones(2), "steps": torch.tensor(9), "mask": torch.tensor([False, True])}
    tau = task_vector(theta_0, theta_1)
    assert set(tau) == {"w"}
    for weights in (mix(theta_0, [Term(tau, 1.0)]), snap(theta_0, theta_1)):
        assert (weights["steps"].item(), weights["mask"].tolist()) == (3, [True, False])


def test_a_module_in_half_precision_gets_the_mix_rounded_once() -> None:
    base, other = nn.Linear(5, 4).state_dict(), nn.Linear(5, 4).state_dict()
    tau = task_vector(base, other)
    module = nn.Linear(5, 4).to(torch.bfloat16)
    mix_into(module, base, [Term(tau, 0.3), Term(tau, 0.4)])
    for name, tensor in mix(base, [Term(tau, 0.3), Term(tau, 0.4)]).items():
        assert torch.equal(module.state_dict()[name], tensor.to(torch.bfloat16))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_sum_that_is_not_finite_is_refused_with_its_name(value: float) -> None:
    base = {"fine": torch.zeros(2), "broken": torch.zeros(2)}
    tau = {"fine": torch.ones(2), "broken": torch.tensor([1.0, value])}
    with pytest.raises(NonFiniteWeightsError, match="broken"):
        mix(base, [Term(tau, 0.5)])
    with pytest.raises(NonFiniteWeightsError, match="broken"):
        combine([Term(tau, 1.0)])


def test_a_mix_beyond_half_precisions_range_is_refused() -> None:
    with pytest.raises(NonFiniteWeightsError):
        mix({"w": torch.tensor([60000.0]).half()}, [Term({"w": torch.tensor([6000.0])}, 1.0)])


def test_large_finite_weights_whose_sum_overflows_are_not_refused() -> None:
    base = {"w": torch.full((4,), 3e38)}
    assert torch.equal(mix(base, [Term({"w": torch.zeros(4)}, 0.5)])["w"], base["w"])


def test_a_task_vector_in_another_precision_is_refused() -> None:
    with pytest.raises(WeightsMismatchError, match="float16"):
        mix({"w": torch.zeros(2)}, [Term({"w": torch.zeros(2).half()}, 1.0)])


VIT = ["conv1.weight", "transformer.resblocks.0.w", "transformer.resblocks.1.w", "proj"]


def test_lines_scales_with_depth_and_leaves_the_stem_bit_for_bit() -> None:
    base = {name: torch.full((2,), -0.0) for name in VIT}
    tau = {name: torch.full((2,), 3.0) for name in VIT}
    mixed = mix(base, [Term(tau, 1.5, "lines")])
    assert [float(mixed[name][0]) for name in VIT] == [0.0, 1.5, 3.0, 4.5]
    assert bits(mixed[VIT[0]]) == bits(base[VIT[0]])


@given(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32))
def test_combined_terms_mix_as_they_do_apart(first: float, second: float) -> None:
    generator = torch.Generator().manual_seed(0)
    base, one, two = ({name: torch.randn(3, generator=generator) for name in VIT} for _ in range(3))
    terms = [Term(one, first, "lines"), Term(two, second)]
    together, apart = mix(base, [Term(combine(terms), 1.0)]), mix(base, terms)
    for name in VIT:
        torch.testing.assert_close(together[name], apart[name], rtol=1e-5, atol=1e-5)


def test_combining_one_whole_term_gives_it_back_bit_for_bit() -> None:
    tau = {"w": torch.tensor([0.0, -0.0, TINY, 1.0])}
    assert bits(combine([Term(tau, 1.0)])["w"]) == bits(tau["w"])
    assert bits(combine([Term(tau, 0.0)])["w"]) == bits(torch.zeros(4))


def test_a_negated_term_takes_back_what_it_added() -> None:
    base = {name: torch.zeros(2) for name in VIT}
    term = Term({name: torch.randn(2) for name in VIT}, 0.3, "lines")
    negated = replace(term, coefficient=-0.3)
    for name, tensor in mix(base, [term, negated]).items():
        assert torch.equal(tensor, base[name])
    assert mix(base, [negated])["proj"].equal(-mix(base, [term])["proj"])
