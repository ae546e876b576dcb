"""`docs/reference/problems.md`: every code of an error response, with its messages and what to do.

Codes are declared in two ways: as the attribute `code` of an error's class, and as the first argument of a few classes
that stand for several codes. The second kind is found in the source, so that a new one is never missing here.
"""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import app.http.errors as edge
import registry.errors as stored
from app.http.connections import refusals
from app.http.problems import PROBLEMS_OF_STATUS
from docs.generating.markdown import page, table
from paint_core.errors import PaintCoreError
from registry.archives import refuse_name

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("app", "registry", "pipeline", "worker")
_CODED = {
    each.__name__: each
    for each in (
        *(edge.AccessRefusedError, edge.ImageRefusedError, edge.ImagesRefusedError, edge.LabelsRefusedError),
        *(edge.UploadRefusedError, stored.ArchiveRefusedError, stored.RequestRefusedError),
    )
}
_FORWARDED = {"refuse_name": "ArchiveRefusedError"}
"""Functions that return an error of a class above, with the code as their first argument."""

_NO_RESPONSES = (PaintCoreError, stored.ConfigurationError, stored.LeaseLostError)
"""Errors that end a job or a process, unless the table of statuses has them."""

_MOST_MESSAGES = 8
_INTRODUCTION = """Errors are `application/problem+json` (RFC 9457). `code` is stable: programs should look at it, \
not at the text. `detail` says what is wrong in this case and `next` what to do; here `…` stands for what differs from \
case to case. Codes without a status end a job: `GET /v1/jobs/{id}` shows them under `error`. \
[Troubleshooting](../explanation/troubleshooting.md) starts from symptoms."""


@dataclass
class Problem:
    """What the code says about one error code.

    Attributes:
        statuses: HTTP statuses that it comes with.
        meaning: of its class.
        messages: What is wrong, with what to do, each once.
    """

    statuses: set[int] = field(default_factory=set)
    meaning: str = ""
    messages: dict[tuple[str, str], None] = field(default_factory=dict)


@cache
def find_problems() -> dict[str, Problem]:
    """Return everything that is known about each code, sorted by code."""
    found: dict[str, Problem] = defaultdict(Problem)
    for root in (edge.EdgeError, stored.RegistryError, PaintCoreError):
        _add_classes(root, found)
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            _add_calls(path, package, found)
    _add_rest(found)
    return dict(sorted(found.items()))


def build_problems() -> str:
    """Return the page."""
    return page("Problem codes", _INTRODUCTION, *(_describe(*each) for each in find_problems().items()))


def _describe(code: str, problem: Problem) -> str:
    statuses = " or ".join(f"{each} {HTTPStatus(each).phrase}" for each in sorted(problem.statuses))
    meaning = " ".join(each for each in (f"{statuses}." if statuses else "", problem.meaning) if each)
    parts = [f"## `{code}`", *([meaning] if meaning else [])]
    if problem.messages:
        parts.append(table(("detail", "what to do"), list(problem.messages)[:_MOST_MESSAGES]))
    return "\n\n".join(parts)


def _add_classes(kind: type[Exception], found: dict[str, Problem]) -> None:
    """Add the classes below `kind` that have a code of their own; roots and classes of several codes have none."""
    for each in kind.__subclasses__():
        if "code" in vars(each):
            problem = found[vars(each)["code"]]
            problem.meaning = problem.meaning or inspect.cleandoc(each.__doc__ or "").partition("\n\n")[0]
            problem.statuses |= _statuses(each, vars(each)["code"])
            for message in _messages_of_class(each):
                problem.messages[message] = None
        _add_classes(each, found)


def _statuses(kind: type[Exception], code: str) -> set[int]:
    """Return the status of an error, or nothing if it never leaves the process as a response."""
    error: Any = kind.__new__(kind)
    error.code = code
    status = edge.status_of(error)
    is_response = status != HTTPStatus.INTERNAL_SERVER_ERROR or not issubclass(kind, _NO_RESPONSES)
    return {int(status)} if is_response else set()


def _messages_of_class(kind: type[Exception]) -> Iterator[tuple[str, str]]:
    """Yield what the class itself says: attributes, or what its constructor passes on."""
    if detail := vars(kind).get("detail"):
        yield detail, vars(kind).get("advice", "")
    elif "__init__" in vars(kind):
        tree = ast.parse(inspect.getsource(kind))
        constants = _constants(ast.parse(inspect.getsource(inspect.getmodule(kind))))  # type: ignore[arg-type]
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "super().__init__" and len(call.args) > 1:
                yield _text(call.args[0], constants), _text(call.args[1], constants)


def _add_calls(path: Path, package: str, found: dict[str, Problem]) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope, call in _calls(tree):
        name = ast.unparse(call.func).rpartition(".")[2]
        if name not in _CODED and name not in _FORWARDED:
            continue
        code = call.args[0] if call.args else None
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            problem = found[code.value]
            problem.messages[_message(name, call.args, _constants(tree) | _constants(scope))] = None
            if package != "worker":
                problem.statuses |= _statuses(_CODED[_FORWARDED.get(name, name)], code.value)


def _calls(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Call]]:
    """Yield every call with the function that it stands in."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    seen = set()
    for scope in (*reversed(functions), tree):  # inner functions first
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and id(node) not in seen:
                seen.add(id(node))
                yield scope, node


def _message(name: str, arguments: list[ast.expr], constants: dict[str, ast.expr]) -> tuple[str, str]:
    texts = [_text(each, constants) for each in arguments[1:]]
    if name == "ImageRefusedError":
        return f"Image … {texts[1]}.", texts[2]
    if name == "refuse_name":
        error = refuse_name(str(arguments[0].value), "…", texts[1])  # type: ignore[attr-defined] # a constant
        return error.detail, error.advice
    return texts[0], texts[1] if len(texts) > 1 else ""


def _constants(scope: ast.AST) -> dict[str, ast.expr]:
    """Return the expressions that are assigned to plain names in a module or function, the last one each."""
    return {
        node.targets[0].id: node.value
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _text(node: ast.expr, constants: dict[str, ast.expr], depth: int = 3) -> str:
    """Return a text as far as it is fixed; `…` stands for the rest."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(each, constants, depth) for each in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, constants, depth) + _text(node.right, constants, depth)
    if isinstance(node, ast.IfExp):
        return _text(node.body, constants, depth)
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(inner, ast.Name) and inner.id in constants and depth:
        return _text(constants[inner.id], constants, depth - 1)
    return "…"


def _add_rest(found: dict[str, Problem]) -> None:
    """Add what the edge answers without an error's class."""
    for status, (code, advice) in PROBLEMS_OF_STATUS.items():
        found[code].statuses.add(status)
        found[code].messages[HTTPStatus(status).phrase + ".", advice] = None
    for each in vars(refusals).values():
        if isinstance(each, refusals.Refusal):
            found[each.code].statuses.add(each.status)
            found[each.code].messages[each.detail, each.advice] = None
    found["invalid_request"].statuses.add(422)
    found["invalid_request"].messages["…: ….", "Correct the fields listed in `errors`; see the schema at /docs."] = None
    found["internal_error"].statuses.add(500)
    advice = "Retry; if the problem persists, find the request's id in the log of the API."
    found["internal_error"].messages["Internal server error.", advice] = None
