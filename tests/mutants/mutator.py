"""Every small change of a source file that the tests should notice, each as one replaced piece of text."""

import ast
import hashlib
from collections import Counter
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: The file, relative to the repository.
        function: The qualified name of the function that holds it, or "" for the module and class bodies.
        kind: What was done, e.g. `comparison`.
        start: Where the replaced text begins, in characters.
        end: Where it ends.
        text: What stands there instead.
        key: Names the mutant, however the rest of the file changes.
    """

    path: str
    function: str
    kind: str
    start: int
    end: int
    text: str
    key: str = ""

    def apply(self, source: str) -> str:
        """Return the mutated source."""
        return source[: self.start] + self.text + source[self.end :]


def find_mutants(path: str, source: str) -> list[Mutant]:
    """Return all mutants of a file; a few of them do not compile.

    Left out, because no test should hold them: annotations, docstrings and other texts, `__all__`, `assert`, and what
    only builds the message of an error.
    """
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    seen: Counter[str] = Counter()
    mutants = []
    for mutant in finder.found:
        what = f"{path}:{mutant.function}:{mutant.kind}:{source[mutant.start : mutant.end]}:{mutant.text}"
        seen[what] += 1
        key = hashlib.blake2b(f"{what}:{seen[what]}".encode(), digest_size=5).hexdigest()
        mutants.append(Mutant(path, mutant.function, mutant.kind, mutant.start, mutant.end, mutant.text, key))
    return mutants


def compiles(source: str) -> bool:
    """Return whether the source is Python."""
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


class _Finder(ast.NodeVisitor):
    """Walks a file and notes what can be changed."""

    def __init__(self, path: str, source: str) -> None:
        self.found: list[Mutant] = []
        self._path, self._source = path, source
        self._names: list[str] = []
        self._in_function = 0
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._bytes = source.isascii()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Walk defaults and body; annotations and decorators stay."""
        for default in (*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)):
            self.visit(default)
        self._names.append(node.name)
        self._in_function += 1
        self._visit_body(node.body)
        self._in_function -= 1
        self._names.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Walk the body."""
        self._names.append(node.name)
        self._visit_body(node.body)
        self._names.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Walk the body."""
        self.visit(node.body)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Walk the value only."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Walk the value, unless it lists names or defines a type."""
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return
        if not self._in_function and _is_type(node.value):
            return
        if self._in_function and not any(isinstance(target, ast.Name | ast.Tuple) for target in node.targets):
            self._remove(node)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Remove it, or turn its operator around."""
        self._remove(node)
        if type(node.op) in _OPERATORS:
            old, new = _OPERATORS[type(node.op)]
            self._swap("operator", node.target, node.value, f"{old}=", f"{new}=")
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Remove a call that is made for what it does."""
        if isinstance(node.value, ast.Constant):
            return
        self._remove(node)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave it: it tells of our own bugs."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Remove it; its message stays."""
        self._remove(node)

    def visit_If(self, node: ast.If) -> None:
        """Turn the condition around."""
        if not _is_type_checking(node.test):
            self._negate(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Walk it; a condition that is turned around would mostly never end."""
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Turn the condition around."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        """Return nothing instead."""
        if node.value is None:
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add("return", node.value, "None")
        self.visit(node.value)

    def visit_Continue(self, node: ast.Continue) -> None:
        """Stop instead."""
        self._add("loop", node, "break")

    def visit_Break(self, node: ast.Break) -> None:
        """Go on instead."""
        self._add("loop", node, "continue")

    def visit_Compare(self, node: ast.Compare) -> None:
        """Move the boundary, or turn it around."""
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            self._swap("comparison", left, right, *_COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Turn the operator around."""
        if type(node.op) in _OPERATORS and not _is_text(node):
            self._swap("operator", node.left, node.right, *_OPERATORS[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Exchange `and` and `or`."""
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._swap("boolean", left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Leave the sign, or the `not`, out."""
        if isinstance(node.op, ast.Not | ast.USub):
            self._add("unary", node, f"({ast.get_source_segment(self._source, node.operand)})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Leave out an argument with a name; `strict` of `zip` asserts something, so it stays."""
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg == "strict":
                continue
            if keyword.arg is not None:
                start, end = self._span(keyword)
                self._note("argument", start, self._with_comma(end), "")
            self.visit(keyword.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave it: it is a text."""

    def visit_Constant(self, node: ast.Constant) -> None:
        """Exchange truths and move numbers."""
        value = node.value
        if isinstance(value, bool):
            self._add("constant", node, str(not value))
        elif isinstance(value, int):
            self._add("constant", node, str(value + 1))
        elif isinstance(value, float):
            self._add("constant", node, repr(value * 2 if value else 1.0))

    def _visit_body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def _negate(self, test: ast.expr) -> None:
        self._add("condition", test, f"(not ({ast.get_source_segment(self._source, test)}))")

    def _remove(self, node: ast.stmt) -> None:
        self._add("statement", node, "pass")

    def _swap(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        between = (self._span(left)[1], self._span(right)[0])
        place = self._source.find(old, *between)
        if place >= 0:
            self._note(kind, place, place + len(old), new)

    def _add(self, kind: str, node: ast.stmt | ast.expr, text: str) -> None:
        self._note(kind, *self._span(node), text)

    def _note(self, kind: str, start: int, end: int, text: str) -> None:
        name = ".".join(self._names) if self._in_function else ""
        self.found.append(Mutant(self._path, name, kind, start, end, text))

    def _with_comma(self, end: int) -> int:
        rest = self._source[end:]
        return end + rest.index(",") + 1 if rest.lstrip().startswith(",") else end

    def _span(self, node: ast.stmt | ast.expr | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        start = self._lines[line - 1]
        if self._bytes:
            return start + column
        text = self._source[start : self._lines[line]]
        return start + len(text.encode()[:column].decode())


def _is_type(value: ast.expr) -> bool:
    """Whether a module's assignment defines a type: `Literal[...]`, `A | B`, `Callable[...]`."""
    if isinstance(value, ast.BinOp):
        return isinstance(value.op, ast.BitOr) and isinstance(value.left, ast.Name | ast.BinOp | ast.Subscript)
    return (
        isinstance(value, ast.Subscript)
        and isinstance(value.value, ast.Name)
        and value.value.id in {"Literal", "Callable", "tuple", "Mapping", "Sequence"}
    )


def _is_type_checking(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )
