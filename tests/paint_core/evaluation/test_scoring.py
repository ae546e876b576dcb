import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import nn

from paint_core.errors import DatasetError, NonFiniteWeightsError
from paint_core.evaluation import encode, evaluate, predictions, score_features
from paint_core.evaluation.scoring import calibration_error, eval_mode
from paint_core.models import BaseModel, build_head, prompts
from tests.paint_core import tiny


def test_features_do_not_depend_on_the_batch_size(starter_base: BaseModel) -> None:
    images = tiny.coloured(starter_base, 7).images
    whole = encode(starter_base.visual, images, starter_base.preprocess)
    parts = encode(starter_base.visual, images, starter_base.preprocess, batch_size=3)
    assert whole.shape == (7, starter_base.embed_dim)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-4)


def test_bfloat16_gives_float32_features_close_to_exact_ones(starter_base: BaseModel) -> None:
    images = tiny.coloured(starter_base, 4).images
    exact = encode(starter_base.visual, images, starter_base.preprocess)
    rough = encode(starter_base.visual, images, starter_base.preprocess, precision="bf16")
    assert rough.dtype == torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.99


def test_the_mode_of_every_sub_module_is_restored() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    module[1].eval()
    with eval_mode(module):
        assert not any(child.training for child in module.modules())
    assert [child.training for child in module.modules()] == [True, True, False, False]


def test_a_score_counts_and_averages(tiny_base: BaseModel) -> None:
    images = tiny.coloured(tiny_base, 30)
    head = build_head(tiny_base, tiny.COLOURS, prompts.PLAIN)
    features = encode(tiny_base.visual, images.images, tiny_base.preprocess)
    scores = tiny_base.logit_scale * nn.functional.normalize(features, dim=-1) @ head.T
    score = evaluate(tiny_base.visual, tiny_base, head, images, batch_size=7)
    assert score.total == 30
    assert score.correct == int((scores.argmax(1) == images.labels).sum())
    assert score.loss == pytest.approx(float(nn.functional.cross_entropy(scores, images.labels)), abs=1e-4)


def test_the_score_of_features_is_the_score_of_their_logits() -> None:
    source = torch.Generator().manual_seed(0)
    features = torch.randn(300, 8, generator=source) * 5
    head = nn.functional.normalize(torch.randn(12, 8, generator=source), dim=-1)
    labels = torch.randint(0, 12, (300,), generator=source)
    rows = 20 * nn.functional.normalize(features, dim=-1) @ head.T - 3
    score = score_features(features, head, labels, scale=20, bias=-3)
    in_top = (rows.topk(5, dim=1).indices == labels[:, None]).any(dim=1)
    assert (score.correct, score.total) == (int((rows.argmax(1) == labels).sum()), 300)
    assert score.correct_top5 == int(in_top.sum())
    assert score.correct < score.correct_top5 < score.total
    assert score.loss == pytest.approx(float(nn.functional.cross_entropy(rows, labels)), rel=1e-5)
    assert torch.equal(predictions(features, head), rows.argmax(1))
    predicted = rows.argmax(1).numpy()
    assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels.numpy(), predicted))
    assert score.macro_f1 == pytest.approx(f1_score(labels.numpy(), predicted, average="macro"))


def test_classes_without_images_do_not_count() -> None:
    head = torch.eye(4)
    score = score_features(head[[0, 0, 1, 3]], head, torch.tensor([0, 0, 1, 1]), scale=1.0)
    assert score.balanced_accuracy == pytest.approx((1 + 0.5) / 2)
    assert score.macro_f1 == pytest.approx((1 + 2 / 3) / 2)


def test_many_images_are_scored_piece_by_piece_with_the_same_result() -> None:
    source = torch.Generator().manual_seed(0)
    features = torch.randn(9000, 4, generator=source)
    head = nn.functional.normalize(torch.randn(6, 4, generator=source), dim=-1)
    labels = torch.randint(0, 6, (9000,), generator=source)
    whole = score_features(features, head, labels, scale=10)
    halves = [score_features(features[part], head, labels[part], scale=10) for part in (slice(4500), slice(4500, None))]
    assert whole.correct == sum(half.correct for half in halves)
    assert whole.correct_top5 == sum(half.correct_top5 for half in halves)
    assert whole.loss == pytest.approx(sum(half.loss for half in halves) / 2)
    assert len(predictions(features, head)) == 9000


def test_with_five_classes_or_less_every_label_is_among_the_five_best() -> None:
    head = nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    score = score_features(-head, head, torch.arange(5), scale=10)
    assert (score.correct, score.correct_top5) == (0, 5)


def test_the_calibration_error_of_an_example_by_hand() -> None:
    confidence = torch.tensor([0.95, 0.97, 0.95, 0.97, 0.55, 0.58])
    correct = torch.tensor([True, True, True, False, False, True])
    # the last bin: |3 - 3.84|; the ninth, (8/15, 9/15]: |1 - 1.13|
    assert calibration_error(confidence, correct) == pytest.approx((0.84 + 0.13) / 6, abs=1e-6)


def test_a_bin_is_open_below_and_closed_above() -> None:
    # 1/3 is the fifth bin's upper end: it shares the bin with 0.3, where errors cancel, and not with 0.35.
    third, right, wrong = torch.tensor(1 / 3, dtype=torch.float64), True, False
    together = calibration_error(torch.stack([third, third - 0.03]), torch.tensor([right, wrong]))
    apart = calibration_error(torch.stack([third, third + 0.03]), torch.tensor([right, wrong]))
    assert together == pytest.approx((1 - 2 / 3 + 0.03) / 2)
    assert apart == pytest.approx((2 / 3 + 1 / 3 + 0.03) / 2)


def test_certainty_that_is_always_right_is_calibrated_and_always_wrong_is_not() -> None:
    assert calibration_error(torch.ones(4), torch.ones(4, dtype=torch.bool)) == 0
    assert calibration_error(torch.ones(4), torch.zeros(4, dtype=torch.bool)) == 1


@pytest.mark.parametrize(("num_features", "num_labels"), [(0, 0), (3, 2)])
def test_features_without_their_labels_are_refused(num_features: int, num_labels: int) -> None:
    with pytest.raises(DatasetError):
        score_features(torch.ones(num_features, 4), torch.eye(4), torch.zeros(num_labels, dtype=torch.int64), scale=1)


def test_finite_features_are_no_error_however_large_their_sum() -> None:
    features = torch.tensor([3e36, 0.0]).repeat(128, 1)
    head, labels = torch.eye(2), torch.zeros(128, dtype=torch.int64)
    assert not torch.isfinite(features.sum())
    assert score_features(features, head, labels, scale=1.0).total == 128


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_refused_not_counted_as_the_first_class(value: float) -> None:
    features = torch.eye(4)
    features[2, 1] = value
    with pytest.raises(NonFiniteWeightsError):
        score_features(features, torch.eye(4), torch.zeros(4, dtype=torch.int64), scale=1)


def test_the_starter_reaches_its_published_zero_shot_accuracy(starter_base: BaseModel) -> None:
    images = tiny.starter_split(starter_base, "food", "test")
    head = build_head(starter_base, images.classnames, prompts.STARTER)
    score = evaluate(starter_base.visual, starter_base, head, images)
    assert score.accuracy == pytest.approx(0.778, abs=0.03)


def test_no_features_have_no_predictions() -> None:
    found = predictions(torch.empty(0, 3), torch.eye(3))
    assert found.shape == (0,)
    assert found.dtype == torch.int64
