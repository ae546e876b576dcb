"""One mutant, one fresh process, one copy of the tree: whether any of the nearest tests notices."""

import math
import multiprocessing
import os
import queue
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Literal

from tests.mutants.mutator import Mutant
from tests.project.paths import ROOT

Verdict = Literal["killed", "survived", "timed out"]
_LOADED_ONCE = [
    "torch",
    "open_clip",
    "timm",
    "torchvision",
    "PIL",
    "safetensors.torch",
    "pytest",
]
_PATIENCE = 30
_USAGE_ERROR, _NO_TESTS, _ANOTHER_TREE = 4, 5, 99
_COPIED = ("paint_core", "tests", "docs", "pyproject.toml")


@dataclass(frozen=True)
class Trial:
    """A mutant with the tests that may notice it.

    Attributes:
        mutant: The change.
        tests: Node ids, in the order in which they run.
        limit_seconds: Of processor time, after which it has timed out; a busy machine does not bring it nearer.
    """

    mutant: Mutant
    tests: Sequence[str]
    limit_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        trial: Mutant and tests.
        verdict: Killed by a failing test or a crash, survived, or timed out.
        by: The test that failed first.
    """

    trial: Trial
    verdict: Verdict
    by: str = ""


def run_trials(
    trials: Sequence[Trial], scratch: Path, processes: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Return the outcome of each trial, in their order.

    Args:
        trials: What to try.
        scratch: An empty folder for copies of the tree and logs.
        processes: How many trials run at the same time.
        tell: Called after each.

    Raises:
        RuntimeError: The tests of the first trial fail without any mutant, or tests did not run.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED_ONCE)
    os.environ.update(OMP_NUM_THREADS="1", CI="1")  # no random examples
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(processes):
        trees.put(_copy_tree(scratch / f"tree-{number}"))

    def run(trial: Trial) -> Outcome:
        tree = trees.get()
        try:
            outcome = _run(context, trial, tree, scratch / f"{trial.mutant.key}.log")
        finally:
            trees.put(tree)
        tell(outcome)
        return outcome

    for control in trials[:1]:
        unchanged = replace(control, mutant=replace(control.mutant, end=control.mutant.start, text="", key="control"))
        if _run(context, unchanged, scratch / "tree-0", scratch / "control.log").verdict != "survived":
            raise RuntimeError(f"the tests fail without any mutant:\n{(scratch / 'control.log').read_text()[-3000:]}")
    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(run, trials))


def _copy_tree(tree: Path) -> Path:
    tree.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    return tree


def _run(context: ForkServerContext, trial: Trial, tree: Path, log: Path) -> Outcome:
    if not trial.tests:
        return Outcome(trial, "survived")
    file = tree / trial.mutant.path
    source = file.read_text(encoding="utf-8")
    file.write_text(trial.mutant.apply(source), encoding="utf-8")
    process = context.Process(target=_test, args=(str(tree), trial, str(log)))
    try:
        process.start()
        process.join(_PATIENCE * trial.limit_seconds)
        if process.is_alive():  # it waits, and takes no processor time
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            return Outcome(trial, "timed out")
    finally:
        file.write_text(source, encoding="utf-8")
    if process.exitcode == 0:
        return Outcome(trial, "survived")
    if process.exitcode == -signal.SIGXCPU:
        return Outcome(trial, "timed out")
    text = log.read_text(encoding="utf-8", errors="replace")
    if process.exitcode == _ANOTHER_TREE or (
        process.exitcode in (_USAGE_ERROR, _NO_TESTS)
        and "ERROR collecting" not in text
        and "loading conftest" not in text
    ):
        raise RuntimeError(f"the tests did not run, exit status {process.exitcode}:\n{text[-2000:]}")
    return Outcome(trial, "killed", _first_failure(text))


def _first_failure(text: str) -> str:
    lines = text.splitlines()
    return next((line.split(" ")[1] for line in lines if line.startswith(("FAILED ", "ERROR "))), "a crash")


def _test(tree: str, trial: Trial, log: str) -> None:
    """Run the tests on the tree; the process ends with pytest's status."""
    os.setsid()
    limit = math.ceil(trial.limit_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    os.chdir(tree)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["PYTHONPATH"] = tree  # for processes that a test starts
    sys.dont_write_bytecode = True
    sys.path.insert(0, tree)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "paint_core")]:
        del sys.modules[name]  # of the tree that this process came from
    import pytest

    import paint_core

    if not str(paint_core.__file__).startswith(tree):
        os._exit(_ANOTHER_TREE)
    quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # what was loaded once is not rewritten, nor need it be
    options = ("-x", "-q", "--tb=short", "-p", "no:cacheprovider", *quiet)
    status = pytest.main([*options, *trial.tests], plugins=[_NoShrinking()])
    sys.stdout.flush()
    os._exit(int(status))


class _NoShrinking:
    """A plugin of pytest: the first counterexample will do."""

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.default, phases=phases, database=None, derandomize=True)
        settings.load_profile("mutants")
