import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from paint_core.errors import ConfigError, NonFiniteWeightsError, WeightsMismatchError
from paint_core.merging import MERGERS, merge
from paint_core.models import BaseModel
from paint_core.weights import Term, mix, relative_norm

Weights = dict[str, Tensor]
SPECTRAL = ("tsv", "iso")
SHAPES = {
    "scale": (),
    "bias": (7,),
    "class": (1, 1, 7),
    "linear": (7, 5),
    "position": (1, 6, 7),
    "conv": (4, 3, 2, 2),
    "depthwise": (6, 1, 3, 3),
}


def updates(count: int, seed: int = 0, shapes: dict[str, tuple[int, ...]] = SHAPES) -> list[Weights]:
    generator = torch.Generator().manual_seed(seed)
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(count)]


def matrix(weights: Weights, name: str) -> np.ndarray:
    tensor = weights[name]
    rows = tensor.shape[1] if name == "position" else tensor.shape[0]
    return tensor.reshape(rows, -1).double().numpy()


def mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).double().mean(dim=0).float()


# Oracles: each method again, from its paper, in another way (numpy, loops, eigenvalues).


def ties_one_by_one(taus: list[Weights]) -> dict[str, list[float]]:
    """TIES with a loop over numbers."""
    trimmed = []
    for tau in taus:
        everything = sorted((abs(x) for t in tau.values() for x in t.reshape(-1).tolist()), reverse=True)
        limit = everything[round(0.2 * len(everything)) - 1]
        trimmed.append({n: [x if abs(x) >= limit else 0.0 for x in t.reshape(-1).tolist()] for n, t in tau.items()})
    merged = {}
    for name in taus[0]:
        merged[name] = []
        for votes in zip(*(tau[name] for tau in trimmed), strict=True):
            elected = math.copysign(1, sum(votes)) if sum(votes) else 0
            agreeing = [vote for vote in votes if vote * elected > 0]
            merged[name].append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return merged


def inverse_root(gram: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(gram)
    return (vectors / np.sqrt(values)) @ vectors.T


def tsv_by_whitening(matrices: list[np.ndarray]) -> np.ndarray:
    """TSV-M with the whitening as the paper states it first: B (B^T B)^(-1/2)."""
    kept = min(matrices[0].shape) // len(matrices)
    decompositions = [np.linalg.svd(each, full_matrices=False) for each in matrices]
    left = np.hstack([u[:, :kept] for u, _, _ in decompositions])
    right = np.hstack([vt[:kept].T for _, _, vt in decompositions])
    values = np.concatenate([s[:kept] for _, s, _ in decompositions])
    left, right = left @ inverse_root(left.T @ left), right @ inverse_root(right.T @ right)
    return left @ np.diag(values) @ right.T


def iso_by_polar(matrices: list[np.ndarray]) -> np.ndarray:
    """Iso-C through the polar factor M (M^T M)^(-1/2) of the taller side, no singular vectors."""
    total = sum(matrices)
    tall = total if total.shape[0] >= total.shape[1] else total.T
    polar = tall @ inverse_root(tall.T @ tall)
    nuclear_norm = np.trace(polar.T @ tall)
    flat = nuclear_norm / min(total.shape) * polar
    return flat if total.shape[0] >= total.shape[1] else flat.T


@given(st.integers(2, 4), st.integers(0, 1000))
def test_average_and_task_arithmetic_are_mean_and_sum(count: int, seed: int) -> None:
    taus = updates(count, seed)
    for name in SHAPES:
        expected = mean([tau[name] for tau in taus])
        torch.testing.assert_close(merge("average", taus)[name], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(merge("task_arithmetic", taus)[name], count * expected, rtol=1e-5, atol=1e-5)


@given(st.integers(2, 4), st.integers(0, 1000))
def test_ties_is_what_the_paper_says_number_by_number(count: int, seed: int) -> None:
    taus = updates(count, seed, {"linear": (7, 5), "bias": (15,)})
    merged, expected = merge("ties", taus), ties_one_by_one(taus)
    for name, numbers in expected.items():
        torch.testing.assert_close(merged[name].reshape(-1), torch.tensor(numbers), rtol=1e-5, atol=1e-6)


def test_ties_by_hand() -> None:
    # Ten numbers, so two of each survive: 5 and -4; 6 and 3; -1 and 9.
    first = {"a": torch.tensor([5.0, -4, 0.1, 0.1, 0.1]), "b": torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1])}
    second = {"a": torch.tensor([6.0, 3, 0.2, 0.2, 0.2]), "b": torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2])}
    third = {"a": torch.tensor([-1.0, 0, 0, 0, 0]), "b": torch.tensor([0.0, 0, 0, 0, 9])}
    merged = merge("ties", [first, second, third])
    # 5 and 6 outvote -1; -4 outvotes 3 and stands alone; 9 has nobody beside it.
    assert merged["a"].tolist() == [5.5, -4, 0, 0, 0]
    assert merged["b"].tolist() == [0, 0, 0, 0, 9]


def test_ties_trims_over_the_whole_tower_not_layer_by_layer() -> None:
    loud, quiet = torch.full((2,), 5.0), torch.full((8,), 0.1)
    merged = merge("ties", [{"loud": loud, "quiet": quiet}] * 2)
    assert torch.equal(merged["loud"], loud)
    assert not merged["quiet"].any()


def test_numbers_that_cancel_out_elect_no_sign() -> None:
    taus = [{"a": torch.tensor([3.0, 0, 0, 0, 0])}, {"a": torch.tensor([-3.0, 0, 0, 0, 0])}]
    assert not merge("ties", taus)["a"].any()


@given(st.integers(2, 4), st.integers(0, 1000))
def test_tsv_whitens_the_strongest_directions_of_every_task(count: int, seed: int) -> None:
    taus = updates(count, seed)
    merged = merge("tsv", taus)
    for name in ("linear", "position", "conv", "depthwise"):
        expected = tsv_by_whitening([matrix(tau, name) for tau in taus])
        np.testing.assert_allclose(matrix(merged, name), expected, rtol=1e-2, atol=2e-3)


@given(st.integers(2, 4), st.integers(0, 1000))
def test_iso_flattens_the_spectrum_of_the_sum(count: int, seed: int) -> None:
    taus = updates(count, seed)
    merged = merge("iso", taus)
    for name in ("linear", "position", "conv", "depthwise"):
        expected = iso_by_polar([matrix(tau, name) for tau in taus])
        np.testing.assert_allclose(matrix(merged, name), expected, rtol=1e-2, atol=2e-3)


def test_iso_gives_every_direction_the_same_weight() -> None:
    taus = updates(3)
    values = torch.linalg.svdvals(merge("iso", taus)["linear"])
    before = torch.linalg.svdvals(merge("task_arithmetic", taus)["linear"])
    torch.testing.assert_close(values, before.mean().expand(5))
    assert before.max() > 2 * before.min()


def test_tsv_leaves_tasks_alone_that_do_not_touch_each_other() -> None:
    # Rank one each, on different rows and columns: nothing to whiten, so the sum comes back whole.
    first, second = torch.zeros(6, 6), torch.zeros(6, 6)
    first[:3, :3] = torch.outer(torch.arange(1.0, 4), torch.arange(1.0, 4))
    second[3:, 3:] = torch.outer(torch.arange(2.0, 5), torch.arange(1.0, 4))
    merged = merge("tsv", [{"w": first}, {"w": second}])["w"]
    torch.testing.assert_close(merged, first + second, rtol=1e-4, atol=1e-4)


def test_tsv_of_twins_is_their_mean_and_nothing_beside_it() -> None:
    twin = {"w": torch.outer(torch.arange(1.0, 7), torch.arange(2.0, 8))}
    torch.testing.assert_close(merge("tsv", [twin, twin])["w"], twin["w"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", SPECTRAL)
def test_layers_that_no_task_changed_stay_unchanged(method: str) -> None:
    taus = [tau | {"linear": torch.zeros(7, 5)} for tau in updates(2)]
    assert not merge(method, taus)["linear"].any()


@pytest.mark.parametrize("method", SPECTRAL)
def test_low_rank_updates_stay_in_their_span(method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    columns, rows = torch.randn(20, 2, generator=generator), torch.randn(2, 20, generator=generator)
    taus = [{"w": columns @ torch.randn(2, 2, generator=generator) @ rows} for _ in range(2)]
    merged = merge(method, taus)["w"]
    outside = torch.eye(20) - columns @ torch.linalg.pinv(columns)
    assert merged.norm() > 1
    assert (outside @ merged).norm() < 1e-3 * merged.norm()


@pytest.mark.parametrize("method", SPECTRAL)
def test_what_is_no_matrix_is_averaged(method: str) -> None:
    taus = updates(3)
    merged = merge(method, taus)
    for name in ("scale", "bias", "class"):
        torch.testing.assert_close(merged[name], mean([tau[name] for tau in taus]))


@pytest.mark.parametrize("method", [name for name in MERGERS if name != "average"])
def test_no_other_method_is_a_scaled_average(method: str) -> None:
    merged, averaged = merge(method, updates(3))["linear"], merge("average", updates(3))["linear"]
    cosine = torch.nn.functional.cosine_similarity(merged.flatten(), averaged.flatten(), dim=0)
    if method == "task_arithmetic":  # it is, by the number of tasks
        torch.testing.assert_close(merged, 3 * averaged)
    else:
        assert 0.3 < cosine < 0.99


@pytest.mark.parametrize("method", MERGERS)
def test_the_order_of_tasks_does_not_matter(method: str) -> None:
    taus = updates(3)
    forward, backward = merge(method, taus), merge(method, taus[::-1])
    for name in SHAPES:
        torch.testing.assert_close(forward[name], backward[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", MERGERS)
def test_a_merged_task_vector_mixes_with_its_base(method: str, starter_base: BaseModel) -> None:
    theta_0 = starter_base.visual.state_dict()
    taus = updates(2, shapes={name: tuple(tensor.shape) for name, tensor in theta_0.items()})
    before = [{name: tensor.clone() for name, tensor in tau.items()} for tau in taus]
    merged = merge(method, taus)
    assert 0 < relative_norm(merged, theta_0) < math.inf
    mixed = mix(theta_0, [Term(merged, 0.5)])
    assert all(tensor.shape == theta_0[name].shape for name, tensor in mixed.items())
    for tau, copy in zip(taus, before, strict=True):
        assert all(torch.equal(tensor, copy[name]) for name, tensor in tau.items())


def test_what_cannot_be_merged_is_refused() -> None:
    taus = updates(2)
    with pytest.raises(ConfigError, match=r"'average'.*'tsv'"):
        merge("fisher", taus)
    with pytest.raises(ConfigError, match="at least two"):
        merge("ties", taus[:1])
    with pytest.raises(WeightsMismatchError, match="bias"):
        merge("ties", [taus[0], {name: tensor for name, tensor in taus[1].items() if name != "bias"}])
    with pytest.raises(WeightsMismatchError, match="shape"):
        merge("tsv", [taus[0], taus[1] | {"linear": torch.zeros(5, 7)}])
    with pytest.raises(WeightsMismatchError, match="float32"):
        merge("iso", [taus[0], taus[1] | {"linear": torch.zeros(7, 5).half()}])
    with pytest.raises(NonFiniteWeightsError, match="linear"):
        merge("tsv", [taus[0], taus[1] | {"linear": torch.full((7, 5), math.nan)}])
