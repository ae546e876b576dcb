"""Markdown that every generated page is made of."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

NOTE = "<!-- Written by docs/generate.py from the code: change it there, then run `make docs`. -->"

DOCS = Path(__file__).resolve().parents[1]
_TITLE = re.compile(r"^#+ (.*)$", re.MULTILINE)
_DOCUMENT = re.compile(r"docs/([a-z0-9/-]+\.md)(#[a-z0-9-]+)?")


def page(title: str, introduction: str, *parts: str) -> str:
    """Return a whole page: title, a note for who wants to edit it, introduction and parts."""
    return "\n\n".join([f"# {title}", NOTE, introduction, *parts]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; vertical bars and line breaks in cells are escaped."""
    lines = [header, ["---"] * len(header), *([_cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def link_documents(text: str, folder: str) -> str:
    """Return a text in which names of documents, such as `docs/operations.md#keys`, are links.

    Args:
        text: From the code.
        folder: Folder of the page below `docs`, from which the links start.
    """

    def link(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        return f"[{_heading(path, anchor)}]({posixpath.relpath(path, folder)}{anchor})"

    return _DOCUMENT.sub(link, text)


def _heading(path: str, anchor: str) -> str:
    """Return the title of a document, or of the section that an anchor names.

    Raises:
        StopIteration: There is no such section.
    """
    titles: list[str] = _TITLE.findall((DOCS / path).read_text(encoding="utf-8"))
    return next(title for title in titles if not anchor or slug(title) == anchor.lstrip("#"))


def slug(title: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def _cell(text: str) -> str:
    """Return a text on one line, in which only code spans are Markdown."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    parts[::2] = [each.replace("<", "&lt;").replace("*", "\\*") for each in parts[::2]]
    return "`".join(parts)
