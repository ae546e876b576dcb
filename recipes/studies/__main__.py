"""Run studies: `python -m recipes.studies frontier amount --data FOLDER`; without names, all of them.

The results go into `docs/studies/NAME.md`, between two marks. Fine-tuning runs are kept: stopped and started again, a
study goes on where it was. `--quick` is a smoke test: few steps, few images, one seed, one task.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from paint_core.models import load_base
from paint_core.runtime.allocator import keep_freed_memory
from recipes.studies import amount, frontier, protect, scale, several, transfer, typographic
from recipes.studies.pages import Results, write_page
from recipes.studies.runs import Study
from recipes.studies.tasks import Tasks

PAGES = Path(__file__).resolve().parents[2] / "docs" / "studies"
_SEEDS = 3
_MODULES = {
    "frontier": frontier,
    "scale": scale,
    "several": several,
    "typographic": typographic,
    "transfer": transfer,
    "amount": amount,
    "protect": protect,
}


def main() -> int:
    """Run the chosen studies and return the exit status."""
    arguments = _parse()
    base = load_base(arguments.model)
    tasks = Tasks(arguments.work, arguments.data, quick=arguments.quick)
    study = Study(base, tasks, arguments.work, 1 if arguments.quick else arguments.seeds, arguments.quick)
    ways: Mapping[str, Callable[[], Results]] = {
        name: partial(module.run, study, arguments.ladder) if module is scale else partial(module.run, study)
        for name, module in _MODULES.items()
    }
    for name in arguments.studies or list(ways):
        if name == "scale" and not arguments.ladder:
            print("scale is left out: give the models of a ladder (--ladder FOLDER FOLDER ...)")
            continue
        if name == "typographic" and not tasks.known(typographic.SOURCES):
            continue
        if name == "several" and len(tasks.known(several.WANTED)) < 2:
            continue
        print(f"== {name}", flush=True)
        results = ways[name]()
        page = write_page(arguments.pages, name, _MODULES[name].QUESTION, _facts(study, name), results)
        print(*results.tables, f"-> {page}", sep="\n\n", flush=True)
    return 0


def _facts(study: Study, name: str) -> str:
    command = f"python -m recipes.studies {name} --data FOLDER{' --quick' if study.quick else ''}"
    if not study.quick and study.seeds != _SEEDS:
        command += f" --seeds {study.seeds}"
    model = f"model {study.base.ref} ({study.base.fingerprint[:12]})"
    if name == "scale":
        command, model = f"{command} --ladder MODEL ...", "models of the ladder"
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}"
    sizes = f"test splits of at most {study.tasks.most('test'):,} images, so an accuracy is known to about 2 points"
    return f"`{command}`; seeds: {study.seeds}; {sizes}; {model}; {machine}."


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", choices=[[], *_MODULES], metavar="NAME", help=", ".join(_MODULES))
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="parent of folder tasks: NAME/train, NAME/test")
    parser.add_argument("--model", default="starter", help="base model (default: the bundled starter)")
    parser.add_argument("--ladder", type=Path, nargs="*", default=[], metavar="FOLDER", help="models for `scale`")
    parser.add_argument("--seeds", type=int, default=_SEEDS)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--work", type=Path, default=Path(".studies"), help="where runs are kept")
    parser.add_argument("--pages", type=Path, default=PAGES, help="where pages are written")
    return parser.parse_args()


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
