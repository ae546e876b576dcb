"""The exported tokenizer of CLIP gives the tokens of open_clip's."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from paint_core.exporting.bpe import describe_tokenizer, with_fixed_length, write_clip_tokenizer

tokenizers = pytest.importorskip("tokenizers")
OWN = SimpleTokenizer(context_length=12)
THEIRS = tokenizers.Tokenizer.from_str(json.dumps(with_fixed_length(describe_tokenizer(OWN), 12)))


@given(st.lists(st.text(st.characters(categories=("L", "N", "P", "Zs", "So")), max_size=30), min_size=1, max_size=3))
def test_plain_text_has_the_same_tokens(texts: list[str]) -> None:
    from open_clip.tokenizer import basic_clean, whitespace_clean

    cleaned = [whitespace_clean(basic_clean(text)) for text in texts]  # what only open_clip repairs
    assert [each.ids for each in THEIRS.encode_batch(cleaned)] == OWN(cleaned).tolist()


@pytest.mark.parametrize(
    "text", ["a photo of a cat.", "IT'S 100 % Größe", "", "a " * 50, "naïve café — 3½", "don't we'll they've I'd"]
)
def test_texts_as_people_write_them_have_the_same_tokens(text: str) -> None:
    assert [THEIRS.encode(text).ids] == OWN([text]).tolist()


def test_transformers_reads_the_files(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_clip_tokenizer(tmp_path, OWN)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer).__name__.startswith("CLIPTokenizer")
    assert tokenizer.model_max_length == 12
    texts = ["a photo of a cat.", "two"]
    found = tokenizer(texts, padding="max_length", truncation=True)
    ends = [row.index(OWN.eot_token_id) + 1 for row in found["input_ids"]]
    assert [row[:end] for row, end in zip(found["input_ids"], ends, strict=True)] == [
        row[:end] for row, end in zip(OWN(texts).tolist(), ends, strict=True)
    ]
