"""Rules of this project that no linter knows, as small checks on a file's syntax tree."""

import ast
from collections.abc import Iterator

MAX_FUNCTION_LINES = 80
MAX_FILE_LINES = 400

PICKLES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
DANGEROUS_CALLS = frozenset({"torch.load", "os.system", "shutil.unpack_archive", "yaml.load", "eval", "exec"})
ENVIRONMENT = frozenset({"os.environ", "os.getenv", "os.putenv"})


def find_dangers(tree: ast.Module) -> Iterator[str]:
    """Yield what could run somebody else's code or write where it should not: unpickling, `extractall`, shells."""
    for node in ast.walk(tree):
        for module in _imported(node):
            if module.partition(".")[0] in PICKLES or module in DANGEROUS_CALLS:
                yield f"line {node.lineno}: imports {module}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in DANGEROUS_CALLS or name.endswith(".extractall"):
                yield f"line {node.lineno}: calls {name}"
            for keyword in node.keywords:
                if keyword.arg in {"shell", "allow_pickle"} and ast.unparse(keyword.value) != "False":
                    yield f"line {node.lineno}: passes {keyword.arg}={ast.unparse(keyword.value)}"


def find_impurities(tree: ast.Module) -> Iterator[str]:
    """Yield what the pure core may not do: print, read the environment, seed the process's own generator."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ENVIRONMENT:
            yield f"line {node.lineno}: uses {ast.unparse(node)}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "input"}:
            yield f"line {node.lineno}: calls {ast.unparse(node.func)}"
        for name in sorted(set(_imported(node)) & ENVIRONMENT):
            yield f"line {node.lineno}: imports {name}"  # type: ignore[attr-defined]


def find_oversize(text: str) -> Iterator[str]:
    """Yield each function, and the file itself, that is longer than a reader can hold."""
    if len(text.splitlines()) > MAX_FILE_LINES:
        yield f"{len(text.splitlines())} lines, over {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {num_lines} lines, over {MAX_FUNCTION_LINES}"


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []
