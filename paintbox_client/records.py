"""Responses of the service as objects: dictionaries with typed attributes."""

from __future__ import annotations

import copy
import html
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

JsonObject = dict[str, Any]
"""An object as parsed JSON."""

_LONGEST_SHOWN = 60


class Record(JsonObject):
    """An object that the service sent.

    Its fields are attributes, and items as in any dictionary: `job.status` and `job["status"]` are the same, except
    that attributes are objects themselves where the service sends an object. A field that a service of another release
    did not send is None, or empty. Fields that this client does not know are there as well.

    Args:
        fields: The object as parsed JSON.
        source: The `Transport` that it came from, which records that can act need.
    """

    def __init__(self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), source: object = None):
        super().__init__(fields)
        # not an attribute of the class, whose annotations are the fields
        self.__dict__["_source"] = source

    def __getattr__(self, name: str) -> Any:
        """Return a field."""
        hint = _hints(type(self)).get(name)
        if name in self:
            return _wrap(Any if hint is None else hint, self[name], self._source)
        if hint is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(self)}"[:500])
        return {list: list, dict: dict}.get(get_origin(hint) or hint, _nothing)()

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: responses are read-only."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set: change a copy, as to_dict() returns it")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_hints(type(self)), *self})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_show(value)}' for name, value in self.items())})"

    def to_dict(self) -> JsonObject:
        """Return the fields as plain data, a copy through and through."""
        return copy.deepcopy(dict(self))

    def __copy__(self) -> Self:
        return type(self)(self, self._source)

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(self.to_dict(), self._source)

    def _repr_html_(self) -> str:
        """Return the fields as a table, which notebooks show."""
        return table_of(
            ("field", "value"),
            ((name, value if isinstance(value, str) else _show(value)) for name, value in self.items()),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


AnyRecord = TypeVar("AnyRecord", bound=Record)


@cache
def _hints(kind: type[Record]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    properties = {name: value.fget for name, value in vars(kind).items() if isinstance(value, property)}
    return hints | {name: get_type_hints(getter)["return"] for name, getter in properties.items()}


def table_of(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Return an HTML table of texts."""
    head = "".join(f"<th>{html.escape(str(each))}</th>" for each in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(each))}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _wrap(hint: Any, value: Any, source: object) -> Any:
    """Return a value as its type says: objects as records, in lists and by name too."""
    if isinstance(value, dict):
        kinds = [each for each in _choices(hint) if isinstance(each, type) and issubclass(each, Record)]
        if kinds:
            return kinds[0](value, source)
        of = [get_args(each)[1] for each in _choices(hint) if get_origin(each) is dict]
        if not of:
            return Record(value, source)
        return {name: _wrap(of[0], each, source) for name, each in value.items()}
    if isinstance(value, list):
        of = [get_args(each)[0] for each in _choices(hint) if get_origin(each) is list]
        return [_wrap(of[0] if of else Any, each, source) for each in value]
    return value


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _nothing() -> None:
    return None


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return f"[{len(value)} items]" if value else "[]"
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
