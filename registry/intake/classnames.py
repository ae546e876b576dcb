"""What the classes of an upload are called in prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from contract.names import shorten
from registry.errors import RequestRefusedError


def name_classes(
    classes: Sequence[str], told: Mapping[str, str], chosen: Mapping[str, str], what: str = "upload"
) -> tuple[str, ...]:
    """Return the display names of classes, in their order.

    Args:
        classes: In label order.
        told: From class to the name that the upload gives it.
        chosen: From class, or from the name that the upload gives it, to the one that the user wants.

    Returns:
        One name per class, all different.

    Raises:
        RequestRefusedError: The user names an unknown class, or two classes would have the same name.
    """
    unknown = sorted(chosen.keys() - set(classes) - set(told.values()))
    if unknown:
        raise RequestRefusedError(
            "unknown_class",
            f"`classnames` contains {shorten(unknown[0])!r}, but the {what} has no such class.",
            f"The classes are {_shown(classes)}.",
        )
    own = [told.get(each, each) for each in classes]
    names = tuple(chosen.get(each, chosen.get(name, name)) for each, name in zip(classes, own, strict=True))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        same = [each for each, name in zip(classes, names, strict=True) if name == twice[0]]
        raise RequestRefusedError(
            "duplicate_classname",
            f"Classes {_shown(same)} have the same name {shorten(twice[0])!r}.",
            "Give every class a different name with `classnames`.",
        )
    return names


def _shown(classes: Sequence[str]) -> str:
    return ", ".join(repr(shorten(each)) for each in classes[:5]) + (" and more" if len(classes) > 5 else "")
