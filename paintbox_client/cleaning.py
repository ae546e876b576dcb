"""Text of third parties, made safe for display."""

from __future__ import annotations

import unicodedata

_COMMANDS_OF_TERMINALS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format, surrogate, line and paragraph
_JOINERS = frozenset("\u200c\u200d")  # which some scripts, and emoji, are written with


def clean(text: object, *, keep_lines: bool = False) -> str:
    r"""Return text without control characters of terminals and direction marks: such characters appear as `\x1b`.

    Names and messages come from third parties, and everything that is displayed passes through here. With `keep_lines`,
    line ends and tabs stay; otherwise they could look like the end of a table's row.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    kept = "\n\t" if keep_lines else ""
    return "".join(each if each in kept or not is_command(each) else _escape(each) for each in shown)


def is_command(character: str) -> bool:
    """Return whether a character commands a terminal, or is invisible."""
    return unicodedata.category(character) in _COMMANDS_OF_TERMINALS and character not in _JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
