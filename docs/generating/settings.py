"""`docs/reference/settings.md`: every variable that the processes read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.settings import AppSettings
from docs.generating.markdown import link_documents, page, table
from registry.settings import StorageSettings
from worker.settings import WorkerSettings

_INTRODUCTION = """Each process reads its settings once, when it starts, from environment variables; `docker compose` \
passes those of `.env` on. An invalid value stops the process with a one-line error that states the variable. Lists \
are JSON. Variables of the `paintbox` command are listed with [its options](cli.md)."""
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_NAMES = {"Path": "path", "str": "text", "int": "integer", "float": "number", "bool": "true or false", "tuple": "list"}


def build_settings() -> str:
    """Return the page."""
    shared = set(StorageSettings.model_fields)
    parts = [
        ("Every process", StorageSettings, shared),
        ("API", AppSettings, set(AppSettings.model_fields) - shared),
        ("Worker", WorkerSettings, set(WorkerSettings.model_fields) - shared),
    ]
    sections = (
        f"## {title}\n\n" + table(("variable", "type", "default", "meaning"), _rows(settings, names))
        for title, settings, names in parts
    )
    return page("Settings", _INTRODUCTION, *sections)


def _rows(settings: type[StorageSettings], names: set[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in settings.model_fields.items():
        if name in names:
            meaning = link_documents(field.description or "", "reference") + _former(name, field)
            yield f"`PAINTBOX_{name.upper()}`", _describe_type(field), _describe_default(name, field), meaning


def _former(name: str, field: FieldInfo) -> str:
    """Return a sentence about names that the variable had in earlier releases."""
    choices = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else ()
    former = [str(each) for each in choices if str(each) != f"PAINTBOX_{name.upper()}"]
    return "".join(f" The former name `{each}` still works." for each in former)


def _describe_type(field: FieldInfo) -> str:
    kind = _without_none(field.annotation)
    words = _describe_kind(kind)
    limits = [text for each in field.metadata for text in _limits(each)]
    return ", ".join([words, *limits])


def _without_none(kind: Any) -> Any:
    """Return `X` for `X | None`, and for an annotated `X`."""
    others = [each for each in get_args(kind) if each is not type(None)]
    return others[0] if type(None) in get_args(kind) else kind


def _describe_kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(kind))
    if kind is SecretStr:
        return "secret"
    return _NAMES.get(getattr(get_origin(kind) or kind, "__name__", ""), "text")


def _limits(constraint: Any) -> Iterator[str]:
    for name, words in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
        bound = getattr(constraint, name, None)
        if bound is not None:
            yield f"{words} {bound:,.0f}" if bound >= 1 else f"{words} {bound:g}"


def _describe_default(name: str, field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is PydanticUndefined or default in (None, "", ()) or str(default) == ".":
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if name.endswith("_bytes"):
        return _size(default)
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{each}"' for each in default) + "]`"
    return f"`{default:.10g}`" if isinstance(default, float) else f"`{default}`"


def _size(num_bytes: int) -> str:
    """Return `10 GiB (10737418240)`: the variable itself takes bytes."""
    fitting = (f"{num_bytes // factor} {unit} " for factor, unit in _UNITS if num_bytes and num_bytes % factor == 0)
    words = next(fitting, "")
    return f"{words}(`{num_bytes}`)" if words else f"`{num_bytes}`"
