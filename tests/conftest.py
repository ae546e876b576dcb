"""What all tests share: how Hypothesis looks for counterexamples, and how hard the API is tried."""

import os

import pytest
from hypothesis import settings

# A law is tried on few examples, because many of ours run a model. No deadline: a busy machine is not a bug.
settings.register_profile("paintbox", max_examples=25, deadline=None, derandomize="CI" in os.environ)
settings.load_profile("paintbox")

_LONG = frozenset({"attack", "chaos", "system", "worker"})
"""Folders whose files take longest: begun first, so that no process works on one of them when all others have ended."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-examples", type=int, default=5, help="drawn requests an operation; `make fuzz` draws 300")
    parser.addoption("--fuzz-seed", type=int, default=0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name not in _LONG)


@pytest.fixture
def fuzz_examples(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-examples"))


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-seed"))
