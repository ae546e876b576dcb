"""A mixed copy is the mix, bit for bit, and shares with its module whatever the mix leaves as it is."""

import copy

import pytest
import torch
from torch import Tensor, nn

from paint_core.errors import NonFiniteWeightsError, WeightsMismatchError
from paint_core.weights import Term, mix_into, mixed_copy


class Tower(nn.Module):
    """Parameters, an integer buffer, a running statistic, and a buffer that no state dict names."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 2, bias=False)
        self.register_buffer("mask", torch.ones(2), persistent=False)


@pytest.fixture
def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().eval().requires_grad_(False)


def update(tower: Tower, size: float = 1.0) -> dict[str, Tensor]:
    return {
        name: size * torch.randn(each.shape) for name, each in tower.state_dict().items() if each.is_floating_point()
    }


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


def shared(one: nn.Module, other: nn.Module) -> set[str]:
    """The parameters and buffers of which both have the same memory."""
    ours, theirs = (dict([*each.named_parameters(), *each.named_buffers()]) for each in (one, other))
    return {name for name, tensor in ours.items() if tensor.data_ptr() == theirs[name].data_ptr()}


def test_it_is_the_mix_bit_for_bit_and_the_module_is_untouched(tower: Tower) -> None:
    before, terms = bits(tower), [Term(update(tower), 0.3), Term(update(tower), -1.7)]
    expected = copy.deepcopy(tower)
    mix_into(expected, tower.state_dict(), terms)
    mixed = mixed_copy(tower, terms)
    assert bits(mixed) == bits(expected)
    assert bits(tower) == before
    assert type(mixed) is Tower
    assert not mixed.training
    assert not any(parameter.requires_grad for parameter in mixed.parameters())
    assert all(isinstance(parameter, nn.Parameter) for parameter in mixed.parameters())


def test_it_shares_what_no_term_changes(tower: Tower) -> None:
    tau = update(tower)
    tau["first.bias"] = torch.zeros(4)
    mixed = mixed_copy(tower, [Term(tau, 0.5)])
    assert shared(mixed, tower) == {"first.bias", "norm.num_batches_tracked", "mask"}
    assert mixed.first.bias is not tower.first.bias  # of one memory, but moving one module moves not the other
    assert shared(mixed_copy(tower, [Term(tau, 0.0)]), tower) >= set(tower.state_dict())


def test_a_zero_that_changes_its_sign_is_a_change(tower: Tower) -> None:
    tower.first.bias.fill_(-0.0)
    tau = {name: torch.zeros_like(each) for name, each in tower.state_dict().items() if each.is_floating_point()}
    mixed = mixed_copy(tower, [Term(tau, 1.0)])
    assert not bool(mixed.first.bias.signbit().any())
    assert bool(tower.first.bias.signbit().all())


def test_what_does_not_fit_or_is_not_finite_is_refused(tower: Tower) -> None:
    tau = update(tower)
    with pytest.raises(WeightsMismatchError, match="shape"):
        mixed_copy(tower, [Term(tau | {"first.bias": torch.zeros(5)}, 1.0)])
    with pytest.raises(NonFiniteWeightsError, match=r"first\.bias"):
        mixed_copy(tower, [Term(tau | {"first.bias": torch.full((4,), 3e38)}, 2.0)])
