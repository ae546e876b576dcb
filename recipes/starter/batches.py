"""The batches of a run as a function of (seed, step): photographs, pictograms, and pictures of a word, with captions.

A picture's captions are its own and those that say the same of other pictures (Yang et al., "Unified Contrastive
Learning in Image-Text-Label Space", CVPR 2022). What is true of it in other words counts neither for nor against it: "a
photo of a dog" is no negative of a beagle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recipes.starter.captions import Words, caption, photo_caption, word_caption
from recipes.starter.corpus import Corpus
from recipes.starter.lettering import LONGEST_WORD, alone, draw_words, over
from recipes.starter.model import tokenizer
from recipes.starter.names import is_mirrored
from recipes.starter.photographs import Photographs
from recipes.starter.pictures import show, write_names
from recipes.starter.views import view

_WRITTEN_SHARE = 0.06
"""Of the photographs: those with their name written over them."""

_NO_FEATURES = torch.empty(0, 0)


@dataclass(frozen=True)
class Mix:
    """What a batch is made of.

    Attributes:
        size: Pictures in all.
        photo_share: Of them photographs, where there are any.
        word_share: Of them nothing but a word.
    """

    size: int
    photo_share: float
    word_share: float


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures with captions.

    Attributes:
        pixels: float32 [B, 3, S, S] in -1..1.
        tokens: int64 [B, L].
        is_own: bool [B, B], whether a caption (column) is a picture's (row's) own or says the same.
        is_true: bool [B, B], whether a caption says what a picture shows, in the same words or in others.
        teacher_features: float32 [P, D], a teacher's features of the first P pictures, the photographs; P is 0 without
            a teacher.
    """

    pixels: Tensor
    tokens: Tensor
    is_own: Tensor
    is_true: Tensor
    teacher_features: Tensor

    def to(self, device: str) -> Batch:
        """Return the batch on a device."""
        return Batch(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})


@dataclass(frozen=True, eq=False)
class Part:
    """Some pictures of a batch.

    Attributes:
        pixels: float32 [P, S, S, 3] in 0..255.
        names: What each shows.
        texts: Their captions.
        said: What each caption says, without its template.
        sayings: All that may be said of each picture.
        teacher_features: float32 [P, D], a teacher's features of each; [0, 0] without a teacher.
    """

    pixels: Tensor
    names: Sequence[str]
    texts: Sequence[str]
    said: Sequence[str]
    sayings: Sequence[frozenset[str]]
    teacher_features: Tensor = _NO_FEATURES


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that a run learns from.

    Attributes:
        corpus: Pictograms.
        photographs: Or None.
    """

    corpus: Corpus
    photographs: Photographs | None = None

    @cached_property
    def vocabulary(self) -> Sequence[str]:
        """The words that are drawn: short single-word names, of photographs or of pictograms that are not rare."""
        corpus = self.corpus
        is_common = corpus.weights > corpus.weights.min()
        common = [name for name, is_one in zip(corpus.names, is_common, strict=True) if is_one] or corpus.names
        names = {*common, *(self.photographs.names if self.photographs else ())}
        return sorted(name for name in names if _is_short(name) and name.isalpha())

    @property
    def num_teacher_features(self) -> int:
        """Size of the teacher's feature of a photograph; 0 without a teacher."""
        stored = None if self.photographs is None else self.photographs.teacher_features
        return 0 if stored is None else stored.shape[1]

    @cached_property
    def may_flip(self) -> Tensor:
        """Bool [M], whether a mirror image shows the same thing, for each of the corpus's names."""
        return torch.tensor([not is_mirrored(name) for name in self.corpus.names])

    @cached_property
    def groups(self) -> tuple[Sequence[NDArray[np.int64]], NDArray[np.float64]]:
        """The rows of each class of photographs, and how likely a class is drawn: as the root of its size."""
        assert self.photographs is not None
        members = self.photographs.members()
        weights = np.sqrt([len(rows) for rows in members])
        return members, weights / weights.sum()


def batches(
    material: Material, mix: Mix, seed: int, sides: Callable[[int], int], steps: range
) -> Iterator[tuple[int, Batch]]:
    """Yield step and batch.

    Args:
        material: What to draw from.
        mix: How much of what.
        seed: Of all draws, with the step.
        sides: Pixels a side at a step.
        steps: Which.
    """
    tokens_of = tokenizer()
    # Numbers, not tensors: small tensors that stay, between large ones that go, would let the heap grow for ever.
    encode = lru_cache(maxsize=200_000)(lambda text: tuple(tokens_of([text])[0].tolist()))
    for step in steps:
        source = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(int(source.integers(2**62)))
        parts = _parts(material, mix, sides(step), source, generator)
        tokens = torch.tensor([encode(text) for part in parts for text in part.texts])
        pixels = torch.cat([part.pixels for part in parts]).permute(0, 3, 1, 2).div(127.5).sub(1)
        is_own = _is_own(parts, tokens)
        is_true = is_own | _where([sayings for part in parts for sayings in part.sayings], parts)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        yield step, Batch(pixels, tokens, is_own, is_true, parts[0].teacher_features)  # photographs come first


def _parts(
    material: Material, mix: Mix, side: int, source: np.random.Generator, generator: torch.Generator
) -> list[Part]:
    num_words = round(mix.word_share * mix.size)
    num_photos = round(mix.photo_share * mix.size) if material.photographs else 0
    num_pictograms = mix.size - num_photos - num_words
    parts = []
    if material.photographs and num_photos:
        rows = _draw_photographs(material, num_photos, source)
        parts.append(_photographs(material.photographs, rows, side, source, generator))
    if num_pictograms:
        parts.append(_pictograms(material, num_pictograms, side, source, generator))
    if num_words:
        parts.append(_words(material, num_words, side, source, generator))
    return parts


def _draw_photographs(material: Material, count: int, source: np.random.Generator) -> NDArray[np.int64]:
    """Rows of photographs; a class may come more than once, a photograph too."""
    members, weights = material.groups
    groups = source.choice(len(members), size=count, p=weights)
    return np.array([members[group][source.integers(len(members[group]))] for group in groups])


def _photographs(
    photographs: Photographs,
    rows: NDArray[np.int64],
    side: int,
    source: np.random.Generator,
    generator: torch.Generator,
) -> Part:
    pixels = view(torch.from_numpy(photographs.pictures[rows]), side, generator)
    labels, stored = photographs.classes[rows], photographs.teacher_features
    captions = [photo_caption(photographs.names[label], photographs.words[label], source) for label in labels]
    names = [photographs.names[label] for label in labels]
    written = [at for at, name in enumerate(names) if _is_short(name) and source.random() < _WRITTEN_SHARE]
    if written:
        masks = torch.from_numpy(draw_words([names[at] for at in written], side, source))
        pixels[written] = over(pixels[written], masks, generator)
    return Part(
        pixels,
        names,
        texts=[text for text, _ in captions],
        said=[said for _, said in captions],
        sayings=[_sayings(photographs.names[label], photographs.words[label]) for label in labels],
        teacher_features=_NO_FEATURES if stored is None else torch.from_numpy(stored[rows]).float(),
    )


@lru_cache(maxsize=4096)
def _sayings(name: str, words: Words) -> frozenset[str]:
    return frozenset((name, *words.tags, *(kind for kind, _ in words.kinds)))


def _pictograms(
    material: Material, count: int, side: int, source: np.random.Generator, generator: torch.Generator
) -> Part:
    corpus = material.corpus
    chosen, rows = corpus.draw(count, source)
    names = [corpus.names[each] for each in chosen]
    texts = [
        caption(name, corpus.words[each], corpus.colours[row], source)
        for name, each, row in zip(names, chosen, rows, strict=True)
    ]
    pictures, plain = torch.from_numpy(corpus.pictures[rows]), torch.from_numpy(corpus.is_plain[rows])
    strips = torch.from_numpy(write_names(names, side))
    shown = show(pictures, plain, material.may_flip[chosen], strips, side, generator)
    return Part(shown, names, texts, said=names, sayings=[frozenset((name,)) for name in names])


def _words(material: Material, count: int, side: int, source: np.random.Generator, generator: torch.Generator) -> Part:
    words = [material.vocabulary[each] for each in source.integers(len(material.vocabulary), size=count)]
    pixels = alone(torch.from_numpy(draw_words(words, side, source)), generator)
    texts = [word_caption(word, source) for word in words]
    return Part(pixels, words, texts, said=words, sayings=[frozenset((word,)) for word in words])


def _is_short(name: str) -> bool:
    return len(name) <= LONGEST_WORD and name.isascii()


def _is_own(parts: Sequence[Part], tokens: Tensor) -> Tensor:
    """Whether a caption (column) is a picture's own, the same text, or says the same name, bool [B, B]."""
    pairs = [(name, said) for part in parts for name, said in zip(part.names, part.said, strict=True)]
    same_text = (tokens.unsqueeze(0) == tokens.unsqueeze(1)).all(dim=-1)
    return same_text | _where(pairs, parts)


def _where(sayings: Sequence[Iterable[str]], parts: Sequence[Part]) -> Tensor:
    """Whether what a caption (column) says is among the sayings of a picture (row), bool [B, B]."""
    columns: dict[str, list[int]] = defaultdict(list)
    for column, said in enumerate(said for part in parts for said in part.said):
        columns[said].append(column)
    found = np.zeros((len(sayings), len(sayings)), dtype=np.bool_)
    for row, each in enumerate(sayings):
        for saying in each:
            if saying in columns:
                found[row, columns[saying]] = True
    return torch.from_numpy(found)
