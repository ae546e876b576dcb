import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.names import MAX_NAME, Name, NameRefusedError, check_texts, clean_name, shorten

UNSAFE = {
    "nul": "a\x00b",
    "escape": "a\x1b]52;c;eA==\x07b",
    "line feed": "a\nb",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "C1 escape": "a\x9b2Jb",
    "line separator": "a\u2028b",
    "lone surrogate": "a\ud800b",
    "right-to-left override": "a\u202egpj.exe",
    "isolate": "a\u2066b",
    "zero-width space": "a\u200bb",
    "zero-width joiner in ASCII": "a\u200db",
    "two joiners": "क\u200d\u200dक",
    "word joiner": "a\u2060b",
    "byte order mark": "\ufeffa",
    "soft hyphen": "a\u00adb",
    "Hangul filler": "\u3164",
    "tag character": "a\U000e0041b",
    "private use": "a\ue000b",
    "noncharacter": "a\U0010ffffb",
}
BLANK = {
    "empty": "",
    "spaces": "  ",
    "no-break space": "\u00a0",
    "only zero-width": "\u200d",
    "only an accent": "\u0301",
}
SAFE = [
    "cat",
    "café",
    "a  b",
    "日本 2",
    "👩\u200d🚀",
    "1\ufe0f\u20e3",
    "می\u200cخواهم",
    "<b>&\"'",
    "x" * MAX_NAME,
    "İ",
    "\ufffd",
]


@pytest.mark.parametrize("text", [*UNSAFE.values(), *BLANK.values()], ids=[*UNSAFE, *BLANK])
def test_a_name_that_cannot_be_shown_is_refused(text: str) -> None:
    with pytest.raises(NameRefusedError):
        clean_name(text)
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(text)
    with pytest.raises(NameRefusedError, match="item 1"):
        check_texts(["cat", text])


@pytest.mark.parametrize("text", SAFE)
def test_a_name_in_any_script_stays_as_it_is(text: str) -> None:
    assert clean_name(text) == TypeAdapter(Name).validate_python(text) == text
    check_texts(["cat", text])


def test_two_spellings_of_one_name_are_the_same_name() -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    assert decomposed != "café"
    assert clean_name(f"  {decomposed}\n") == TypeAdapter(Name).validate_python(f"  {decomposed}\n") == "café"


@pytest.mark.parametrize("text", ["x" * (MAX_NAME + 1), "x" * 10_000_000, "é" * (MAX_NAME + 1)])
def test_a_name_that_is_too_long_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(NameRefusedError, match="at most 200") as refused:
        clean_name(text)
    assert len(str(refused.value)) < 200


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800")
@example("\U000e0041" * 300)
def test_a_clean_name_is_printable_everywhere_and_a_quotation_too(text: str) -> None:
    quoted = shorten(text, 50)
    assert len(quoted) <= 50
    for shown in (quoted, *_cleaned(text)):
        shown.encode()
        kinds = {unicodedata.category(char) for char in shown.replace("\u200c", "").replace("\u200d", "")}
        assert not kinds & {"Cc", "Cs", "Co", "Zl", "Zp"}
        assert not kinds & {"Cf"} or all(ord(char) > 0x0600 for char in shown if unicodedata.category(char) == "Cf")
        assert unicodedata.bidirectional(shown[:1] or "x") not in {"LRO", "RLO", "LRE", "RLE"}


def _cleaned(text: str) -> list[str]:
    try:
        name = clean_name(text)
    except NameRefusedError:
        return []
    assert clean_name(name) == name
    assert len(name) <= MAX_NAME
    return [name]


def test_foreign_text_is_quoted_on_one_line_with_its_length_bounded() -> None:
    assert shorten("short") == "short"
    assert shorten("x" * 1_000_000, 10) == "xxxxxxxxx…"
    assert shorten("a\x1b[2J\nb\ud800") == "a\ufffd[2J b\ufffd"
