"""Typographic attacks: a note with a wrong name on a photograph, before and after a patch trained on such pictures.

After the paper's case study: the patch is trained on photographs with the name of a wrong class written on them, and
judged on photographs, names and fonts that it never saw. Blank notes tell how much of an attack is what it hides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from paint_core.data import LabelledImages, Task
from recipes.starter.lettering import FONTS, LONGEST_WORD, UNSEEN_FONTS, draw_words, on_notes, over
from recipes.studies.pages import Results, Table, spread
from recipes.studies.runs import Study, mean_accuracy
from recipes.studies.tasks import of_classes

QUESTION = "Typographic attacks: wrong names written on photographs"
SOURCES = ("tiny-imagenet", "caltech101", "clothing")
"""Photographs with class names short enough to be read; the first set that there is data for is taken."""

_Write = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""From pictures [B, S, S, 3] and drawn words [B, S, S] to pictures with the words on them."""


def run(study: Study) -> Results:
    """Patch against drawn names and attack with others."""
    name = study.tasks.known(SOURCES)[0]
    whole = study.task(name)
    readable = [each for each, text in enumerate(whole.test.classnames) if len(text) <= LONGEST_WORD]
    found: dict[str, dict[str, list[float]]] = {"zero-shot": {}, "patched": {}}
    alphas = []
    for seed in range(study.seeds):
        order = [readable[each] for each in torch.randperm(len(readable), generator=_generator(seed)).tolist()]
        seen, unseen = (of_classes(whole, sorted(part), f"{name}, {which}") for part, which in _halves(order))
        trained = _attacked(seen, seed, FONTS, "attacked, to train on")
        others = []
        for task, names in ((seen, "seen names"), (unseen, "new names")):
            others += [
                _renamed(task, f"clean, {names}"),
                _attacked(task, seed + 1, UNSEEN_FONTS, f"blank notes, {names}", partial(on_notes, blank=True)),
                _attacked(task, seed + 1, UNSEEN_FONTS, f"notes, {names}, new fonts"),
                _attacked(task, seed + 1, UNSEEN_FONTS, f"notes, {names}: what is written", written=True),
                _attacked(task, seed + 1, UNSEEN_FONTS, f"written without a note, {names}, new fonts", over),
            ]
        result = study.patch([trained], seed=seed, anchored=True, others=others)
        alphas.append(result.stages[0].search.choice.alpha)
        for state, scores in (("zero-shot", result.zero_shot), ("patched", result.patched)):
            for each in others:
                found[state].setdefault(each.name, []).append(100 * scores[each.name].accuracy)
            found[state].setdefault("supported tasks", []).append(mean_accuracy(scores, study.held([seen])))
        print(f"seed {seed}: " + "; ".join(f"{state} {_last(values)}" for state, values in found.items()), flush=True)
    rows = [[what, *(spread(found[state][what]) for state in found)] for what in found["zero-shot"]]
    caption = f"{name}: accuracy on test splits, in %; alpha {spread(alphas, 2)}; mean over seeds, least and largest."
    return Results([Table(["pictures", *found], rows, caption)])


def _halves(order: Sequence[int]) -> list[tuple[Sequence[int], str]]:
    half = len(order) // 2
    return [(order[:half], "seen names"), (order[half:], "new names")]


def _attacked(
    task: Task, seed: int, fonts: Sequence[str], name: str, write: _Write = on_notes, *, written: bool = False
) -> Task:
    """Return a task with a wrong name of its own written on every picture; with `written`, that name is the label."""
    parts = [
        None if part is None else _written_on(part, seed, fonts, write, written)
        for part in (task.train, task.validation, task.test)
    ]
    train, validation, test = parts
    assert validation is not None
    assert test is not None
    return Task(name, task.head, train, validation, test)


def _written_on(
    images: LabelledImages, seed: int, fonts: Sequence[str], write: _Write, written: bool
) -> LabelledImages:
    source = np.random.default_rng(seed)
    count = len(images.classnames)
    wrong = (images.labels + torch.from_numpy(source.integers(1, count, len(images)))) % count
    words = [images.classnames[each] for each in wrong.tolist()]
    side = images.images.shape[1]
    parts = []
    for start in range(0, len(words), 256):
        part = slice(start, start + 256)
        masks = torch.from_numpy(draw_words(words[part], side, source, fonts))
        parts.append(_shown(write(images.images[part].float(), masks, _generator(seed + start))))
    return LabelledImages(torch.cat(parts), wrong if written else images.labels, images.classnames)


def _shown(pictures: Tensor) -> Tensor:
    return pictures.round().clamp(0, 255).to(torch.uint8)


def _renamed(task: Task, name: str) -> Task:
    return Task(name, task.head, task.train, task.validation, task.test)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _last(values: dict[str, list[float]]) -> str:
    return ", ".join(f"{what} {each[-1]:.1f}" for what, each in values.items())
