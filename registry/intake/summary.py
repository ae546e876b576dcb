"""How an upload was read, as the API reports it: a sentence, examples and warnings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from contract.names import MAX_NAME, shorten
from registry.intake.names import CONTAINERS, NOT_CLASSES, SPLITS
from registry.intake.notes import Notes, name_some
from registry.intake.plan import Image, Plan

NUM_EXAMPLES = 10
_WORDNET_ID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"\d+[._-]\S")


def summarise(
    plan: Plan, splits: Mapping[str, Sequence[Image]], names: Mapping[str, str], duplicates: Mapping[str, Any]
) -> dict[str, Any]:
    """Return how an upload was read, in the form of `app.datasets.schemas.Reading`."""
    notes = plan.notes
    named = {image.split for image in plan.images} - {None}
    _warn_of_classes(notes, plan, splits, names)
    _warn_of_duplicates(notes, duplicates)
    return {
        "summary": _tell(plan, len(named)),
        "root": shorten(notes.root, MAX_NAME),
        "wrappers": notes.wrappers,
        "class_level": notes.class_level,
        "split_of": {shorten(name): split for name, split in list(notes.split_folders.items())[:20]},
        "tables": [shorten(name, MAX_NAME) for name in notes.tables],
        "named_splits": sorted(str(split) for split in named),
        "examples": _examples(splits, names),
        "warnings": notes.warnings,
    }


def _tell(plan: Plan, num_splits: int) -> str:
    notes = plan.notes
    parts = [
        _count(num_splits, "split") if num_splits else "no named splits",
        f"{_count(len(plan.classes), 'class', 'classes')} from {notes.labels_from or plan.layout}",
    ]
    if notes.wrappers:
        parts.append(f"{_count(notes.wrappers, 'wrapper')} removed")
    return ", ".join(parts)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _examples(splits: Mapping[str, Sequence[Image]], names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return images of different classes, from each split in turn."""
    by_class: dict[str, list[tuple[str, Image]]] = defaultdict(list)
    for split, images in splits.items():
        for image in images:
            if len(by_class[image.label]) < NUM_EXAMPLES:
                by_class[image.label].append((split, image))
    turns = max(map(len, by_class.values()), default=0)
    found = [members[turn] for turn in range(turns) for members in by_class.values() if turn < len(members)]
    return [
        {"file": shorten(image.name, MAX_NAME), "label": names[image.label], "split": split}
        for split, image in found[:NUM_EXAMPLES]
    ]


def _warn_of_classes(notes: Notes, plan: Plan, splits: Mapping[str, Sequence[Image]], names: Mapping[str, str]) -> None:
    shown = [names[each] for each in plan.classes]
    if len(shown) == 1:
        notes.warn("one_class", f"The data set has only one class, {shown[0]!r}; its accuracy is always 100 %.")
    counts = Counter(image.label for images in splits.values() for image in images)
    single = [names[label] for label in plan.classes if counts[label] == 1]
    if single:
        notes.warn(
            "classes_with_one_image", f"Classes with a single image: {name_some(single)}; they have no test image."
        )
    alike: dict[str, list[str]] = defaultdict(list)
    for name in shown:
        alike[_plain(name)].append(name)
    twins = [name for group in alike.values() if len(group) > 1 for name in group]
    if twins:
        notes.warn(
            "similar_classes",
            f"Classes that differ only by case, spaces or invisible characters: {name_some(twins, 6)}.",
        )
    called_splits = [name for name in shown if name.lower() in SPLITS]
    if called_splits:
        notes.warn("class_named_like_a_split", f"Classes named like splits: {name_some(called_splits)}.")
    padded = [
        name for name in shown if name != name.strip() or _plain(name) != unicodedata.normalize("NFKC", name).casefold()
    ]
    if padded:
        notes.warn(
            "unclean_class_names",
            f"Class names with leading or trailing spaces or invisible characters: {name_some(padded)}.",
        )
    others = {image.label for split, images in splits.items() if split != "train" for image in images}
    untrained = sorted(names[label] for label in others - {image.label for image in splits.get("train", ())})
    if untrained and splits.get("train"):
        notes.warn("classes_not_in_train", f"Classes without images in train: {name_some(untrained)}.")
    odd = [name for name in shown if name.lower() in NOT_CLASSES | CONTAINERS]
    if odd and len(shown) > 1:
        notes.warn("unlikely_classes", f"Classes named like folders of other files: {name_some(odd)}.")
    _warn_of_prompts(notes, shown)


def _warn_of_prompts(notes: Notes, shown: Sequence[str]) -> None:
    """Warn of names that prompts cannot use as words."""
    if len(shown) > 1 and all(_WORDNET_ID.fullmatch(name) for name in shown):
        what = "are WordNet ids"
    elif len(shown) > 1 and all(name.isdigit() for name in shown):
        what = "are numbers"
    elif len(shown) > 1 and all(_NUMBERED.match(name) for name in shown):
        what = "begin with numbers"
    else:
        return
    notes.warn("class_names_are_no_words", f"Class names {name_some(shown)} {what}; set names with `classnames`.")


def _plain(name: str) -> str:
    """Return a name without what readers do not see: case, spaces at the ends and invisible characters."""
    visible = "".join(char for char in unicodedata.normalize("NFKC", name) if unicodedata.category(char) != "Cf")
    return " ".join(visible.split()).casefold()


def _warn_of_duplicates(notes: Notes, duplicates: Mapping[str, Any]) -> None:
    if duplicates["across_splits"]:
        notes.warn("leakage", f"Pictures in more than one split: {duplicates['across_splits']:,}. Scores are too high.")
    if duplicates["with_different_labels"]:
        notes.warn("contradictory_labels", f"{duplicates['with_different_labels']:,} images have several classes.")
