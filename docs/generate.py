"""Write docs/openapi.json, the endpoint table of docs/api.md and the stub of the asynchronous client from the code.

`make docs` runs it.
"""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import AppSettings
from paintbox_client.client import Client

DOCS = Path(__file__).parent
BEGIN, END = "<!-- endpoints: written by docs/generate.py -->\n", "<!-- end of endpoints -->\n"
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")

STUB = """# Written by docs/generate.py: what `AsyncClient` has of `Client`.

from collections.abc import AsyncIterator, Callable
from typing import Self
import httpx2
import os
{imports}

class AsyncClient:
    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        transport: httpx2.BaseTransport | None = None,
        timeout: float | None = ...,
        *,
        patience_seconds: float = ...,
        retry_seconds: float = ...,
        on_outage: Callable[[str], object] | None = None,
        max_parallel: int = ...,
        find_url: Callable[[], str | None] | None = None,
        max_threads: int = ...,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...
    @property
    def url(self) -> str: ...
    async def close(self) -> None: ...
{methods}
"""


def build_table(openapi: dict[str, Any]) -> str:
    """Return a Markdown table with a line per endpoint, in the order in which the application declares them."""
    lines = [
        f"| `{method.upper()} {path}` | {operation.get('summary', '')} | {describe_access(operation)} |"
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]
    return "\n".join(["| endpoint | | needs |", "|---|---|---|", *lines, ""])


def describe_access(operation: dict[str, Any]) -> str:
    """Return the scope that an operation needs, and what has to be the caller's own."""
    scopes = [scope for needed in operation["security"] for scope in needed.get("key", ())]
    owned = operation.get("x-paintbox-owned", "").replace("_", " ")
    return ", ".join([*scopes, *([f"own {owned}"] if owned else [])]) or "no key"


def replace_table(document: str, table: str) -> str:
    """Return the document with `table` between its markers."""
    return re.sub(f"(?s)({re.escape(BEGIN)}).*({re.escape(END)})", lambda found: found[1] + table + found[2], document)


def build_stub() -> str:
    """Return the types of `AsyncClient`: those of `Client`, with coroutines and asynchronous iterators."""
    methods: dict[str, str] = {}
    imports: dict[str, str] = {}
    for kind in Client.__mro__[:-1]:
        module = importlib.import_module(kind.__module__)
        tree = ast.parse(inspect.getsource(module))
        imports |= _imported_names(tree)
        imports |= {node.name: kind.__module__ for node in tree.body if isinstance(node, ast.ClassDef)}
        body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
        for node in body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not node.decorator_list:
                methods.setdefault(node.name, _asynchronous(node))
    for name in ("close", "suggest"):
        methods.pop(name, None)
    text = "\n".join(methods.values())
    words = re.findall(r"[A-Za-z_]+", re.sub(r"def \w+", "", text))
    needed = {name: imports[name] for name in words if name in imports}
    text = re.sub(r"=_[a-z]+\b", "=...", text)  # a default of the module's own
    lines = [f"from {module} import {name}" for name, module in sorted(needed.items(), key=lambda each: each[::-1])]
    return STUB.format(imports="\n".join(lines), methods=text)


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Return the module of each name that is imported anywhere in a module."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    return {alias.name: str(node.module) for node in found for alias in node.names}


def _asynchronous(node: ast.FunctionDef) -> str:
    """Return the signature of a method for the stub."""
    returns = ast.unparse(node.returns) if node.returns else "None"
    is_iterator = returns.startswith("Iterator[")
    prefix, kind = ("def", f"Async{returns}") if is_iterator else ("async def", returns)
    return f"    {prefix} {node.name}({ast.unparse(node.args)}) -> {kind}: ..."


def formatted(python: str) -> str:
    """Return Python as `ruff format` writes it, with its imports sorted."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        call = [sys.executable, "-m", "ruff", *command, "--stdin-filename", "paintbox_client/async_client.pyi", "-"]
        python = subprocess.run(call, input=python, capture_output=True, text=True, check=True, cwd=DOCS.parent).stdout
    return python


def main() -> None:
    """Write the files. The application is built, not started, so nothing is read from a data directory."""
    openapi = create_app(AppSettings()).openapi()
    (DOCS / "openapi.json").write_text(json.dumps(openapi, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = DOCS / "api.md"
    page.write_text(replace_table(page.read_text(encoding="utf-8"), build_table(openapi)), encoding="utf-8")
    (DOCS.parent / "paintbox_client" / "async_client.pyi").write_text(formatted(build_stub()), encoding="utf-8")


if __name__ == "__main__":
    main()
