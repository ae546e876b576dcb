"""The nearness of a head term: one among its images, nothing far from them, and told by their scatter."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from paint_core.errors import WeightsMismatchError
from paint_core.instant import HeadTerm, load_head_term, save_head_term
from paint_core.instant.gaussian import ClassStatistics
from paint_core.instant.nearness import Nearness
from tests.paint_core.instant.test_head_term import NAMES, SCALE, build, far_features


def test_own_images_are_near_and_others_are_not() -> None:
    _, features, labels, _ = build()
    near = Nearness.fit(features, labels, 3)
    assert near is not None
    assert float(near.of(features).mean()) > 0.9
    assert float(near.of(far_features()).max()) < 1e-3


def test_what_is_near_is_told_by_scatter_not_by_distance() -> None:
    """Images that differ along one direction alone: as far in another one is far away."""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    centres = 5 * torch.eye(2, 6)[labels]
    features = F.normalize(centres + torch.eye(6)[5] * 3 * torch.randn(200, 1, generator=source), dim=1)
    near = Nearness.fit(features, labels, 2)
    assert near is not None
    along, across = (F.normalize(5 * torch.eye(6)[:1] + 3 * torch.eye(6)[axis], dim=1) for axis in (5, 3))
    assert float(near.of(along)) > 0.5
    assert float(near.of(across)) < 0.01


def test_one_scatter_for_all_classes_gives_the_distances_of_all_of_them() -> None:
    _, features, labels, _ = build()
    whole, pooled = ClassStatistics.of(features, labels, 3), ClassStatistics.pooled(features, labels, 3)
    torch.testing.assert_close(pooled.precision(), whole.precision(), rtol=1e-4, atol=1e-4)
    for one, other in zip(pooled.left_out(features, labels), whole.left_out(features, labels), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_images_that_cannot_tell_have_no_nearness() -> None:
    _, *parts, head = build()
    features, labels = (each[:3] for each in parts)
    assert Nearness.fit(features, labels, 3) is None, "one image a class"
    assert Nearness.fit(features[:1].repeat(4, 1), torch.zeros(4, dtype=torch.int64), 1) is None, "equal images"
    term, _ = HeadTerm.fit(NAMES, features, labels, head, SCALE, "tower")
    assert term.near is None


def test_far_images_of_a_wide_kernel_keep_their_answers() -> None:
    """A kernel that reaches far has an opinion of everything; the nearness does not let it."""
    term, _, _, head = build()
    wide = replace(term, gamma=0.1 * term.gamma)
    far = far_features()
    logits = SCALE * far @ torch.cat([far[:1], head]).T
    kept = wide.apply(far, logits, ("other", *NAMES))
    pulled = replace(wide, near=None).apply(far, logits, ("other", *NAMES))
    torch.testing.assert_close(kept.softmax(dim=1), logits.softmax(dim=1), atol=1e-3, rtol=0)
    assert not torch.allclose(pulled.softmax(dim=1), logits.softmax(dim=1), atol=1e-2)


def test_it_is_stored_and_a_file_without_it_is_read_as_before(tmp_path: Path) -> None:
    term, features, _, head = build()
    path = tmp_path / "term"
    path.write_bytes(save_head_term(term))
    logits = SCALE * features @ head.T
    assert load_head_term(path).apply(features, logits, NAMES).equal(term.apply(features, logits, NAMES))
    plain = replace(term, near=None)
    path.write_bytes(save_head_term(plain))
    assert load_head_term(path).apply(features, logits, NAMES).equal(plain.apply(features, logits, NAMES))


def test_a_damaged_nearness_is_refused(tmp_path: Path) -> None:
    term, *_ = build()
    path = tmp_path / "term"
    path.write_bytes(save_head_term(term))
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # no mapping
    described = json.loads(metadata["paintbox_head_term"])
    for change in ({"reach": 0.0}, {"reach": float("nan")}):
        save_file(tensors, path, {"paintbox_head_term": json.dumps({**described, **change})})
        with pytest.raises(WeightsMismatchError, match="restore"):
            load_head_term(path)
    save_file({**tensors, "near_means": tensors["near_means"][:1]}, path, metadata)
    with pytest.raises(WeightsMismatchError, match="restore"):
        load_head_term(path)
