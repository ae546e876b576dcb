"""Measures of task vectors, and those that stay in their files."""

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from paint_core.errors import NonFiniteWeightsError, WeightsMismatchError
from paint_core.models import BaseModel
from paint_core.weights import (
    BASE_KEY,
    StoredTaskVector,
    Term,
    combine,
    load_task_vector,
    mix,
    mix_into,
    read_metadata,
    relative_norm,
    save_task_vector,
)
from tests.paint_core.weights.test_weights import LIKE, Counted, Weights, bits


@pytest.mark.parametrize("way", ["mix", "mix_into", "combine"])
def test_a_lazy_task_vector_is_asked_once_for_each_tensor(way: str) -> None:
    layer, tau = nn.Linear(3, 2), {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    lazy, base = Counted(tau), nn.Linear(3, 2).state_dict()
    if way == "mix":
        mix(base, [Term(lazy, 0.5)])
    elif way == "mix_into":
        mix_into(layer, base, [Term(lazy, 0.5)])
    else:
        combine([Term(lazy, 0.5)])
    assert lazy.asked == {"weight": 1, "bias": 1}


def test_a_lazy_task_vector_of_coefficient_zero_is_not_read() -> None:
    lazy = Counted({"w": torch.ones(2)})
    mix({"w": torch.zeros(2)}, [Term(lazy, 0.0)])
    assert not lazy.asked


def test_a_lazy_task_vector_of_another_shape_is_refused_when_it_is_read() -> None:
    with pytest.raises(WeightsMismatchError, match=r"w has shape \[3, 1\]"):
        mix({"w": torch.zeros(3)}, [Term(Counted({"w": torch.zeros(3, 1)}), 1.0)])


def stored(folder: Path, tau: Weights, metadata: dict[str, str] | None = None) -> Path:
    path = folder / "tau.safetensors"
    path.write_bytes(save_task_vector(tau, metadata or {}))
    return path


def test_a_stored_task_vector_mixes_like_one_in_memory(tmp_path: Path, starter_base: BaseModel) -> None:
    theta = starter_base.visual.state_dict()
    tau = {name: torch.randn(tensor.shape) for name, tensor in theta.items()}
    lazy = StoredTaskVector(stored(tmp_path, tau), theta)
    assert (len(lazy), set(lazy)) == (len(tau), set(tau))
    assert bits(mix(theta, [Term(lazy, 0.3, "lines")])) == bits(mix(theta, [Term(tau, 0.3, "lines")]))
    assert bits(combine([Term(lazy, 1.0)])) == bits(tau)
    assert relative_norm(lazy, theta) == pytest.approx(relative_norm(tau, theta), rel=1e-12)  # summed in another order
    with pytest.raises(KeyError):
        lazy["nothing"]


def test_a_tensor_outlives_the_mapping_it_was_read_from(tmp_path: Path) -> None:
    tau = {"w": torch.randn(1000)}
    tensor = StoredTaskVector(stored(tmp_path, tau), tau)["w"]
    assert torch.equal(tensor, tau["w"])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": torch.zeros(2, 3)}, "missing"),
        ({"w": torch.zeros(2, 3), "b": torch.zeros(3), "c": torch.zeros(1)}, "extra"),
        ({"w": torch.zeros(3, 2), "b": torch.zeros(3)}, "shape"),
        ({"w": torch.zeros(2, 3), "b": torch.zeros(3, dtype=torch.float16)}, "float32"),
        ({"w": torch.zeros(2, 3), "b": torch.zeros(3), "steps": torch.tensor(1)}, "float32"),
    ],
)
def test_a_file_of_another_model_is_refused_before_a_tensor_is_read(
    tmp_path: Path, tensors: Weights, message: str
) -> None:
    safetensors.torch.save_file(tensors, tmp_path / "tau.safetensors")
    with pytest.raises(WeightsMismatchError, match=message):
        StoredTaskVector(tmp_path / "tau.safetensors", LIKE)


def test_a_file_that_is_missing_cut_off_or_a_pickle_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, {"w": torch.zeros(2, 3), "b": torch.zeros(3)})
    path.write_bytes(path.read_bytes()[:-1])
    torch.save({"w": torch.zeros(1)}, tmp_path / "pickle")
    for file in (path, tmp_path / "pickle", tmp_path / "nothing"):
        with pytest.raises(WeightsMismatchError, match="safetensors"):
            StoredTaskVector(file, LIKE)


def test_a_stored_value_that_is_not_finite_is_refused_by_the_mix(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.tensor([1.0, math.nan])}, tmp_path / "tau")
    lazy = StoredTaskVector(tmp_path / "tau", {"w": torch.zeros(2)})
    with pytest.raises(NonFiniteWeightsError, match="w would contain"):
        mix({"w": torch.zeros(2)}, [Term(lazy, 0.5)])


def test_a_task_vector_measured_on_another_base_is_refused(tmp_path: Path) -> None:
    tau = {"w": torch.zeros(2)}
    path = stored(tmp_path, tau, {BASE_KEY: "a" * 64})
    for data in (path, path.read_bytes()):
        load_task_vector(data, tau, base_fingerprint="a" * 64)
        with pytest.raises(WeightsMismatchError, match=r"base a{12}, not to b{12}:"):
            load_task_vector(data, tau, base_fingerprint="b" * 64)
    assert read_metadata(path) == {BASE_KEY: "a" * 64}
    with pytest.raises(WeightsMismatchError, match="base"):
        StoredTaskVector(path, tau, base_fingerprint="b" * 64)
    StoredTaskVector(stored(tmp_path, tau), tau, base_fingerprint="b" * 64)
