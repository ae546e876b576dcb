import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paint_core import prompts
from paint_core.evaluation import Score, encode, eval_mode, evaluate
from paint_core.heads import build_head
from paint_core.models import BaseModel
from tests.paint_core import tiny


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_the_wilson_interval_of_published_examples(correct: int, total: int, low: float, high: float) -> None:
    assert Score(correct, total, 0.0, 0.0, total).interval() == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_the_interval_holds_the_accuracy_and_narrows(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    low, high = Score(correct, total, 0.0, 0.0, total).interval()
    assert 0 <= low <= correct / total <= high <= 1
    wider = Score(4 * correct, 4 * total, 0.0, 0.0, 4 * total).interval()
    assert wider[1] - wider[0] < high - low


def test_features_do_not_depend_on_the_batch_size(starter_base: BaseModel) -> None:
    images = tiny.coloured(starter_base, 7).images
    whole = encode(starter_base.visual, images, starter_base.preprocess)
    parts = encode(starter_base.visual, images, starter_base.preprocess, batch_size=3)
    assert whole.shape == (7, 128)
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


def test_the_starter_reaches_its_published_zero_shot_accuracy(starter_base: BaseModel) -> None:
    images = tiny.starter_split(starter_base, "food", "test")
    head = build_head(starter_base, images.classnames, prompts.STARTER)
    score = evaluate(starter_base.visual, starter_base, head, images)
    assert score.accuracy == pytest.approx(0.663, abs=0.03)
