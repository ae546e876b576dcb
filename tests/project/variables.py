"""The environment variables that the processes' settings know."""

import importlib

from pydantic_settings import BaseSettings

from tests.project.paths import PACKAGES, ROOT


def settings_variables() -> set[str]:
    """Return the name of every variable that a settings class of ours reads."""
    modules = [f"{package}.settings" for package in PACKAGES if (ROOT / package / "settings.py").exists()]
    classes = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    return {
        f"{each.model_config.get('env_prefix', '')}{field}".upper()
        for each in classes
        if isinstance(each, type) and issubclass(each, BaseSettings)
        for field in each.model_fields
    }
