"""What strangers' text becomes before it is stored: fit for both databases, JSON and terminals, and bounded."""

import json

from hypothesis import given
from hypothesis import strategies as st

from registry.plain_text import MAX_DATA_BYTES, clean_data, clean_tail, clean_text


def test_control_and_direction_characters_and_lone_surrogates_are_left_out_and_lines_stay() -> None:
    assert clean_text("a\x00b\x1b]52;c\x07\r\n\tc\x9b\u202ed\ud800\u2028é") == "ab]52;c\n\tcdé"


@given(st.text(alphabet=st.characters(codec=None)), st.integers(1, 50))
def test_whatever_comes_the_result_is_no_longer_than_its_limit_and_can_be_encoded(text: str, limit: int) -> None:
    assert len(clean_text(text, limit)) <= limit
    assert len(clean_tail(text, limit).encode()) <= limit


def test_a_long_text_ends_with_an_ellipsis_and_of_a_log_the_end_stays() -> None:
    assert clean_text("x" * 20_000_000, 10) == "x" * 9 + "…"
    assert clean_tail("é" * 1_000_000 + "end", 9).endswith("éend")


def test_data_that_json_columns_refuse_is_made_fit() -> None:
    data = {"a\x00": float("nan"), "b": [float("inf"), 1.5, "x\x00"], "c": {"d": (1, True, None)}}
    assert clean_data(data) == {"a": None, "b": [None, 1.5, "x"], "c": {"d": [1, True, None]}}
    assert clean_data(None) is None


def test_data_that_is_too_large_is_replaced_by_its_size() -> None:
    data = {"rows": ["x" * 100] * 1_000}
    assert clean_data(data) == {"left_out_bytes": len(json.dumps(data))}
    assert len(json.dumps(clean_data({"text": "x" * (MAX_DATA_BYTES - 20)}))) <= MAX_DATA_BYTES
