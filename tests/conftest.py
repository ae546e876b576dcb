"""What all tests share: how Hypothesis looks for counterexamples, and how hard the API is tried."""

import ctypes
import gc
import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.forking import Forks

# Importing PyTorch ahead pays for a worker that stays; the system tests have it.
os.environ.setdefault("PAINTBOX_STANDBY_TRAINER", "false")
# Which machine runs the tests must not decide what is computed.
os.environ.setdefault("PAINTBOX_SERVING_PRECISION", "fp32")

gc.disable()  # until all is imported: what stays anyway would be gone through again and again

# A law is tried on few examples, because many of ours run a model. No deadline: a busy machine is not a bug.
settings.register_profile("paintbox", max_examples=25, deadline=None, derandomize="CI" in os.environ)
settings.load_profile("paintbox")

_LONG = frozenset({"attack", "chaos", "system", "worker"})
"""Folders whose files take longest: begun first, so that no process works on one of them when all others have ended."""

_MAX_MEMORY_BYTES = 3_500_000_000

_PROGRAMS = frozenset({"benchmarks", "cluster", "mutants", "mutations", "recipes"})
"""Folders whose tests run a whole program."""

_STARTS = frozenset(
    {
        "subprocess",
        "multiprocessing",
        "forks",
        "open_world",
        "serve",
        "listen",
        "world",
        "served",
        "broker_url",
        "postgres",
        "open_wire",
        "create_app",
        "EmbeddedValkey",
        "ProcessSupervisor",
        "S3Server",
        "finetune",
        "run_patch",
        "run_part",
    }
)
"""What tests that start processes, a server or an application, or that fine-tune, import, or ask for as a fixture or a
parameter."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-examples", type=int, default=2, help="drawn requests an operation; `make fuzz` draws 300")
    parser.addoption("--fuzz-seed", type=int, default=0)


@pytest.hookimpl(tryfirst=True)  # before pytest looks for the marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _folder(item) not in _LONG)
    for item in items:
        if _is_quick(item):
            item.add_marker("quick")


def _folder(item: pytest.Item) -> str:
    """The folder of `tests` that a test lies in, or in whose subfolders."""
    return item.path.relative_to(Path(__file__).parent).parts[0]


def _is_quick(item: pytest.Item) -> bool:
    """Whether a test starts neither a process nor an application, and fine-tunes nothing."""
    if not isinstance(item, pytest.Function) or _folder(item) in _LONG | _PROGRAMS:
        return False
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {*vars(item.module), *item.fixturenames, *(each for each in parameters if isinstance(each, str))}
    return names.isdisjoint(_STARTS)


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector's rounds."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)  # pytest looks for what was not closed before, and again afterwards
def pytest_unconfigure() -> None:
    """Let the interpreter take apart all that it can: some libraries complain of what is left."""
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _give_memory_back() -> Iterator[None]:
    """Return to the system what the applications and models of a module leave free in pieces: gigabytes by the end."""
    yield
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture
def fuzz_examples(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-examples"))


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-seed"))


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Processes that need not import PyTorch, open_clip and the application again."""
    with Forks("torch", "open_clip", "worker.steps.patch", "worker.steps.finetune", "app.main") as opened:
        yield opened


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if this process has taken too much memory: machines that run the tests may have 8 GB for two of them."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    if peak > _MAX_MEMORY_BYTES:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        sys.stderr.write(
            f"\nA test process took {peak / 1e9:.1f} GB of memory; the limit is {_MAX_MEMORY_BYTES / 1e9:.1f} GB.\n"
        )
