"""`docs/reference/client.md`: the methods of the Python client, from their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import paintbox_client
from docs.generating.markdown import page, table

_INTRODUCTION = """Everything here is imported from `paintbox_client`. [The Python client](../client.md#python) shows \
how to use it."""
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$", re.MULTILINE)
_QUOTED_TYPE = re.compile(r"(: |-> )'([^']*)'")
_FUNCTION = re.compile(r"<function [^>]*>")
_ITEM = re.compile(r"^(\*{0,2}\w+)(?: \([^)]*\))?: (.*)$")


def build_client() -> str:
    """Return the page: each public class with its methods, then the errors."""
    exported = {name: getattr(paintbox_client, name) for name in paintbox_client.__all__}
    classes = {name: each for name, each in exported.items() if inspect.isclass(each)}
    errors = {name: each for name, each in classes.items() if issubclass(each, Exception)}
    clients = {"Client": paintbox_client.Client}  # the methods of `AsyncClient` are these, too
    parts = [_describe_class(name, each) for name, each in clients.items()]
    raised = [(f"`{name}`", _first_sentence(each)) for name, each in errors.items()]
    return page("Client methods", _INTRODUCTION, *parts, "## Errors", table(("error", "meaning"), raised))


def _describe_class(name: str, kind: type) -> str:
    methods = [text for method in _public_methods(kind) for text in (_describe_method(name, *method),)]
    return "\n\n".join([f"## {name}", *_describe_docstring(inspect.getdoc(kind) or ""), *methods])


def _public_methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, member in sorted(inspect.getmembers(kind)):
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def _describe_method(owner: str, name: str, member: Any) -> str:
    if isinstance(member, property):
        return "\n\n".join([f"### {owner}.{name}", *_describe_docstring(inspect.getdoc(member) or "")])
    signature = inspect.signature(member)
    own = [each for each in signature.parameters.values() if each.name != "self"]
    shown = _FUNCTION.sub("…", _QUOTED_TYPE.sub(r"\1\2", f"{name}{signature.replace(parameters=own)}"))
    prefix = "async " if inspect.iscoroutinefunction(member) else ""
    docstring = _describe_docstring(inspect.getdoc(member) or "")
    return "\n\n".join([f"### {owner}.{name}", f"```text\n{prefix}{shown}\n```", *docstring])


def _describe_docstring(docstring: str) -> Iterator[str]:
    """Yield the parts of a Google-style docstring as Markdown."""
    text, *sections = _SECTION.split(docstring)
    yield text.strip()
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        yield f"**{title}**"
        yield "\n".join(_list_items(inspect.cleandoc(body)))


def _list_items(body: str) -> Iterator[str]:
    """Yield a list item for each `name: text`, whose later lines are indented; other text as it is."""
    for line in body.splitlines():
        item = _ITEM.match(line)
        yield f"- `{item[1]}`: {item[2]}" if item else f"  {line.strip()}" if line.startswith(" ") else line


def _first_sentence(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0]
