"""Help: the documentation of the project, bundled with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import PurePosixPath

from fastapi import APIRouter
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from starlette.responses import Response

from app.http.links import link_to
from app.web.site import render
from app.web.visitors import VisitorDep
from registry.errors import NotFoundError

router = APIRouter(prefix="/ui/help", include_in_schema=False)

_FOLDER = files("app.web").joinpath("help")
_NOT_SLUG = re.compile(r"[^\w\- ]")
_FIRST = ("web", "datasets", "patching", "report", "evaluations", "corrections", "classify", "client", "operations")


@router.get("")
def show_help(visitor: VisitorDep) -> Response:
    """Show the list of documents."""
    return render("help.html", visitor, titles=_titles(), text=None, title="Help")


@router.get("/{name}")
def show_document(visitor: VisitorDep, name: str) -> Response:
    """Show a document."""
    titles = _titles()
    if name not in titles:
        raise NotFoundError("document", name[:100], "See the list at /ui/help.")
    return render("help.html", visitor, titles=titles, text=_read(name, link_to("/ui/help/")), title=titles[name])


@cache
def _titles() -> dict[str, str]:
    """Return the titles of the documents by name, what most people need first."""
    found = {}
    for file in _FOLDER.iterdir():
        if file.name.endswith(".md"):
            first = file.read_text(encoding="utf-8").partition("\n")[0]
            found[file.name.removesuffix(".md")] = first.lstrip("# ").strip()
    order = {name: place for place, name in enumerate(_FIRST)}
    return dict(sorted(found.items(), key=lambda each: (order.get(each[0], len(order)), each[1])))


@cache
def _read(name: str, folder: str) -> Markup:
    """Return a document as HTML; links to other documents lead to their pages, those to other files are plain text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_FOLDER.joinpath(f"{name}.md").read_text(encoding="utf-8"))
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", _slug(content.content))
    for token in tokens:
        _change_links(token.children or (), folder)
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _change_links(tokens: Sequence[Token], folder: str) -> None:
    is_plain = False
    for token in tokens:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href")), folder)
            is_plain = target is None
            token.tag = "span" if is_plain else "a"
            token.attrs = {} if target is None else {"href": target, "rel": "noreferrer"}
        elif token.type == "link_close":
            token.tag = "span" if is_plain else "a"


def _target(address: str, folder: str) -> str | None:
    path, mark, anchor = address.partition("#")
    if "://" in address or not path:
        return address
    name = PurePosixPath(path)
    return f"{folder}{name.stem}{mark}{anchor}" if name.suffix == ".md" and name.parent == PurePosixPath() else None


def _slug(text: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return _NOT_SLUG.sub("", text.lower()).strip().replace(" ", "-")
