import hashlib
import json
import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from paint_core.errors import ConfigError, NonFiniteWeightsError, WeightsMismatchError
from paint_core.models import BaseModel
from paint_core.weights import (
    BASE_KEY,
    Term,
    block_cosines,
    block_norms,
    cosine,
    fingerprint,
    load_task_vector,
    mix,
    mix_into,
    read_metadata,
    relative_norm,
    save_task_vector,
    task_vector,
)

Weights = dict[str, Tensor]
values = st.floats(-100, 100, width=32)
alphas = st.floats(-2, 2, width=32)


@st.composite
def thetas(draw: st.DrawFn, count: int = 2) -> list[Weights]:
    """Several state dicts of one shape, with an integer buffer such as BatchNorm's."""
    shapes = draw(st.lists(st.sampled_from([(), (1,), (3,), (2, 3), (1, 2, 2, 2)]), min_size=1, max_size=3))

    def one() -> Weights:
        weights: Weights = {"steps": torch.tensor(draw(st.integers(0, 9)))}
        for index, shape in enumerate(shapes):
            size = math.prod(shape)
            numbers = draw(st.lists(values, min_size=size, max_size=size))
            weights[f"layer.{index}"] = torch.tensor(numbers).reshape(shape)
        return weights

    return [one() for _ in range(count)]


def bits(weights: Weights) -> dict[str, bytes]:
    """What is in memory, so that -0.0 is not 0.0."""
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in weights.items()}


@given(thetas(), st.lists(alphas, max_size=2))
def test_coefficient_zero_gives_the_base_bit_for_bit(pair: list[Weights], others: list[float]) -> None:
    theta_0, theta_1 = pair
    tau = task_vector(theta_0, theta_1)
    assert bits(mix(theta_0, [Term(tau, 0.0)] * (1 + len(others)))) == bits(theta_0)
    assert bits(mix(theta_0, [])) == bits(theta_0)


def test_negative_zero_survives_coefficient_zero() -> None:
    theta = {"w": torch.tensor([-0.0])}
    assert bits(mix(theta, [Term({"w": torch.tensor([1.0])}, 0.0)])) == bits(theta)


@given(thetas(), st.floats(0, 1))
def test_swapping_the_ends_mirrors_alpha(pair: list[Weights], alpha: float) -> None:
    theta_0, theta_1 = pair
    forward = mix(theta_0, [Term(task_vector(theta_0, theta_1), alpha)])
    backward = mix(theta_1, [Term(task_vector(theta_1, theta_0), 1 - alpha)])
    for name in task_vector(theta_0, theta_1):
        torch.testing.assert_close(forward[name], backward[name], rtol=1e-5, atol=1e-4)


@given(thetas(3), alphas, alphas)
def test_terms_add_up_in_any_order(trio: list[Weights], first: float, second: float) -> None:
    theta_0, theta_1, theta_2 = trio
    terms = [Term(task_vector(theta_0, theta_1), first), Term(task_vector(theta_0, theta_2), second)]
    for name, tensor in mix(theta_0, terms).items():
        torch.testing.assert_close(tensor, mix(theta_0, terms[::-1])[name], rtol=1e-4, atol=1e-3)


@given(thetas(), alphas)
def test_inputs_are_left_alone_and_share_no_memory(pair: list[Weights], alpha: float) -> None:
    theta_0, theta_1 = pair
    before = bits(theta_0), bits(theta_1)
    tau = task_vector(theta_0, theta_1)
    stored = bits(tau)
    for tensor in mix(theta_0, [Term(tau, alpha)]).values():
        tensor.zero_()
    assert (bits(theta_0), bits(theta_1), bits(tau)) == (*before, stored)


@given(alphas, st.booleans())
def test_mixing_into_a_module_equals_mixing_in_any_memory_layout(alpha: float, channels_last: bool) -> None:
    layers = [nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)) for _ in range(2)]
    base, other = (layer.state_dict() for layer in layers)
    tau = task_vector(base, other)
    target = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    if channels_last:
        target = target.to(memory_format=torch.channels_last)
    addresses = [tensor.data_ptr() for tensor in target.state_dict().values()]
    mix_into(target, base, [Term(tau, alpha)])
    assert bits(dict(target.state_dict())) == bits(mix(base, [Term(tau, alpha)]))
    assert [tensor.data_ptr() for tensor in target.state_dict().values()] == addresses


@given(thetas(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_a_task_vector_round_trips(pair: list[Weights], metadata: dict[str, str]) -> None:
    tau = task_vector(*pair)
    data = save_task_vector(tau, metadata)
    loaded = load_task_vector(data, like=pair[0])
    assert bits(loaded) == bits(tau)
    assert read_metadata(data) == metadata


def test_equal_task_vectors_give_equal_bytes() -> None:
    tau = {"b": torch.ones(2), "a": torch.zeros(3)}
    metadata = {str(index): "x" for index in range(9)}
    files = {
        save_task_vector(tau, metadata),
        save_task_vector(dict(reversed(tau.items())), dict(reversed(metadata.items()))),
    }
    assert len(files) == 1


def test_a_task_vector_is_read_from_a_path(tmp_path: Path) -> None:
    tau = {"w": torch.ones(2)}
    (tmp_path / "tau").write_bytes(save_task_vector(tau, {}))
    assert torch.equal(load_task_vector(tmp_path / "tau", like={"w": torch.zeros(2)})["w"], tau["w"])


LIKE = {"w": torch.zeros(2, 3), "b": torch.zeros(3), "steps": torch.tensor(3)}


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
def test_a_stored_task_vector_of_another_model_is_refused(tensors: Weights, message: str) -> None:
    with pytest.raises(WeightsMismatchError, match=message):
        load_task_vector(safetensors.torch.save(tensors), like=LIKE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_on_every_way(value: float) -> None:
    bad = {"w": torch.tensor([0.0, value])}
    good = {"w": torch.zeros(2)}
    with pytest.raises(NonFiniteWeightsError):
        task_vector(good, bad)
    with pytest.raises(NonFiniteWeightsError):
        save_task_vector(bad, {})
    with pytest.raises(NonFiniteWeightsError):
        load_task_vector(safetensors.torch.save(bad), like=good)
    with pytest.raises(ConfigError):
        Term(good, value)


@given(st.binary(max_size=100))
def test_bytes_that_are_no_safetensors_file_are_refused(data: bytes) -> None:
    for file in (data, struct.pack("<Q", len(data)) + data, struct.pack("<Q", 2**60) + data):
        with pytest.raises(WeightsMismatchError):
            load_task_vector(file, like=LIKE)
        with pytest.raises(WeightsMismatchError):
            read_metadata(file)


def test_a_truncated_file_is_refused() -> None:
    data = save_task_vector({"w": torch.zeros(2, 3), "b": torch.zeros(3)}, {})
    for length in range(0, len(data), 7):
        with pytest.raises(WeightsMismatchError):
            load_task_vector(data[:length], like=LIKE)


def test_a_header_that_points_outside_its_file_is_refused() -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    with pytest.raises(WeightsMismatchError):
        load_task_vector(struct.pack("<Q", len(header)) + header + b"\0" * 8, like={"w": torch.zeros(1000)})


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "tau.bin")
    with pytest.raises(WeightsMismatchError):
        load_task_vector(tmp_path / "tau.bin", like={"w": torch.zeros(1)})


def test_mixing_what_does_not_fit_is_refused_before_anything_is_written() -> None:
    module = nn.Linear(2, 2)
    before = bits(dict(module.state_dict()))
    with pytest.raises(WeightsMismatchError, match="bias"):
        mix_into(module, nn.Linear(2, 2).state_dict(), [Term({"weight": torch.zeros(2, 2)}, 1.0)])
    with pytest.raises(WeightsMismatchError, match="shape"):
        mix_into(module, nn.Linear(3, 2).state_dict(), [])
    assert bits(dict(module.state_dict())) == before


def test_measuring_between_different_models_is_refused() -> None:
    with pytest.raises(WeightsMismatchError, match="missing"):
        task_vector({"a": torch.zeros(1), "b": torch.zeros(1)}, {"a": torch.zeros(1)})
    with pytest.raises(WeightsMismatchError, match="float16"):
        task_vector({"a": torch.zeros(1)}, {"a": torch.zeros(1).half()})
    with pytest.raises(WeightsMismatchError, match="shape"):
        cosine({"a": torch.zeros(1)}, {"a": torch.zeros(2)})


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match="flat"):
        Term({}, 1.0, profile="steep")


def test_the_fingerprint_tells_names_shapes_dtypes_and_values_apart_but_not_the_order() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.tensor(1)}
    assert fingerprint(base) == fingerprint(dict(reversed(base.items())))
    changed = [
        {"c": base["a"], "b": base["b"]},
        {"a": torch.zeros(3, 2), "b": base["b"]},
        {"a": torch.zeros(2, 3, dtype=torch.float64), "b": base["b"]},
        {"a": torch.full((2, 3), 1e-45), "b": base["b"]},
        {"a": base["a"]},
    ]
    assert len({fingerprint(weights) for weights in [base, *changed]}) == 1 + len(changed)


def test_the_fingerprint_does_not_depend_on_the_memory_layout() -> None:
    picture = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert fingerprint({"w": picture}) == fingerprint({"w": picture.to(memory_format=torch.channels_last)})


def test_the_fingerprint_does_not_depend_on_the_number_of_files_or_the_order_in_them(
    tmp_path: Path, starter_base: BaseModel
) -> None:
    theta = starter_base.visual.state_dict()
    shards: list[Weights] = [{}, {}, {}]
    for index, name in enumerate(sorted(theta, reverse=True)):
        shards[index % 3][name] = theta[name]
    read: Weights = {}
    for index, shard in enumerate(shards):
        safetensors.torch.save_file(shard, tmp_path / f"{index}.safetensors")
        read |= safetensors.torch.load_file(tmp_path / f"{index}.safetensors")
    assert list(read) != list(theta)
    assert fingerprint(read) == fingerprint(theta)


def test_the_fingerprint_reads_strided_and_empty_tensors() -> None:
    table = torch.arange(6.0).reshape(1, 6)[:, ::2]
    views = {"column": table[:, 1], "row": table[0], "none": table[0, :0], "one": table[0, :1].expand(3)}
    assert fingerprint(views) == fingerprint({name: torch.tensor(view.tolist()) for name, view in views.items()})


def test_the_fingerprint_is_the_one_of_other_machines() -> None:
    theta = {"b": torch.tensor([1.5, -0.0]), "a": torch.tensor(7), "h": torch.ones(1, 2, dtype=torch.bfloat16)}
    expected = hashlib.sha256(
        b'["a", "torch.int64", []]\x07\0\0\0\0\0\0\0'
        b'["b", "torch.float32", [2]]\0\0\xc0\x3f\0\0\0\x80'
        b'["h", "torch.bfloat16", [1, 2]]\x80\x3f\x80\x3f'
    )
    assert fingerprint(theta) == expected.hexdigest()


def test_cosine_and_norm_of_known_vectors() -> None:
    theta_0 = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0]), "n": torch.tensor(7)}
    theta_1 = {"a": torch.tensor([4.0]), "b": torch.tensor([-3.0]), "n": torch.tensor(9)}
    assert cosine(theta_0, theta_0) == pytest.approx(1)
    assert cosine(theta_0, theta_1) == pytest.approx(0)
    assert relative_norm(task_vector(theta_0, theta_1), theta_0) == pytest.approx(math.sqrt(50) / 5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_mixes_the_same_bits_from_vectors_on_either_side(tmp_path: Path, starter_base: BaseModel) -> None:
    theta = starter_base.visual.state_dict()
    tau = {name: torch.randn(tensor.shape) for name, tensor in theta.items()}
    on_gpu = {name: tensor.cuda() for name, tensor in theta.items()}
    expected = bits(mix(theta, [Term(tau, 0.3, "lines"), Term(tau, -0.7)]))
    for source in (tau, {name: tensor.cuda() for name, tensor in tau.items()}):
        mixed = mix(on_gpu, [Term(source, 0.3, "lines"), Term(source, -0.7)])
        assert bits({name: tensor.cpu() for name, tensor in mixed.items()}) == expected
    assert fingerprint(on_gpu) == fingerprint(theta)


def test_a_base_models_tower_mixes_and_keeps_its_function_at_zero(tiny_base: BaseModel) -> None:
    theta_0 = tiny_base.visual.state_dict()
    tau = {name: torch.ones_like(tensor) for name, tensor in theta_0.items()}
    assert bits(mix(theta_0, [Term(tau, 0.0)])) == bits(dict(theta_0))


TOWER = {
    "conv1.weight": torch.tensor([3.0, 4.0]),
    "transformer.resblocks.0.w": torch.tensor([2.0]),
    "transformer.resblocks.0.b": torch.tensor([0.0]),
    "proj": torch.tensor([0.0]),
}


def test_norms_per_block_say_where_the_update_lies() -> None:
    tau = {
        "proj": torch.tensor([1.0]),
        "conv1.weight": torch.tensor([0.0, 2.5]),
        "transformer.resblocks.0.b": torch.tensor([3.0]),
        "transformer.resblocks.0.w": torch.tensor([4.0]),
    }
    norms = block_norms(tau, TOWER)
    assert list(norms) == ["stem", "block 1", "final"]
    assert list(norms.values()) == pytest.approx([0.5, 2.5, math.inf])


def test_cosines_per_block_and_of_nothing() -> None:
    turned = TOWER | {"conv1.weight": torch.tensor([4.0, -3.0]), "transformer.resblocks.0.w": torch.tensor([-1.0])}
    cosines = block_cosines(TOWER, turned)
    assert (cosines["stem"], cosines["block 1"]) == (pytest.approx(0), pytest.approx(-1))
    assert math.isnan(cosines["final"])
    assert math.isnan(cosine({"a": torch.zeros(1)}, {"a": torch.ones(1)}))
    assert relative_norm({"a": torch.zeros(1)}, {"a": torch.zeros(1)}) == 0


class Counted(Mapping[str, Tensor]):
    """A lazy task vector that counts how often it is asked."""

    def __init__(self, tensors: Weights) -> None:
        self.tensors = tensors
        self.asked = Counter[str]()

    def __getitem__(self, name: str) -> Tensor:
        self.asked[name] += 1
        return self.tensors[name].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_a_base_is_compared_without_being_asked(tiny_base: BaseModel) -> None:
    tau = {name: torch.zeros_like(tensor) for name, tensor in tiny_base.visual.state_dict().items()}
    own = save_task_vector(tau, {BASE_KEY: tiny_base.fingerprint})
    assert load_task_vector(own, tiny_base).keys() == tau.keys()
    with pytest.raises(WeightsMismatchError, match="use its own base"):
        load_task_vector(save_task_vector(tau, {BASE_KEY: "another"}), tiny_base)
