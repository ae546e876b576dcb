"""What a PromQL expression reads: metrics, the labels that it selects by, and the labels that it groups by."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import promql_parser

TARGET_LABELS = frozenset({"job", "instance"})
"""Labels that Prometheus itself adds to every series."""


_WRAPPING = (
    promql_parser.AggregateExpr,
    promql_parser.ParenExpr,
    promql_parser.SubqueryExpr,
    promql_parser.UnaryExpr,
)


@dataclass
class Reading:
    """The metrics that an expression reads, each with the labels that it is selected by, and its grouping labels."""

    selected: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def read_expression(text: str) -> Reading:
    """What an expression reads; `ValueError`: it cannot be parsed."""
    reading = Reading()
    for node in _walk(promql_parser.parse(text)):
        if isinstance(node, promql_parser.VectorSelector):
            matchers = node.matchers.matchers
            names = [each.value for each in matchers if each.name == "__name__"]
            (name,) = [node.name] if node.name else names
            reading.selected.setdefault(name, set()).update(each.name for each in matchers if each.name != "__name__")
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            reading.grouped.update(node.modifier.labels)
    return reading


def _walk(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, promql_parser.MatrixSelector):
        yield from _walk(node.vector_selector)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from _walk(node.lhs)
        yield from _walk(node.rhs)
    elif isinstance(node, promql_parser.Call):
        for each in node.args:
            yield from _walk(each)
    elif isinstance(node, _WRAPPING):
        yield from _walk(node.expr)
