"""The environment variables that the processes' settings know."""

import importlib
from collections.abc import Iterator

from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from tests.project.paths import PACKAGES, ROOT


def settings_variables() -> set[str]:
    """Return the name of every variable that a settings class of ours reads, former names included."""
    modules = [f"{package}.settings" for package in PACKAGES if (ROOT / package / "settings.py").exists()]
    classes = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    return {
        name
        for each in classes
        if isinstance(each, type) and issubclass(each, BaseSettings)
        for name in _variables(each)
    }


def _variables(settings: type[BaseSettings]) -> Iterator[str]:
    for name, field in settings.model_fields.items():
        yield f"{settings.model_config.get('env_prefix', '')}{name}".upper()
        if isinstance(field.validation_alias, AliasChoices):
            yield from map(str, field.validation_alias.choices)
