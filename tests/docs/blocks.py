"""The code blocks of the documentation, with the reason why one is not run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.project.paths import ROOT

_MARK = re.compile(r"<!-- (not run|run by): (.+?) -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: Path of its document from the root of the project.
        line: Where it begins, from 1.
        language: What stands behind the fence; "" without a fence.
        code: What it contains.
        reason: Why it is not run; "" if it is.
        test: File of the test that runs it in place of this folder's; "" if none does.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str = ""
    test: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs_here(self) -> bool:
        """Whether this folder's tests run it."""
        return not self.reason and not self.test


def documents() -> list[str]:
    """The documents whose blocks are run: those for users, without generated ones and the log of decisions."""
    pages = [
        path for path in (ROOT / "docs").rglob("*.md") if path.parent.name not in {"decisions", "reference", "studies"}
    ]
    found = [ROOT / "README.md", *pages, ROOT / "clients" / "python" / "README.md"]
    return sorted(str(path.relative_to(ROOT)) for path in found if path.exists())


def read_blocks(page: str) -> list[Block]:
    """The code blocks of a document, in order."""
    return list(_walk(page, (ROOT / page).read_text(encoding="utf-8")))


def _walk(page: str, text: str) -> Iterator[Block]:
    mark: re.Match[str] | None = None
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block":
            mark = _MARK.search(token.content)
        elif token.type in ("fence", "code_block"):
            line = token.map[0] + 1 if token.map else 0
            told = {"not run": "reason", "run by": "test"}
            given = {told[mark[1]]: " ".join(mark[2].split())} if mark else {}
            yield Block(page, line, token.info.strip(), token.content, **given)
            mark = None
        elif token.type != "inline":
            mark = None if token.nesting == 1 else mark


def commands(code: str) -> Iterator[str]:
    """The commands of a shell block, one each, with continued lines joined and comments left out."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def exists(path: str) -> bool:
    """Whether the project has this file."""
    return (ROOT / Path(path)).is_file()
