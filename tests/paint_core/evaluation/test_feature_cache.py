"""Features at theta_0 are computed once for a base and its images, and a patch does not depend on who computed them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from paint_core.alpha import AlphaOptions
from paint_core.evaluation.feature_cache import FolderFeatureCache, features_key
from paint_core.models import BaseModel
from paint_core.patching import PatchPlan, PatchResult, run_patch
from tests.paint_core.patches import COARSE, CONFIG, old_task, two_tasks

ROOMY = 1 << 20


class Computed:
    """Gives features, and counts how often it was asked."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.count = 0

    def __call__(self) -> Tensor:
        self.count += 1
        return self.features


class CountingCache(FolderFeatureCache):
    """A cache in a folder that counts what it had to have computed."""

    num_computed = 0

    def features(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        def counted() -> Tensor:
            self.num_computed += 1
            return compute()

        return super().features(key, counted)


def test_what_is_kept_is_not_computed_again_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    compute = Computed(torch.randn(5, 3))
    first = FolderFeatureCache(tmp_path / "cache", ROOMY).features("a", compute)
    again = FolderFeatureCache(tmp_path / "cache", ROOMY).features("a", compute)
    assert torch.equal(first, compute.features)
    assert torch.equal(again, compute.features)
    assert compute.count == 1


@pytest.mark.parametrize("content", [b"", b"no safetensors file", None])
def test_a_file_that_cannot_be_read_is_computed_again_and_mended(tmp_path: Path, content: bytes | None) -> None:
    compute, cache = Computed(torch.randn(5, 3)), FolderFeatureCache(tmp_path, ROOMY)
    cache.features("a", compute)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4] if content is None else content)
    assert torch.equal(cache.features("a", compute), compute.features)
    assert torch.equal(cache.features("a", compute), compute.features)
    assert compute.count == 2


def zeroed(data: bytes) -> bytes:
    """What a power cut leaves of a file that was not synced: the header, and zeros for most of the data."""
    return data[: -len(data) // 4] + bytes(len(data) // 4)


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 0x10]) + data[-8:]


def reshaped(data: bytes) -> bytes:
    """The same bytes, which the header now reads as another form."""
    return data.replace(b"[50,30]", b"[30,50]")


@pytest.mark.parametrize("spoil", [zeroed, flipped, reshaped])
def test_a_file_that_holds_other_features_than_were_kept_is_computed_again(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    compute, cache = Computed(torch.randn(50, 30)), FolderFeatureCache(tmp_path, ROOMY)
    cache.features("a", compute)
    (file,) = tmp_path.iterdir()
    spoilt = spoil(file.read_bytes())
    assert spoilt != file.read_bytes()
    file.write_bytes(spoilt)
    assert torch.equal(cache.features("a", compute), compute.features)
    assert torch.equal(cache.features("a", compute), compute.features)
    assert compute.count == 2


def test_a_file_without_a_digest_or_of_another_key_is_computed_again(tmp_path: Path) -> None:
    mine, other = Computed(torch.randn(5, 3)), Computed(torch.randn(5, 3))
    cache = FolderFeatureCache(tmp_path, ROOMY)
    cache.features("b", other)
    (tmp_path / "b.safetensors").rename(tmp_path / "a.safetensors")
    assert torch.equal(cache.features("a", mine), mine.features)
    (tmp_path / "a.safetensors").write_bytes(safetensors.torch.save({"features": other.features}))
    assert torch.equal(cache.features("a", mine), mine.features)
    assert mine.count == 2


def test_features_that_are_not_finite_are_given_but_not_kept(tmp_path: Path) -> None:
    compute, cache = Computed(torch.tensor([[1.0, float("nan")]])), FolderFeatureCache(tmp_path / "cache", ROOMY)
    assert cache.features("a", compute).isnan().any()
    assert not (tmp_path / "cache").exists()
    compute.features = torch.ones(1, 2)
    assert torch.equal(cache.features("a", compute), compute.features)


def test_what_was_not_asked_for_longest_makes_room(tmp_path: Path) -> None:
    computes = {key: Computed(torch.full((100,), float(index))) for index, key in enumerate("abc")}
    cache = FolderFeatureCache(tmp_path, 1300)  # two files of 400 bytes and a header
    for key in "aba":
        cache.features(key, computes[key])
    cache.features("c", computes["c"])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c"]
    assert [computes[key].count for key in "abc"] == [1, 1, 1]


def test_features_beyond_the_limit_are_given_but_not_kept(tmp_path: Path) -> None:
    compute, cache = Computed(torch.ones(1000)), FolderFeatureCache(tmp_path / "cache", 100)
    assert torch.equal(cache.features("a", compute), compute.features)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file")
    compute = Computed(torch.ones(3))
    assert torch.equal(FolderFeatureCache(tmp_path / "taken", ROOMY).features("a", compute), compute.features)


def test_the_key_tells_weights_pixels_and_arithmetic_apart(tiny_base: BaseModel) -> None:
    images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    changed = images.clone()
    changed[3, 7, 7, 2] ^= 1
    other = dataclasses.replace(tiny_base, fingerprint="0" * 64)
    keys = [
        features_key(tiny_base, images, "fp32", "cpu"),
        features_key(tiny_base, images, "bf16", "cpu"),
        features_key(tiny_base, images, "fp32", "cuda"),
        features_key(tiny_base, changed, "fp32", "cpu"),
        features_key(tiny_base, images.reshape(2, 16, 8, 3), "fp32", "cpu"),
        features_key(other, images, "fp32", "cpu"),
    ]
    assert len(set(keys)) == len(keys)
    assert features_key(tiny_base, images.clone(), "fp32", torch.device("cpu")) == keys[0]


@pytest.mark.parametrize("options", [COARSE, AlphaOptions(strategy="interpolated", path="best")])
def test_a_patch_is_the_same_with_and_without_a_cache_and_a_second_one_computes_nothing(
    tiny_base: BaseModel, tmp_path: Path, options: AlphaOptions
) -> None:
    tasks, supported = two_tasks(tiny_base), [old_task(tiny_base)]

    def patched(cache: FolderFeatureCache | None) -> PatchResult:
        return run_patch(tiny_base, tasks, supported, PatchPlan("sequential", CONFIG, options), feature_cache=cache)

    first, second = (CountingCache(tmp_path, ROOMY) for _ in range(2))
    results = [patched(None), patched(first), patched(second)]
    # Of the first stage the task and the supported one; at the end the test splits of all three.
    assert (first.num_computed, second.num_computed) == (2 + 3, 0)
    for result in results[1:]:
        assert result.terms == results[0].terms
        assert result.zero_shot == results[0].zero_shot
        assert [stage.search.curve for stage in result.stages] == [stage.search.curve for stage in results[0].stages]
