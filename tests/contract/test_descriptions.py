"""Every field of every shape that crosses a border is described, so that OpenAPI and readers of the code know it."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from pydantic import BaseModel

import contract


def _models() -> Iterator[type[BaseModel]]:
    for module in pkgutil.iter_modules(contract.__path__, "contract."):
        for found in vars(import_module(module.name)).values():
            if isinstance(found, type) and issubclass(found, BaseModel) and found.__module__ == module.name:
                yield found


def test_every_field_has_a_description() -> None:
    models = list(_models())
    assert len(models) > 4
    bare = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert bare == []
