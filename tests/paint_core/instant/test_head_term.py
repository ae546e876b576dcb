"""A head term in lists of labels: which answers it changes, what removal leaves, and its file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.errors import DatasetError, WeightsMismatchError
from paint_core.instant import HeadTerm, load_head_term, save_head_term

NAMES = ("one", "two", "three")
SCALE = 20.0


def build(num_images: int = 30, seed: int = 0) -> tuple[HeadTerm, Tensor, Tensor, Tensor]:
    """A term fitted near three directions, with its images, their labels, and a text head that confuses them."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % 3
    centres = F.normalize(torch.eye(3, 8) + 2 * torch.eye(8)[7], dim=1)
    features = F.normalize(centres[labels] + 0.05 * torch.randn(num_images, 8, generator=source), dim=1)
    head = F.normalize(centres.roll(1, dims=0), dim=1)
    term, fit = HeadTerm.fit(NAMES, features, labels, head, SCALE, "tower")
    assert fit.accuracy == 1
    return term, features, labels, head


def far_features(count: int = 5) -> Tensor:
    return F.normalize(torch.eye(8)[3:7].repeat(2, 1)[:count], dim=1)


def test_images_like_the_support_are_judged_among_the_patched_names_in_any_list() -> None:
    term, features, labels, head = build()
    other = features.mean(dim=0, keepdim=True)  # a name that zero-shot prefers to all of them
    logits = SCALE * features @ torch.cat([F.normalize(other, dim=1), head]).T
    corrected = term.apply(features, logits, ("other", *NAMES))
    assert logits.argmax(dim=1).ne(labels + 1).any()
    assert corrected.argmax(dim=1).equal(labels + 1)


def test_an_image_of_a_patched_class_that_is_not_in_the_list_is_answered_as_before() -> None:
    term, features, labels, head = build()
    two = features[labels == 1]
    logits = SCALE * two @ torch.cat([head[:1], F.normalize(head[:1] + 0.3 * torch.eye(8)[5:6], dim=1)]).T
    corrected = term.apply(two, logits, ("one", "other"))
    torch.testing.assert_close(corrected.softmax(dim=1), logits.softmax(dim=1), atol=0.05, rtol=0)


def test_images_far_from_the_support_keep_their_answer() -> None:
    term, _, _, head = build()
    features = far_features()
    logits = SCALE * features @ torch.cat([far_features(3), head]).T
    corrected = term.apply(features, logits, ("a", "b", "c", *NAMES))
    torch.testing.assert_close(corrected.softmax(dim=1), logits.softmax(dim=1), atol=2e-2, rtol=0)
    sharp = replace(term, gamma=200.0)
    torch.testing.assert_close(sharp.apply(features, logits, ("a", "b", "c", *NAMES)), logits, atol=1e-4, rtol=1e-4)


def test_lists_without_a_patched_name_and_coefficient_zero_change_nothing() -> None:
    term, features, _, head = build()
    logits = SCALE * features @ head.T
    assert term.apply(features, logits, ("a", "b", "c")) is logits
    assert term.apply(features, logits, NAMES, 0.0) is logits


def test_the_order_of_a_list_does_not_matter() -> None:
    term, features, _, head = build()
    logits = SCALE * features @ head.T
    straight, turned = term.apply(features, logits, NAMES), term.apply(features, logits.flip(1), NAMES[::-1])
    torch.testing.assert_close(turned.flip(1), straight)


def test_removing_images_leaves_the_term_of_the_others() -> None:
    term, features, labels, _ = build()
    gone = torch.arange(len(labels)) >= 24
    kept = ~gone
    smaller = replace(term, support=features[kept], labels=labels[kept])
    refitted = smaller.without(torch.zeros(24, dtype=torch.bool))
    torch.testing.assert_close(term.without(gone).weights, refitted.weights, rtol=1e-5, atol=1e-6)


def test_a_class_without_images_is_removed_and_its_name_is_answered_as_before() -> None:
    term, features, labels, head = build()
    smaller = term.without(labels == 1)
    assert smaller.names == ("one", "three")
    logits = SCALE * features @ head[1:2].T
    assert smaller.apply(features, logits, ("two",)) is logits
    with pytest.raises(DatasetError, match="no image would be left"):
        term.without(labels >= 0)


def test_a_stored_term_is_the_same_term(tmp_path: Path) -> None:
    term, features, _, head = build()
    stored = save_head_term(term)
    assert stored == save_head_term(term)
    path = tmp_path / "term"
    path.write_bytes(stored)
    logits = SCALE * features @ head.T
    assert load_head_term(path).apply(features, logits, NAMES).equal(term.apply(features, logits, NAMES))
    assert load_head_term(path).tower == "tower"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    term, *_ = build()
    path = tmp_path / "term"
    path.write_bytes(save_head_term(replace(term, labels=term.labels[:-1])))
    with pytest.raises(WeightsMismatchError, match="do not fit"):
        load_head_term(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsMismatchError, match="not readable"):
        load_head_term(path)
