"""A real broker for the tests that want one; the mask of new files stays as it is."""

import os
from collections.abc import Iterator

import pytest

from tests.app.conftest import broker_url

__all__ = ["broker_url"]


@pytest.fixture(autouse=True)
def kept_mask() -> Iterator[None]:
    """The commands let the files that this process makes be private; whatever runs after them may not rely on it."""
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)
