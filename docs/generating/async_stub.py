"""`paintbox_client/async_client.pyi`: the types of `AsyncClient`, from the methods of `Client`."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

from paintbox_client.client import Client

ROOT = Path(__file__).resolve().parents[2]

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
        python = subprocess.run(call, input=python, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return python
