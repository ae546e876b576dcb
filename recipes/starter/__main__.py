"""Make a starter: `python -m recipes.starter --profile cpu --minutes 150 --work FOLDER`.

Fetches, renders, trains, exports to `FOLDER/RUN/model`, and judges. Every stage keeps what it made: stopped and started
again with the same arguments, it goes on where it was. The number of steps is measured once, from the minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from paint_core.runtime.allocator import keep_freed_memory
from recipes.starter.batches import Material
from recipes.starter.corpus import load_corpus
from recipes.starter.curves import save_curves
from recipes.starter.evaluate import judge, judge_reading, judge_tasks
from recipes.starter.model import TOWERS, export
from recipes.starter.photographs import load_photographs
from recipes.starter.sources import FetchError
from recipes.starter.teacher import teacher_features_path
from recipes.starter.train import Settings, Step, train

PROFILES: Mapping[str, Settings] = {
    "cpu": Settings(),
    "ladder": Settings(steps=12_000, warmup_steps=500),
    "gpu": Settings(tower="convnext_femto", batch_size=1024, learning_rate=2e-3, warmup_steps=1000, device="cuda"),
}
_TRIAL_STEPS = 16
_CHECKPOINT_SECONDS = 300.0


def main() -> int:
    """Make a starter and return the exit status."""
    arguments = _parse()
    settings = replace(
        PROFILES[arguments.profile],
        seed=arguments.seed,
        start_from=arguments.start_from,
        text_from=arguments.text_from,
    )
    if arguments.tower:
        settings = replace(settings, tower=arguments.tower)
    if settings.tower.startswith("vit"):  # it has a position for each patch
        settings = replace(settings, small_share=0.0)
    length = f"{arguments.steps}steps" if arguments.steps else f"{arguments.minutes:g}min"
    photos = "-photos" if arguments.photos else ""
    run = arguments.work / f"{settings.tower}-{arguments.profile}{photos}-{length}-seed{settings.seed}"
    try:
        material = _load(arguments.work, arguments.photos)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    _tell_material(material)
    settings = _with_steps(material, settings, run, arguments)
    weights = train(material, settings, run, checkpoint_seconds=_CHECKPOINT_SECONDS, on_step=_tell(settings))
    save_curves(run / "log.csv", settings, run / "curves.png")
    export(weights, settings.tower, run / "model")
    lines = [
        str(each) for judged in (judge, judge_tasks, judge_reading) for each in judged(run / "model", arguments.work)
    ]
    (run / "judgement.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def _load(work: Path, folders: Sequence[Path]) -> Material:
    if not folders:
        return Material(load_corpus(work))
    photographs, stored = load_photographs(folders, work), teacher_features_path(folders, work)
    if stored.exists():
        photographs = replace(photographs, teacher_features=np.load(stored, mmap_mode="r"))
    return Material(load_corpus(work), photographs)


def _tell_material(material: Material) -> None:
    corpus, photographs = material.corpus, material.photographs
    print(f"{len(corpus.pictures):,} pictograms of {len(corpus.names):,} names", flush=True)
    if photographs:
        taught = ", with a teacher's features" if photographs.teacher_features is not None else ""
        print(f"{len(photographs.pictures):,} photographs of {len(photographs.names):,} names{taught}", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=tuple(PROFILES), default="cpu")
    parser.add_argument("--minutes", type=float, default=150.0, help="of training; more is better")
    parser.add_argument("--steps", type=int, help="of training, in place of minutes")
    parser.add_argument("--tower", choices=tuple(TOWERS), help="in place of the profile's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start-from", default="", metavar="FOLDER", help="train an exported model further")
    parser.add_argument(
        "--text-from", default="", metavar="FOLDER", help="take and keep the text tower of an exported model"
    )
    parser.add_argument(
        "--photos",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="class folders of photographs to train on",
    )
    parser.add_argument("--work", type=Path, default=Path(".starter"), help="where everything is kept")
    return parser.parse_args()


def _with_steps(material: Material, settings: Settings, run: Path, arguments: argparse.Namespace) -> Settings:
    """The settings with the steps asked for, or as many as fit into the minutes; what was measured is kept."""
    kept = run / "settings.json"
    if not kept.exists():
        steps = arguments.steps or _steps_in(material, settings, arguments.minutes)
        settings = replace(settings, steps=steps, warmup_steps=min(settings.warmup_steps, steps // 10))
        run.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
    return Settings(**json.loads(kept.read_text(encoding="utf-8")))


def _steps_in(material: Material, settings: Settings, minutes: float) -> int:
    small = settings.small_share
    seconds = small * _seconds_a_step(material, replace(settings, small_share=1.0)) if small else 0.0
    seconds += (1 - small) * _seconds_a_step(material, replace(settings, small_share=0.0))
    return max(_TRIAL_STEPS, int(60 * minutes / seconds))


def _seconds_a_step(material: Material, settings: Settings) -> float:
    """The difference of two runs, so that what is done once does not count."""
    with tempfile.TemporaryDirectory() as folder:  # a trial that was cut short must not count as a fast one
        took = []
        for steps in (2, 2, 2 + _TRIAL_STEPS):  # the first one warms up
            started = time.monotonic()
            train(material, replace(settings, steps=steps), Path(folder) / f"{len(took)}")
            took.append(time.monotonic() - started)
        return (took[2] - took[1]) / _TRIAL_STEPS


def _tell(settings: Settings) -> Callable[[Step], None]:
    def tell(done: Step) -> None:
        left = (settings.steps - done.step) * settings.batch_size / done.speed / 60
        print(
            f"step {done.step:,}/{settings.steps:,}: loss {done.loss:.3f}, scale {done.scale:.1f}, "
            f"{done.speed:.0f} pictures/s, {left:.0f} min left",
            flush=True,
        )

    return tell


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
