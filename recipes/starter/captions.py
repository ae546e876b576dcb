"""What is said of a picture: its name in a template, sometimes a tag, its kind or its colour."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPLATES = ("{}", "{}", "{}", "a {}", "a {} icon", "an icon of a {}", "a pictogram of a {}", "a drawing of a {}")
"""The starter's own three (`prompts.STARTER`) and others; the bare name counts three times."""

PHOTO_TEMPLATES = (
    "{}",
    "{}",
    "{}",
    "a {}",
    "a photo of a {}",
    "a photo of a {}",
    "a photograph of a {}",
    "a picture of a {}",
)
"""Of photographs."""

WORD_TEMPLATES = ("{}", "{}", "{}", "the word {}", "a sign that says {}")
"""Of pictures that show nothing but a word."""

KINDS: Mapping[int, str] = {
    0: "a face", 3: "an animal or plant", 4: "food or drink", 5: "a place or vehicle", 6: "an activity", 7: "an object",
    8: "a symbol",
}  # fmt: skip
"""Emojibase's groups in words; people and flags have none."""

FINER_KINDS: Mapping[int, str] = {
    34: "an animal", 35: "a bird", 36: "an animal", 37: "a reptile", 38: "a sea animal", 39: "an insect",
    40: "a flower", 41: "a plant", 42: "a fruit", 43: "a vegetable", 44: "food", 45: "food", 46: "a sweet",
    47: "a drink", 51: "a building", 52: "a building", 54: "a vehicle", 55: "a ship", 56: "an aircraft",
    65: "clothing", 68: "a musical instrument", 78: "a tool",
}  # fmt: skip
"""Its subgroups, by their numbers in `en/data.json`."""

_TAG_SHARE, _KIND_SHARE = 0.12, 0.08
_COLOUR_SHARE = 0.25
_SYNONYM_SHARE, _WIDER_SHARE = 0.1, 0.25


@dataclass(frozen=True)
class Words:
    """What is known of a name beside itself.

    Attributes:
        tags: other words for it.
        kind: what it is, with an article; empty if nothing is known.
        kinds: nouns for what it is, each with a weight.
    """

    tags: tuple[str, ...] = ()
    kind: str = ""
    kinds: tuple[tuple[str, float], ...] = ()


def read_words(emoji: Sequence[Mapping[str, Any]]) -> dict[str, Words]:
    """Return the words of every emoji by its name.

    Args:
        emoji: Emojibase's `en/data.json`.
    """
    found = {}
    for entry in emoji:
        kind = FINER_KINDS.get(entry.get("subgroup", -1)) or KINDS.get(entry.get("group", -1), "")
        name = emoji_name(entry)
        found[name] = Words(tuple(tag for tag in entry.get("tags", ()) if len(tag) > 1 and tag != name), kind)
    return found


def emoji_name(entry: Mapping[str, Any]) -> str:
    """Return what the icon sets call an emoji.

    Args:
        entry: Of Emojibase's `en/data.json`.
    """
    label: str = entry["label"]
    return label.lower().replace(":", "").replace(",", "").replace("-", " ").replace("’", "")


def caption(name: str, words: Words, colour: str, source: np.random.Generator) -> str:
    """Return one caption, drawn anew at every call.

    Args:
        name: Of the pictogram.
        words: What else is known.
        colour: Its main colour, or empty.
        source: Of what is drawn.
    """
    draw = source.random()
    if words.kind and draw < _KIND_SHARE:
        return words.kind
    said = name
    if words.tags and draw < _KIND_SHARE + _TAG_SHARE:
        said = str(source.choice(words.tags))
    elif colour and source.random() < _COLOUR_SHARE:
        said = f"{colour} {name}"
    return str(source.choice(TEMPLATES)).format(said)


def photo_caption(name: str, words: Words, source: np.random.Generator) -> tuple[str, str]:
    """Return one caption of a photograph, and what it says: its name, a synonym or a kind, in a template.

    Args:
        name: Of what it shows.
        words: What else is known.
        source: Of what is drawn.
    """
    draw, said = source.random(), name
    if words.kinds and draw < _WIDER_SHARE:
        weights = np.array([weight for _, weight in words.kinds])
        said = words.kinds[source.choice(len(weights), p=weights / weights.sum())][0]
    elif words.tags and draw < _WIDER_SHARE + _SYNONYM_SHARE:
        said = words.tags[source.integers(len(words.tags))]
    return PHOTO_TEMPLATES[source.integers(len(PHOTO_TEMPLATES))].format(said), said


def word_caption(word: str, source: np.random.Generator) -> str:
    """Return one caption of a picture that shows a word.

    Args:
        word: That is drawn.
        source: Of what is drawn.
    """
    return WORD_TEMPLATES[source.integers(len(WORD_TEMPLATES))].format(word)


def main_colour(picture: NDArray[np.uint8]) -> str:
    """Return the colour that most of a picture has, in a word; empty where none stands out.

    Args:
        picture: uint8 [S, S, 4].
    """
    opaque = picture[picture[..., 3] > 200][:, :3]
    if not len(opaque):
        return ""
    names, counts = np.unique(
        [_colour_name(pixel) for pixel in opaque[:: max(1, len(opaque) // 200)]], return_counts=True
    )
    return str(names[counts.argmax()]) if counts.max() > 0.5 * counts.sum() else ""


def _colour_name(pixel: NDArray[np.uint8]) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(channel) / 255 for channel in pixel))
    if value < 0.2:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.85 else "grey"
    if value < 0.6 and 15 <= 360 * hue < 45:
        return "brown"
    limits = (
        (15, "red"),
        (45, "orange"),
        (70, "yellow"),
        (165, "green"),
        (255, "blue"),
        (290, "purple"),
        (340, "pink"),
    )
    return next((name for limit, name in limits if 360 * hue < limit), "red")
