"""Merges that weigh updates by the inputs of the layers: `ace` guesses them, `regmean` and `esm` look at images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from paint_core.errors import ConfigError
from paint_core.merging import MERGERS, WITH_IMAGES, input_moments, merge
from paint_core.merging.least_squares import RIDGE
from paint_core.models import BaseModel
from tests.paint_core import tiny

Weights = dict[str, Tensor]
METHODS = ("ace", *WITH_IMAGES)
SHAPES = {"bias": (7,), "linear": (6, 5), "conv": (4, 3, 2, 2), "unseen": (6, 1, 3, 3)}
seeds = given(st.integers(2, 4), st.integers(0, 1000))


def updates(count: int, seed: int = 0) -> list[Weights]:
    generator = torch.Generator().manual_seed(seed)
    return [{name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()} for _ in range(count)]


def moments(count: int, seed: int = 0) -> list[Weights]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"linear": 5, "conv": 12}
    inputs = [{name: torch.randn(40, size, generator=generator) for name, size in sizes.items()} for _ in range(count)]
    return [{name: rows.double().T @ rows.double() / 40 for name, rows in each.items()} for each in inputs]


def merged(method: str, taus: list[Weights], of: list[Weights] | None = None) -> Weights:
    return merge(method, taus, moments(len(taus)) if of is None else of)


def best_layer(matrices: list[np.ndarray], covariances: list[np.ndarray]) -> np.ndarray:
    """The least-squares layer, row by row as a stacked regression over the roots of the covariances."""
    size = matrices[0].shape[1]
    ridge = RIDGE * sum(np.trace(each) for each in covariances) / (len(covariances) * size)
    roots = [np.linalg.cholesky(each + ridge * np.eye(size)).T for each in covariances]
    targets = np.vstack([root @ matrix.T for root, matrix in zip(roots, matrices, strict=True)])
    return np.linalg.lstsq(np.vstack(roots), targets, rcond=None)[0].T


@seeds
def test_regmean_is_the_regression_on_all_inputs(count: int, seed: int) -> None:
    taus, of = updates(count, seed), moments(count, seed)
    found = merged("regmean", taus, of)
    for name in ("linear", "conv"):
        rows = SHAPES[name][0]
        expected = best_layer(
            [tau[name].reshape(rows, -1).double().numpy() for tau in taus], [m[name].numpy() for m in of]
        )
        np.testing.assert_allclose(found[name].reshape(rows, -1), expected, rtol=1e-3, atol=1e-4)


@seeds
def test_ace_is_the_regression_on_the_covariances_of_the_updates_rows(count: int, seed: int) -> None:
    taus = updates(count, seed)
    matrices = [tau["linear"].double().numpy() for tau in taus]
    guessed = [np.cov(matrix, rowvar=False) for matrix in matrices]
    expected = best_layer(matrices, [each / np.trace(each) for each in guessed])
    np.testing.assert_allclose(merged("ace", taus)["linear"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["ace", "regmean"])
def test_of_one_task_and_of_equal_tasks_the_merge_is_its_own_task_vector(method: str) -> None:
    tau = updates(1)[0]
    alone = MERGERS["ace"]([tau]) if method == "ace" else WITH_IMAGES[method]([tau], moments(1))
    for name in SHAPES:
        torch.testing.assert_close(alone[name], tau[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(merged(method, [tau] * 3)[name], tau[name], rtol=1e-4, atol=1e-5)


def test_esm_of_one_task_has_its_directions_with_one_strength() -> None:
    tau = updates(1)[0]
    alone = WITH_IMAGES["esm"]([tau], moments(1))["linear"]
    values = torch.linalg.svdvals(alone)
    torch.testing.assert_close(values, values.mean().expand(5), rtol=1e-4, atol=1e-4)


def test_esm_keeps_what_moves_the_outputs_and_drops_what_no_input_reaches() -> None:
    # Two tasks, so half of the four output directions each; inputs of each task lie along one axis only.
    first, second = torch.zeros(4, 4), torch.zeros(4, 4)
    first[0, 0], first[2, 3] = 1.0, 5.0  # the larger entry acts on an input that never comes
    second[1, 1], second[3, 2] = 1.0, 5.0
    of = [{"w": torch.diag(torch.tensor(axis).double())} for axis in ([1.0, 1e-6, 0, 1e-9], [1e-6, 1.0, 1e-9, 0])]
    found = merge("esm", [{"w": first}, {"w": second}], of)["w"]
    assert found[0, 0] > 0.1
    assert found[1, 1] > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_tasks_does_not_matter(method: str) -> None:
    taus, of = updates(3), moments(3)
    forward, backward = merged(method, taus, of), merged(method, taus[::-1], of[::-1])
    for name in SHAPES:
        torch.testing.assert_close(forward[name], backward[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@given(st.sampled_from([1e-4, 0.5, 30.0]))
def test_a_merge_of_scaled_task_vectors_is_the_scaled_merge(method: str, factor: float) -> None:
    taus = updates(3)
    plain, scaled = merged(method, taus), merged(method, [{n: factor * t for n, t in tau.items()} for tau in taus])
    for name in SHAPES:
        torch.testing.assert_close(scaled[name], factor * plain[name], rtol=1e-3, atol=1e-3 * factor)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_count_by_their_directions_not_by_their_unit(method: str) -> None:
    taus, of = updates(3), moments(3)
    tenfold = [{name: 100 * moment for name, moment in each.items()} for each in of]
    for name, tensor in merged(method, taus, of).items():
        torch.testing.assert_close(merged(method, taus, tenfold)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_no_task_changed_stay_unchanged_and_vectors_are_averaged(method: str) -> None:
    taus = [tau | {"linear": torch.zeros(6, 5)} for tau in updates(2)]
    found = merged(method, taus)
    assert not found["linear"].any()
    torch.testing.assert_close(found["bias"], (taus[0]["bias"] + taus[1]["bias"]) / 2)


@pytest.mark.parametrize("method", WITH_IMAGES)
def test_a_method_that_looks_at_images_needs_moments_of_each_task(method: str) -> None:
    for given_moments in (None, moments(1)):
        with pytest.raises(ConfigError, match="moments"):
            merge(method, updates(2), given_moments)


def test_moments_are_those_of_what_each_layer_receives() -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Flatten(2), nn.Linear(4, 5)).eval()
    pixels = torch.randn(6, 3, 4, 4)
    found = input_moments(tower, pixels)
    assert set(found) == {"0.weight", "2.weight"}
    inputs = tower[1](tower[0](pixels)).reshape(-1, 4).double()
    torch.testing.assert_close(found["2.weight"], inputs.T @ inputs / len(inputs))
    # A convolution is linear in its patches: their moment gives the second moment of its outputs.
    kernel, bare = tower[0].weight.reshape(4, -1).double(), nn.Conv2d(3, 4, 2, stride=2, bias=False)
    bare.weight = tower[0].weight
    outputs = bare(pixels).permute(0, 2, 3, 1).reshape(-1, 4).double()
    torch.testing.assert_close(kernel @ found["0.weight"] @ kernel.T, outputs.T @ outputs / len(outputs))
    assert not tower[0]._forward_pre_hooks


def test_moments_cover_the_layers_of_real_towers(tiny_base: BaseModel, starter_base: BaseModel) -> None:
    for base in (tiny_base, starter_base):
        images = tiny.coloured(base, 3).images
        state = base.visual.state_dict()
        found = input_moments(base.visual, base.preprocess.normalise(images, torch.device("cpu")))
        assert len(found) >= 4
        for name, moment in found.items():
            assert moment.shape[0] == state[name].reshape(len(state[name]), -1).shape[1], name
