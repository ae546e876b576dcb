"""The table of endpoints in `docs/api.md`."""

from __future__ import annotations

import re
from typing import Any

from docs.generating.markdown import table

BEGIN, END = "<!-- endpoints: written by docs/generate.py -->\n", "<!-- end of endpoints -->\n"
_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


def build_endpoints(openapi: dict[str, Any]) -> str:
    """Return a table with a line per endpoint, in the order in which the application declares them."""
    rows = [
        (f"`{method.upper()} {path}`", operation.get("summary", ""), _describe_access(operation))
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
        if method in _METHODS
    ]
    return table(("endpoint", "", "needs"), rows) + "\n"


def replace_endpoints(document: str, openapi: dict[str, Any]) -> str:
    """Return the document with the table between its marks."""
    marks = re.compile(f"(?s)({re.escape(BEGIN)}).*({re.escape(END)})")
    return marks.sub(lambda found: f"{found[1]}\n{build_endpoints(openapi)}\n{found[2]}", document)


def _describe_access(operation: dict[str, Any]) -> str:
    """Return the scope that an operation needs, and what has to be the caller's own."""
    scopes = [scope for needed in operation["security"] for scope in needed.get("key", ())]
    owned = operation.get("x-paintbox-owned", "").replace("_", " ")
    return ", ".join([*scopes, *([f"own {owned}"] if owned else [])]) or "no key"
