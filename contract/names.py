"""One rule for every name that people and files can give, and how foreign text is quoted.

A name ends up in terminals, logs, HTML, response headers and both databases. It is therefore visible text on one line:
no control characters (C0, C1), line separators, bidirectional controls, lone surrogates, characters of private use, and
nothing that is invisible (zero-width characters, fillers, tags). Zero-width joiners are allowed where scripts and emoji
need them: between two characters that are not ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

MAX_NAME = 200
"""Maximum length of a name."""

MAX_QUOTED = 100
"""Maximum length of foreign text in an error message."""

_NONCHARACTERS = "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_BIDIRECTIONAL = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE = (
    r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u2800\u3164\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff"
)
_PRIVATE = rf"\ue000-\uf8ff\ufdd0-\ufdef\U000f0000-\U0010ffff{_NONCHARACTERS}"
_JOINERS = r"\u200c\u200d"
_JOINED = rf"[^\x00-\x7f{_JOINERS}]"
_REFUSED = re.compile(
    rf"[{_CONTROL}{_BIDIRECTIONAL}{_INVISIBLE}{_PRIVATE}]|(?<!{_JOINED})[{_JOINERS}]|[{_JOINERS}](?!{_JOINED})"
)
_LINE_BREAKS = re.compile(r"[\t\n\r]+")
_VISIBLE = ("L", "N", "P", "S")


class NameRefusedError(ValueError):
    """A text that cannot be a name; the message says why, as the end of a sentence."""


def clean_name(text: str, limit: int = MAX_NAME) -> str:
    """Return a name in Unicode's composed form (NFC), without surrounding white space, as it is stored and shown."""
    name = unicodedata.normalize("NFC", text.strip()) if len(text) <= 4 * limit else text
    check_text(name, limit)
    return name


def check_text(text: str, limit: int = MAX_NAME) -> None:
    """Reject text that is not visible on one line; nothing is changed.

    Raises:
        NameRefusedError: It is blank, too long, or has a character that names may not have.
    """
    if len(text) > limit:
        raise NameRefusedError(f"has {len(text)} characters, at most {limit} are allowed")
    if text.isascii() and text.isprintable() and not text.isspace() and text:  # nearly all
        return
    found = _REFUSED.search(text)
    if found is not None:
        raise NameRefusedError(
            f"has a control, invisible or text-direction character (U+{ord(found[0]):04X} at position {found.start()})"
        )
    if not any(unicodedata.category(char).startswith(_VISIBLE) for char in text):
        raise NameRefusedError("is blank")


def check_texts(texts: Sequence[str], limit: int = MAX_NAME) -> None:
    """Reject a list with text that is not visible on one line; like `check_text`, and fast for thousands.

    Raises:
        NameRefusedError: One of them is rejected; the message names its position.
    """
    joined = "".join(texts)
    if (
        joined.isascii()
        and joined.isprintable()
        and all(map(str.strip, texts))
        and len(max(texts, key=len, default="")) <= limit
    ):
        return
    for index, text in enumerate(texts):
        try:
            check_text(text, limit)
        except NameRefusedError as error:
            raise NameRefusedError(f"item {index} ({shorten(text, 40)!r}) {error}") from error


def shorten(text: str, limit: int = MAX_QUOTED) -> str:
    """Return foreign text for an error message, a log or a terminal: on one line, at most `limit` characters.

    Line breaks and tabs become spaces, characters that names may not have are replaced, and longer text ends in an
    ellipsis.
    """
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return _REFUSED.sub("\N{REPLACEMENT CHARACTER}", _LINE_BREAKS.sub(" ", cut))


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME),
    AfterValidator(clean_name),
]
"""A name in a request."""
