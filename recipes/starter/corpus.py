"""All training pictograms with their names and words, in memory, and the draw of a batch from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.starter.captions import Words, main_colour, read_words
from recipes.starter.render import rendered
from recipes.starter.sources import Source, load_json, read_sources

_MOST_VARIANTS = 3
"""Pictures of one name from one set: some sets draw everything in a dozen weights."""

_EMOJI_WEIGHT, _SHARED_WEIGHT, _SINGLE_WEIGHT = 8.0, 1.0, 0.25
"""How often a name is drawn: emoji, names of several icon sets, names of one."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training pictograms.

    Attributes:
        pictures: uint8 [N, S, S, 4].
        is_plain: bool [N], one-colour icons, which may be tinted.
        colours: N main colours in a word, or empty.
        names: M names.
        members: for each name the rows of its pictures.
        words: for each name what else is known.
        weights: float64 [M], how likely a name is drawn; they sum to 1.
    """

    pictures: NDArray[np.uint8]
    is_plain: NDArray[np.bool_]
    colours: Sequence[str]
    names: Sequence[str]
    members: Sequence[NDArray[np.int64]]
    words: Sequence[Words]
    weights: NDArray[np.float64]

    def draw(self, count: int, source: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return names and pictures of a batch, int64 [count] each; a name that came twice would be its own negative.

        Args:
            count: At most the number of names.
            source: Of what is drawn.
        """
        names = source.choice(len(self.names), size=count, replace=False, p=self.weights)
        return names, np.array([source.choice(self.members[name]) for name in names])


def load_corpus(folder: Path, sources: Sequence[Source] | None = None) -> Corpus:
    """Return everything that is trained on; fetched and rendered now if it is not in the folder.

    Args:
        folder: Where packages and arrays are kept.
        sources: None means all of `sources.json`; the held-out ones are never taken.
    """
    chosen = read_sources() if sources is None else sources
    rows: list[NDArray[np.uint8]] = []
    plain: list[bool] = []
    members: dict[str, list[int]] = defaultdict(list)
    vendors: dict[str, set[str]] = defaultdict(set)
    emoji: set[str] = set()
    for one in chosen:
        if one.role not in ("emoji", "icons"):
            continue
        names, pictures = rendered(one, folder)
        taken: dict[str, int] = defaultdict(int)
        for name, picture in zip(names, pictures, strict=True):
            if taken[name] < _MOST_VARIANTS:
                taken[name] += 1
                members[name].append(len(rows))
                rows.append(picture)
                plain.append(one.role == "icons" and is_black(picture))
        for name in taken:
            vendors[name].add(one.name)
        emoji |= set(taken) if one.role == "emoji" else set()
    known = _words(chosen, folder)
    names = sorted(members)
    weights = np.array([_weight(name, emoji, vendors) for name in names])
    return Corpus(
        pictures=np.stack(rows),
        is_plain=np.array(plain),
        colours=["" if black else main_colour(row) for row, black in zip(rows, plain, strict=True)],
        names=names,
        members=[np.array(members[name]) for name in names],
        words=[known.get(name, Words()) for name in names],
        weights=weights / weights.sum(),
    )


def is_black(picture: NDArray[np.uint8]) -> bool:
    """Return whether a picture is drawn in black only, uint8 [S, S, 4]."""
    return int(picture[picture[..., 3] > 0][:, :3].max(initial=0)) < 40


def _words(sources: Sequence[Source], folder: Path) -> Mapping[str, Words]:
    found: dict[str, Words] = {}
    for one in sources:
        if one.role == "words":
            found |= read_words(load_json(one, folder))
    return found


def _weight(name: str, emoji: set[str], vendors: Mapping[str, set[str]]) -> float:
    if name in emoji:
        return _EMOJI_WEIGHT
    return _SHARED_WEIGHT if len(vendors[name]) > 1 else _SINGLE_WEIGHT
