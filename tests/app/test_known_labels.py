"""Labels that come as the same text again are the same object, and are judged as all others are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.inference.classify.schemas import ClassifyOptions
from app.inference.label_sets.known import KnownLabels, read_labels


@given(st.lists(st.text(max_size=8), max_size=6))
def test_a_known_list_is_what_validation_makes_of_it_or_is_not_known(labels: list[str]) -> None:
    read = read_labels([json.dumps(labels)])
    try:
        expected = ClassifyOptions.model_validate({"candidate_labels": labels}).candidate_labels
    except ValidationError:
        expected = None
    if isinstance(read, KnownLabels):
        assert read == expected
        assert hash(read) == hash(tuple(read)) == hash(read)
        assert ClassifyOptions(candidate_labels=read).candidate_labels is read
        assert read_labels([json.dumps(labels)]) is read
    else:
        assert read == labels
        assert expected is None or not labels or len(set(expected)) < len(expected)


@pytest.mark.parametrize("values", [["a"], ["a", "b"], ["[a"], ["[1]"], ["{}"], ['["a", "a"]'], ["[]"], []])
def test_what_is_no_list_of_different_labels_is_left_to_validation(values: list[str]) -> None:
    assert not isinstance(read_labels(values), KnownLabels)


def test_a_text_that_is_too_long_to_keep_is_read_each_time() -> None:
    text = json.dumps([f"label {number}" for number in range(10_000)])
    assert len(text) > 128 << 10
    assert read_labels([text]) == json.loads(text)
