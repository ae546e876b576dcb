"""Models that are loaded once for all tests of the library; nothing changes them."""

from pathlib import Path

import pytest

from paint_core.models import BaseModel, load_base
from tests.paint_core import tiny


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def starter_base() -> BaseModel:
    return load_base("starter")


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models") / "tiny", tiny.state_dict())


@pytest.fixture(scope="session")
def tiny_base(tiny_dir: Path) -> BaseModel:
    return load_base(f"local-dir:{tiny_dir}")
