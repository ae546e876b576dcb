"""What WordNet says of a noun: its synonyms, and the kinds that it belongs to.

The database is WordNet 3.0's, whose offsets ImageNet's classes are named by ("n02124075"). Debian's package
`wordnet-base` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.starter.captions import Words

_TOO_WIDE = frozenset((
    "organism", "being", "artifact", "artefact", "whole", "unit", "object", "physical object", "substance", "matter",
    "instrumentality", "instrumentation", "physical entity", "entity", "causal agent", "cause", "vertebrate",
    "structure", "construction", "container", "conveyance", "transport", "device", "craft", "covering", "thing",
    "creation", "abstraction", "part", "portion", "machine", "creature", "nutrient", "sustenance", "nourishment",
    "system",
))  # fmt: skip
"""Kinds that say too little of what a picture shows."""

_LATIN = re.compile(r"[A-Z][a-z]+ [a-z]+$")
_MOST_SYNONYMS, _MOST_KINDS = 3, 4
_LEAST_COUNT = 2


@dataclass(frozen=True)
class _Synset:
    """Lemmas, how often each was counted in WordNet's tagged texts, and the offsets of the synsets above."""

    lemmas: Sequence[str]
    counts: Sequence[int]
    above: Sequence[str]


class WordNet:
    """The nouns of a WordNet 3.0 database."""

    def __init__(self, folder: Path) -> None:
        """Read `data.noun` and `cntlist.rev`.

        Args:
            folder: Where they lie.
        """
        counts = _read_counts(folder / "cntlist.rev")
        self._synsets = dict(_read_synsets(folder / "data.noun", counts))

    def name(self, wnid: str) -> str:
        """Return a synset's first lemma, in lower case.

        Args:
            wnid: Such as "n02124075".
        """
        return self._synsets[wnid[1:]].lemmas[0].lower()

    def words(self, wnid: str) -> Words:
        """Return the synonyms and kinds of a synset.

        A kind is a noun above it that people use: the more often it was counted and the nearer it is, the more it
        weighs.

        Args:
            wnid: Such as "n02124075".
        """
        first, *others = self._synsets[wnid[1:]].lemmas
        synonyms = [lemma.lower() for lemma in others if not _LATIN.fullmatch(lemma)][:_MOST_SYNONYMS]
        weights: dict[str, float] = {}
        for distance, lemma, count in self._above(wnid[1:]):
            if count >= _LEAST_COUNT and lemma.lower() not in (*_TOO_WIDE, first.lower()):
                weights.setdefault(lemma.lower(), float(count) ** 0.25 / distance**2)
        kinds = sorted(weights.items(), key=lambda kind: -kind[1])[:_MOST_KINDS]
        return Words(tags=tuple(synonyms), kinds=tuple(kinds))

    def _above(self, offset: str) -> Iterator[tuple[int, str, int]]:
        """Distance, lemma and count of everything above a synset, the nearest first."""
        level, distance = list(self._synsets[offset].above), 1
        while level:
            for each in level:
                synset = self._synsets[each]
                yield from ((distance, *pair) for pair in zip(synset.lemmas, synset.counts, strict=True))
            level, distance = [up for each in level for up in self._synsets[each].above], distance + 1


def _read_counts(path: Path) -> dict[str, int]:
    """Sense key to its count."""
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {row[0]: int(row[2]) for row in rows}


def _read_synsets(path: Path, counts: Mapping[str, int]) -> Iterator[tuple[str, _Synset]]:
    """Offset and synset of each line (wndb(5WN): the licence's lines begin with two spaces)."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("  "):
            continue
        offset, file_number, _, num_words, *fields = line.partition(" | ")[0].split()
        last = 2 * int(num_words, 16)
        words = list(zip(fields[:last:2], fields[1:last:2], strict=True))
        keys = [f"{word.lower()}%1:{file_number}:{int(number, 16):02d}::" for word, number in words]
        pointers = fields[last + 1 :]
        yield (
            offset,
            _Synset(
                lemmas=[word.replace("_", " ") for word, _ in words],
                counts=[counts.get(key, 0) for key in keys],
                above=[up for kind, up in zip(pointers[::4], pointers[1::4], strict=False) if kind in ("@", "@i")],
            ),
        )
