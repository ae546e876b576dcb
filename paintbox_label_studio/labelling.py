"""Labelling configurations: which questions about a whole image they ask, and with which choices."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from paintbox_client import InputError

_MAX_CHARACTERS = 1 << 20
_MAX_CHOICES = 30_000
_ADVICE = (
    'Use a configuration such as <View><Image name="image" value="$image"/><Choices name="choice" toName="image">…'
)


@dataclass(frozen=True)
class Question:
    """A `Choices` tag about an image.

    Attributes:
        name: Of the tag, `from_name` of a result.
        image: Name of the image's tag, `to_name` of a result.
        key: Under which a task's data has the image.
        choices: From what the image is compared with to what a result calls it, which differs if a choice has an alias.
    """

    name: str
    image: str
    key: str
    choices: dict[str, str]


def read_questions(config: str) -> list[Question]:
    """Return the questions about whole images of a labelling configuration.

    Raises:
        InputError: It is not XML, or has no `Choices` about an `Image` with at least two fixed choices.
    """
    root = _parse(config)
    images = {
        tag.get("name", ""): tag.get("value", "").strip().removeprefix("$")
        for tag in root.iter("Image")
        if tag.get("value", "").strip().startswith("$")
    }
    found = [
        Question(tag.get("name", ""), image, images[image], _choices(tag))
        for tag in root.iter("Choices")
        if (image := tag.get("toName", "")) in images and tag.get("perRegion", "false").lower() != "true"
    ]
    questions = [each for each in found if len(each.choices) > 1]
    if not questions:
        what = "has no <Choices> about an <Image>" if not found else "has no <Choices> with at least two fixed choices"
        raise InputError(f"The labelling configuration {what}.", _ADVICE)
    return questions


def _parse(config: str) -> ElementTree.Element:
    """Return the root of a configuration. Document types, which may define entities without end, are refused."""
    if len(config) > _MAX_CHARACTERS or "<!" in config.replace("<!--", ""):
        raise InputError("The labelling configuration is too long, or declares a document type.", _ADVICE)
    try:
        return ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise InputError(f"The labelling configuration is not XML: {error}.", _ADVICE) from error


def _choices(tag: ElementTree.Element) -> dict[str, str]:
    named = ((each.get("value", "").strip(), each.get("alias")) for each in tag.iter("Choice"))
    found = {value: alias or value for value, alias in named if value}
    if len(found) > _MAX_CHOICES:
        raise InputError(f"The labelling configuration has {len(found):,} choices.", f"At most {_MAX_CHOICES:,} work.")
    return found
