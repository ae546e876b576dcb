"""A head term of class statistics: what it answers, how it is continued, and that it holds no features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.errors import DatasetError, WeightsMismatchError
from paint_core.instant import HeadTerm, StatisticsTerm, load_head_term, save_head_term, statistics_term
from tests.paint_core.instant.test_head_term import NAMES, SCALE, build, far_features


def of_statistics(num_images: int = 30, seed: int = 0) -> tuple[StatisticsTerm, Tensor, Tensor, Tensor]:
    """A term of the images of `build`, with these, their labels, and a text head that confuses them."""
    _, features, labels, head = build(num_images, seed)
    term, fit = StatisticsTerm.fit(NAMES, features, labels, "tower")
    assert fit.accuracy == 1
    return term, features, labels, head


def test_new_images_of_the_classes_are_judged_among_the_patched_names_in_any_list() -> None:
    term, _, _, head = of_statistics(150)
    _, features, labels, _ = build(60, seed=1)
    other = features.mean(dim=0, keepdim=True)
    logits = SCALE * features @ torch.cat([F.normalize(other, dim=1), head]).T
    assert logits.argmax(dim=1).ne(labels + 1).any()
    right = term.apply(features, logits, ("other", *NAMES)).argmax(dim=1) == labels + 1
    assert int(right.sum()) >= 58  # by chance, one may be farther than every image of the term


def test_images_far_from_the_classes_keep_their_answer() -> None:
    term, _, _, head = of_statistics()
    features = far_features()
    logits = SCALE * features @ torch.cat([far_features(3), head]).T
    torch.testing.assert_close(term.apply(features, logits, ("a", "b", "c", *NAMES)), logits, atol=1e-4, rtol=1e-4)


def test_an_image_of_a_patched_class_that_is_not_in_the_list_is_answered_as_before() -> None:
    term, features, labels, head = of_statistics()
    two = features[labels == 1]
    logits = SCALE * two @ head[[0, 2]].T
    corrected = term.apply(two, logits, ("one", "other"))
    torch.testing.assert_close(corrected.softmax(dim=1), logits.softmax(dim=1), atol=0.05, rtol=0)


def test_lists_without_a_patched_name_and_coefficient_zero_change_nothing() -> None:
    term, features, _, head = of_statistics()
    logits = SCALE * features @ head.T
    assert term.apply(features, logits, ("a", "b", "c")) is logits
    assert term.apply(features, logits, NAMES, 0.0) is logits


def test_a_term_that_takes_in_images_is_the_term_of_all_of_them() -> None:
    term, features, labels, head = of_statistics()
    first, _ = StatisticsTerm.fit(NAMES[:2], features[labels < 2][:10], labels[labels < 2][:10], "tower")
    rest = torch.cat([features[labels < 2][10:], features[labels == 2]])
    turned = ("three", "two", "one")
    places = torch.tensor([2, 1, 0])[torch.cat([labels[labels < 2][10:], labels[labels == 2]])]
    both, fit = StatisticsTerm.fit(turned, rest, places, "tower", first)
    assert fit.num_left_out == len(rest)
    assert both.num_images == len(features)
    order = [turned.index(name) for name in NAMES]
    torch.testing.assert_close(both.means[order], term.means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(both.precision, term.precision, rtol=1e-3, atol=1e-3)
    logits = SCALE * features @ head.T
    said = both.apply(features, logits, NAMES).argmax(dim=1)
    assert said.equal(term.apply(features, logits, NAMES).argmax(dim=1))


def test_a_forgotten_class_leaves_nothing_and_is_answered_as_before() -> None:
    term, features, labels, head = of_statistics()
    smaller = term.without_classes(["two"])
    alone, _ = StatisticsTerm.fit(("one", "three"), features[labels != 1], (labels[labels != 1] > 0).long(), "tower")
    assert smaller.names == ("one", "three")
    for name in ("counts", "means", "precision"):
        assert getattr(smaller, name).equal(getattr(alone, name))
    logits = SCALE * features @ head[1:2].T
    assert smaller.apply(features, logits, ("two",)) is logits
    with pytest.raises(DatasetError, match="no image would be left"):
        term.without_classes(NAMES)


def test_a_stored_term_is_the_same_term_and_holds_no_features(tmp_path: Path) -> None:
    term, features, _, head = of_statistics()
    stored = save_head_term(term)
    path = tmp_path / "term"
    path.write_bytes(stored)
    read = load_head_term(path)
    assert isinstance(read, StatisticsTerm)
    assert save_head_term(read) == stored
    logits = SCALE * features @ head.T
    assert read.apply(features, logits, NAMES).equal(term.apply(features, logits, NAMES))
    assert read.to("cpu").apply(features, logits, NAMES).equal(term.apply(features, logits, NAMES))
    assert (read.tower, read.num_images, read.width) == ("tower", 30, 8)
    assert not any(len(features) in tensor.shape for tensor in (read.counts, read.means, read.precision, read.reaches))
    assert all(row.numpy().tobytes() not in stored for row in features)
    assert all(row.numpy().tobytes() in save_head_term(build()[0]) for row in features)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    term, *_ = of_statistics()
    path = tmp_path / "term"
    path.write_bytes(save_head_term(replace(term, means=term.means[:, :-1])))
    with pytest.raises(WeightsMismatchError, match="do not fit"):
        load_head_term(path)


def test_one_image_of_each_class_has_no_statistics_and_too_many_classes_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, features, labels, _ = of_statistics()
    with pytest.raises(DatasetError, match="equal, or one"):
        StatisticsTerm.fit(NAMES, features[:3], labels[:3], "tower")
    term, fit = StatisticsTerm.fit(NAMES, features[:4], labels[:4], "tower")
    assert (fit.num_left_out, term.num_images) == (2, 4)
    monkeypatch.setattr(statistics_term, "MAX_STATISTICS_BYTES", 400)
    with pytest.raises(DatasetError, match="keep features"):
        StatisticsTerm.fit(NAMES, features, labels, "tower")


def test_both_forms_forget_classes_alike() -> None:
    features_term, *_ = build()
    assert isinstance(features_term, HeadTerm)
    assert features_term.without_classes(["two"]).names == ("one", "three")
    assert features_term.without_classes(["none"]) is features_term
