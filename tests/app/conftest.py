"""One running application a test module."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.app.world import World, open_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("app")) as opened:
        yield opened


@pytest.fixture
def client(world: World) -> TestClient:
    return world.client
