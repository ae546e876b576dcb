"""Which tests run which functions of the library: found once by profiling, and kept per test file."""

import cProfile
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from tests.project.paths import ROOT

TESTS = Path("tests/paint_core")
_LIBRARY = f"{ROOT}/paint_core/"
_MOST_SECONDS = 240.0
_FILES_AT_ONCE = 6
_NOT_QUALIFIED = {"<locals>", "<lambda>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<module>"}


@dataclass(frozen=True)
class Reach:
    """What one test does.

    Attributes:
        seconds: How long it takes, its fixtures included.
        functions: What it runs, as `PATH:NAME`.
    """

    seconds: float
    functions: frozenset[str]


def find_reach(cache: Path, fresh: bool = False) -> dict[str, Reach]:
    """Return what every test of the library reaches, and profile those files that changed since the cache was written.

    Args:
        cache: A JSON file; written again.
        fresh: Profile all files.

    Raises:
        SystemExit: The tests cannot be collected. A test that fails as the code is, is left out and named.
    """
    known: dict[str, Any] = json.loads(cache.read_text()) if cache.exists() and not fresh else {}
    digests = {str(path): _digest(path) for path in sorted(TESTS.rglob("test_*.py"))}
    kept = {path: known[path] for path, digest in digests.items() if known.get(path, {}).get("digest") == digest}
    stale = [path for path in digests if path not in kept]
    cache.parent.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(stale), _FILES_AT_ONCE):
        some = stale[first : first + _FILES_AT_ONCE]
        found = _profile(some)
        kept |= {path: {"digest": digests[path], "tests": found.get(path, {})} for path in some}
        cache.write_text(json.dumps(kept))  # so that a run that is stopped goes on from there
    return {
        test: Reach(seconds, frozenset(functions))
        for entry in kept.values()
        for test, (seconds, functions) in entry["tests"].items()
    }


def nearest_tests(reach: Mapping[str, Reach], path: str, function: str) -> list[str]:
    """Return the tests that run a function, and those of the file named after its module; the latter come first.

    What a test starts in another process is not seen, and that file may hold such tests.

    Args:
        reach: Of all tests.
        path: The file that holds the function.
        function: Its qualified name; "" means whatever the module does when it is imported.

    Returns:
        At most so many that they take four minutes together.
    """
    stem = Path(path).stem
    users = [test for test, each in reach.items() if f"{path}:{function}" in each.functions]
    if not users:  # a constant, or a function that runs in another process only
        users = [test for test, each in reach.items() if any(name.startswith(f"{path}:") for name in each.functions)]
    wanted = set(users)
    chosen = [test for test in reach if test in wanted or Path(_file(test)).stem == f"test_{stem}"]
    files: dict[str, float] = {}
    for test in chosen:
        file = _file(test)
        files[file] = files.get(file, 0.0) + reach[test].seconds
    order = {file: (stem not in Path(file).stem, seconds) for file, seconds in files.items()}
    chosen.sort(key=lambda test: order[_file(test)])
    return list(_within(chosen, reach))


def _within(tests: Iterable[str], reach: Mapping[str, Reach]) -> Iterator[str]:
    left = _MOST_SECONDS
    for test in tests:
        if reach[test].seconds <= left:
            left -= reach[test].seconds
            yield test


def _digest(path: Path) -> str:
    helpers = sorted(other for other in TESTS.rglob("*.py") if not other.name.startswith("test_"))
    return hashlib.blake2b(b"".join(each.read_bytes() for each in (path, *helpers)), digest_size=16).hexdigest()


def _profile(paths: list[str]) -> dict[str, dict[str, tuple[float, list[str]]]]:
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *paths],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"the tests cannot be profiled:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    if done.returncode == pytest.ExitCode.TESTS_FAILED:
        sys.stderr.write(
            f"left out, because they fail without any mutant:\n{done.stdout.partition('= short test')[2][:3000]}\n"
        )
    tests: dict[str, dict[str, tuple[float, list[str]]]] = json.loads(done.stdout.rpartition("\n=== reach\n")[2])
    return tests


class _Recorder:
    """A plugin of pytest that notes the functions of the library that each test and its fixtures call."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._own: dict[str, set[CodeType]] = {}
        self._shared: dict[str, set[CodeType]] = {}  # by file: a fixture may serve all of its tests
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[item.nodeid] = time.perf_counter() - start

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        with _Noting(self._shared.setdefault(_file(item.nodeid), set())):
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with _Noting(self._own.setdefault(item.nodeid, set())):
            yield

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)

    def reach(self) -> dict[str, dict[str, tuple[float, list[str]]]]:
        """Return seconds and functions of each test, by file."""
        reach: dict[str, dict[str, tuple[float, list[str]]]] = {file: {} for file in self._shared}
        for test, own in self._own.items():
            if test in self._failed:
                continue
            names = {name for code in own | self._shared[_file(test)] for name in _names(code)}
            reach[_file(test)][test] = self._seconds[test], sorted(names)
        return reach


class _Noting:
    """Notes the functions that run: by a profiler written in C, in threads that begin meanwhile by one in Python."""

    def __init__(self, target: set[CodeType]) -> None:
        self._target = target
        self._profiler = cProfile.Profile(builtins=False)

    def __enter__(self) -> None:
        threading.setprofile(self._note)
        self._profiler.enable()

    def __exit__(self, *_: object) -> None:
        self._profiler.disable()
        threading.setprofile(None)
        self._target |= {entry.code for entry in self._profiler.getstats() if isinstance(entry.code, CodeType)}

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        self._target.add(frame.f_code)


def _file(test: str) -> str:
    return test.partition("::")[0]


def _names(code: CodeType) -> Iterator[str]:
    if code.co_filename.startswith(_LIBRARY):
        name = ".".join(part for part in code.co_qualname.split(".") if part not in _NOT_QUALIFIED)
        yield f"{code.co_filename.removeprefix(f'{ROOT}/')}:{name}"


if __name__ == "__main__":
    recorder = _Recorder()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[recorder])
    sys.stdout.write("\n=== reach\n" + json.dumps(recorder.reach()))
    sys.exit(int(status))
