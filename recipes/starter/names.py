"""From an icon's slug to the thing it shows: one name for the variants of an icon, none for what is left out.

Left out are national flags, and digits and letters, which are patching tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TONES = re.compile(r"-(default|(medium-)?(light|dark)|medium)(-skin-tone)?(-(medium-)?(light|dark)(-skin-tone)?)?$")
_NUMBERED = re.compile(r"(?<=[a-z])-\d+$")
_STYLES = frozenset((
    "outline", "outlined", "filled", "fill", "bold", "thin", "light", "duotone", "rounded", "round", "sharp", "regular",
    "line", "linear", "solid", "color", "stroke", "twotone", "two", "tone", "alt", "variant", "negative", "positive",
    "o", "s", "mini", "micro", "2d", "3d", "sm", "lg", "xl",
))  # fmt: skip
_SYMBOL_WORDS = frozenset((
    "keycap", "digit", "digits", "letter", "letters", "number", "numbers", "numeric", "numeral", "numerals", "alpha",
    "alphabet", "alphabetical", "roman", "greek", "abc", "abcd", "latin", "cjk", "looks", "counter", "squared", "hex",
    "decimal",
))  # fmt: skip
_SPELLED = frozenset(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
_FLAGS_KEPT = frozenset(
    ["black-flag", "chequered-flag", "crossed-flags", "flag-in-hole", "pirate-flag", "triangular-flag", "white-flag"]
)


def thing(slug: str, *, is_emoji: bool) -> str | None:
    """Return the name of what an icon shows, in plain words, or None for one that is left out.

    Args:
        slug: such as `cat-face`, `man-dark-skin-tone` or `camera-20-filled`.
        is_emoji: Whether the set names emoji; others mark their styles in the slug.
    """
    if is_emoji:
        slug = _NUMBERED.sub("", slug)
        return None if _TONES.search(slug) or _is_left_out(slug) else slug.replace("-", " ")
    words = list(_without_styles(slug.split("-")))
    slug = "-".join(words)
    return None if not words or _is_left_out(slug) or len(words) > 4 else slug.replace("-", " ")


def is_mirrored(name: str) -> bool:
    """Return whether a mirror image would show something else."""
    return bool({"left", "right", "clockwise", "anticlockwise", "counterclockwise"} & set(name.split()))


def _without_styles(words: list[str]) -> Iterator[str]:
    last = len(words)
    while last and (words[last - 1] in _STYLES or words[last - 1].isdigit()):
        last -= 1
    yield from words[:last]


def _is_left_out(slug: str) -> bool:
    words = slug.split("-")
    if "flag" in words or "flags" in words:
        return slug not in _FLAGS_KEPT
    if "skin" in words:  # a tone in the middle of a name
        return True
    return any(_is_symbol(word, len(words)) for word in words)


def _is_symbol(word: str, num_words: int) -> bool:
    if word in _SYMBOL_WORDS or len(word) == 1 or word.isdigit():
        return True
    return num_words == 1 and word in _SPELLED
