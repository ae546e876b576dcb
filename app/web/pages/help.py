"""Help: the documentation of the project, bundled with it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise

from fastapi import APIRouter
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from starlette.responses import Response

from app.http.links import link_to
from app.web.site import HEADERS, render
from app.web.visitors import VisitorDep
from registry.errors import NotFoundError

router = APIRouter(prefix="/ui/help", include_in_schema=False)

_FOLDER = files("app.web").joinpath("help")
_NOT_SHOWN = frozenset({"decisions", "generating"})
_PICTURES = {"webp": "image/webp", "png": "image/png", "svg": "image/svg+xml"}
_INDEX = "index"
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_NOT_SLUG = re.compile(r"[^\w\- ]")


@router.get("")
def show_help(visitor: VisitorDep) -> Response:
    """Show the table of contents."""
    return _show(visitor, _INDEX)


@router.get("/{name:path}")
def show_document(visitor: VisitorDep, name: str) -> Response:
    """Show a document, or send a picture of one."""
    if picture := _pictures().get(name):
        return Response(picture.read_bytes(), headers=HEADERS, media_type=_PICTURES[_suffix(name)])
    if name not in _documents() or name == _INDEX:
        raise NotFoundError("document", name[:100], "See the list at /ui/help.")
    return _show(visitor, name)


def _show(visitor: VisitorDep, name: str) -> Response:
    title, text = _read(name, link_to("/ui/help"))
    return render("help.html", visitor, is_index=name == _INDEX, title=title, text=text)


@cache
def _documents() -> Mapping[str, Traversable]:
    """Return the documents by name, such as `client` or `how-to/browser`."""
    return {name.removesuffix(".md"): file for name, file in _walk(_FOLDER) if name.endswith(".md")}


@cache
def _pictures() -> Mapping[str, Traversable]:
    """Return the pictures by name, such as `pictures/report.webp`."""
    return {name: file for name, file in _walk(_FOLDER) if _suffix(name) in _PICTURES}


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_file():
            yield f"{prefix}{each.name}", each
        elif not prefix and each.name not in _NOT_SHOWN:
            yield from _walk(each, f"{each.name}/")


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


@cache
def _read(name: str, root: str) -> tuple[str, Markup]:
    """Return the title of a document and its HTML; links to files that are not shown become plain text.

    Args:
        name: Of the document.
        root: Address of the table of contents.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    source = _COMMENT.sub("", _documents()[name].read_text(encoding="utf-8"))
    tokens = parser.parse(source)
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", _slug(content.content))
    for token in tokens:
        _change_addresses(token.children or (), name, root)
    title = source.partition("\n")[0].lstrip("# ").strip()
    return title, Markup(parser.renderer.render(tokens, parser.options, {}))


def _change_addresses(tokens: Sequence[Token], name: str, root: str) -> None:
    is_plain = False
    for token in tokens:
        if token.type == "link_open":
            target = _target(str(token.attrGet("href")), name, root)
            is_plain = target is None
            token.tag = "span" if is_plain else "a"
            token.attrs = {} if target is None else {"href": target, "rel": "noreferrer"}
        elif token.type == "link_close":
            token.tag = "span" if is_plain else "a"
        elif token.type == "image":
            token.attrSet("src", f"{root}/{_resolve(str(token.attrGet('src')), name)}")


def _target(address: str, name: str, root: str) -> str | None:
    path, mark, anchor = address.partition("#")
    if "://" in address or not path:
        return address
    document = _resolve(path, name).removesuffix(".md")
    if not path.endswith(".md") or document not in _documents():
        return None
    return f"{root}{'' if document == _INDEX else '/' + document}{mark}{anchor}"


def _resolve(path: str, name: str) -> str:
    """Return what a relative path in a document names, from the folder of all documents on."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def _slug(text: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return _NOT_SLUG.sub("", text.lower()).strip().replace(" ", "-")
