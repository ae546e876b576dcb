"""Answers image by image, and what confusion matrix and F1 say of them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from paint_core.evaluation.answers import answer, confusion, count_classes, macro_f1

pairs = st.integers(2, 6).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), min_size=1, max_size=40),
    )
)


@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_an_answer_is_the_best_class_its_probability_and_how_far_the_second_is_behind(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 8, generator=generator)
    head = F.normalize(torch.randn(num_classes, 8, generator=generator), dim=-1)
    given_answers = answer(features, head, scale=20.0, bias=-3.0)
    probabilities = (20 * F.normalize(features, dim=-1) @ head.T - 3).softmax(dim=1).sort(dim=1, descending=True)
    assert torch.equal(given_answers.predicted, probabilities.indices[:, 0])
    torch.testing.assert_close(given_answers.probability, probabilities.values[:, 0])
    second = probabilities.values[:, 1] if num_classes > 1 else torch.zeros(50)
    torch.testing.assert_close(given_answers.margin, probabilities.values[:, 0] - second)


@given(pairs)
def test_counts_f1_and_confusion_are_those_of_scikit_learn(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    num_classes, rows = drawn
    labels, predicted = (torch.tensor(column) for column in zip(*rows, strict=True))
    classes = range(num_classes)
    matrix = confusion_matrix(labels, predicted, labels=classes)
    cells = confusion(labels, predicted)
    assert {cell[:2]: cell[2] for cell in cells} == {
        (row, column): matrix[row, column] for row in classes for column in classes if matrix[row, column]
    }
    assert [cell[2] for cell in cells] == sorted((cell[2] for cell in cells), reverse=True)
    counts = count_classes(labels, predicted, num_classes)
    assert [each.total for each in counts] == matrix.sum(axis=1).tolist()
    assert [each.predicted for each in counts] == matrix.sum(axis=0).tolist()
    assert [each.correct for each in counts] == matrix.diagonal().tolist()
    there = sorted(set(labels.tolist()))
    expected = f1_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert macro_f1(counts) == pytest.approx(expected)
